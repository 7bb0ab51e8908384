"""Images and datasets with one thing wrong each, for the tests of the command lines."""

import gzip
import json
import struct
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np

AFFINE = np.diag([3.0, 3.0, 3.0, 1.0])
SFORM_CODE, SFORM, DIM = 254, 280, 42  # bytes of a NIfTI-1 header


def nifti(data: np.ndarray, affine: np.ndarray = AFFINE, sform: np.ndarray | None = None, sides: tuple = ()) -> bytes:
    """A ``.nii.gz``, some fields of whose header say something else than its voxels."""
    content = bytearray(nib.Nifti1Image(np.asarray(data), affine).to_bytes())
    if sform is not None:
        struct.pack_into("<h", content, SFORM_CODE, 1)
        struct.pack_into("<12f", content, SFORM, *np.asarray(sform, np.float32).flat)
    struct.pack_into(f"<{len(sides)}h", content, DIM, *sides)
    return gzip.compress(bytes(content), mtime=0)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def with_first(data: np.ndarray, *values: float) -> np.ndarray:
    """The data as float32 with other values in the first voxels."""
    data = np.array(data, np.float32)
    data.flat[: len(values)] = values
    return data


IMAGES = {
    "not a NIfTI file": (lambda _: b"a letter to the doctor", "not a NIfTI file; convert it"),
    "truncated": (
        lambda grid: nifti(noise(16, 16, 16), grid)[:9000],
        "cut short in its gzip stream; copy or export it again",
    ),
    "zero bytes": (lambda _: b"", "the file is empty; copy or export it again"),
    "promises more than there is": (
        lambda grid: nifti(noise(16, 16, 16), grid, sides=(64, 64, 64)),
        "cut short: 16384 bytes of voxels, its header promises 1048576; copy or export it again",
    ),
    "NaN and infinite": (
        lambda grid: nifti(with_first(noise(16, 16, 16), np.nan, np.inf), grid),
        "2 of 4096 voxels are NaN, infinite or beyond float32; replace them",
    ),
    "constant": (
        lambda grid: nifti(np.full((16, 16, 16), 7, np.float32), grid),
        "every voxel has the value 7; export the image again",
    ),
    "2D": (lambda _: nifti(noise(16, 16)), "this is a 2D image; 3D, or 4D with channels last, is needed"),
    "5D": (lambda _: nifti(noise(4, 4, 4, 2, 3)), "this is a 5D image (4 x 4 x 4 x 2 x 3); 3D"),
    "zero affine": (lambda _: nifti(noise(8, 8, 8), sform=np.zeros((3, 4))), "affine is singular"),
    "singular affine": (lambda _: nifti(noise(8, 8, 8), sform=np.eye(4)[[0, 0, 2]]), "have no volume; set it anew"),
    "spacing of 1e-6": (lambda _: nifti(noise(8, 8, 8), sform=1e-6 * np.eye(4)[:3]), "voxels of 1e-06 x 1e-06 x 1e-06"),
    "spacing of 1e6": (
        lambda _: nifti(noise(8, 8, 8), sform=1e6 * np.eye(4)[:3]),
        "(0.001 to 100 mm expected); set the",
    ),
}
"""What is wrong: the bytes of a file on a grid (an affine), and what the message says after the file's name."""


def change(path: Path, edit: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]) -> None:
    """Write a NIfTI file again, with other values on another grid."""
    image = nib.load(path)
    nib.save(nib.Nifti1Image(*edit(np.asanyarray(image.dataobj).copy(), image.affine.copy())), path)


def moved(data: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    affine[0, 3] += 5
    return data, affine


def huge_header(side: int) -> bytes:
    """The header of an int16 image of so many voxels along each side, and none of its voxels."""
    header = nib.Nifti1Header()
    header.set_data_dtype(np.int16)
    header.set_data_shape((side,) * 3)
    header.set_sform(np.eye(4), code=1)
    header["magic"], header["vox_offset"] = header.single_magic, 352
    return header.binaryblock


def describe(folder: Path, **entries: object) -> None:
    """Change entries of a dataset.json."""
    path = folder / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


def keep_only(folder: Path, case: str) -> None:
    """Remove all other cases, and the list of them."""
    (folder / "dataset.json").unlink()
    for path in folder.glob("*Tr/*.nii.gz"):
        if not path.name.startswith(case):
            path.unlink()
