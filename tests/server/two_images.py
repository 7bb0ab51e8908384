"""Two images to hold sessions on: one that a window of the network covers, and one that takes several."""

from pathlib import Path

import numpy as np

from deepedit.io.nifti import write_label, write_volume
from deepedit.plan import Labels
from deepedit.volume import Volume

NAMES = ("background", "a", "b", "c")
LABELS = Labels(NAMES[1:], (2, 5, 300))
PATCH = (12, 12, 12)
LARGE = 2**30
"""Bytes that hold all sessions of a test."""
PIR = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1.5, 0, 0], [0, 0, 0, 1]])
GRIDS = {"one window": ((12, 10, 12), np.eye(4)), "several windows": ((9, 30, 11), PIR)}
"""Shape and affine."""


def write_two_images(folder: Path) -> tuple[Path, Path, Path]:
    """Both, and a label map of the first."""
    rng = np.random.default_rng(0)
    files = []
    for name, (shape, affine) in GRIDS.items():
        files.append(folder / f"{name}.nii.gz")
        write_volume(files[-1], rng.uniform(0, 2, shape), Volume(np.zeros(shape), affine))
    shape, affine = GRIDS["one window"]
    values = np.array((0, 2, 5, 300))[rng.integers(0, 4, shape)]
    write_label(folder / "start.nii.gz", values, Volume(np.zeros(shape), affine))
    return (*files, folder / "start.nii.gz")
