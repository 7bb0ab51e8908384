"""Folders of studies to test with."""

from pathlib import Path

import nibabel as nib
import numpy as np

from deepedit.plan import Labels
from deepedit.server.studies import Studies

SHAPE = (4, 5, 6)
LABELS = Labels(("spleen", "liver"), (3, 7))
"""File values that are no ranks, so that one cannot be taken for the other."""

HOSTILE = ["../a", "..", "/etc/passwd", "labels/final/a", "", " ", "a\0", "a" * 5000, "\ud800", ".deepedit", "A"]
"""Names of which none is that of an image."""


def save(path: Path, data: np.ndarray, affine: np.ndarray | None = None) -> Path:
    """Write a NIfTI file, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, np.eye(4) if affine is None else affine), path)
    return path


def image(path: Path, seed: int = 0, affine: np.ndarray | None = None, shape: tuple[int, ...] = SHAPE) -> Path:
    """Write an image."""
    return save(path, np.random.default_rng(seed).normal(size=shape).astype(np.float32), affine)


def label_map(path: Path, *values: int, affine: np.ndarray | None = None, shape: tuple[int, ...] = SHAPE) -> Path:
    """Write a label map whose first voxels have these values."""
    data = np.zeros(shape, np.uint8)
    data.flat[: len(values)] = values
    return save(path, data, affine)


def voxels(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def studies(folder: Path, *names: str, **options) -> Studies:
    """The studies of a folder in which images of these names are written first."""
    for seed, name in enumerate(names):
        image(folder / name, seed)
    return Studies(folder, LABELS, **options)


def segments(*names: str) -> list[dict]:
    """What Slicer sends of its segments, whose ``idx`` counts others, too."""
    return [{"name": name, "idx": 2 * position + 2} for position, name in enumerate(names)]


def submit(found: Studies, name: str, *values: int, names=("spleen", "liver"), tag="final") -> Path:
    """Submit a label map with these values, and return the file that it became."""
    file = label_map(found.folder.parent / "sent.nii.gz", *values)
    return found.label(found.submit(name, file, ".nii.gz", segments(*names), tag), tag)
