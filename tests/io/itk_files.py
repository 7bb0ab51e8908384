"""Files of other formats than NIfTI, written by SimpleITK, and what their readers are held against."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from deepedit.errors import FileError

sitk = pytest.importorskip("SimpleITK", reason="SimpleITK is not installed, which reads and writes these formats")

LPS = np.diag([-1.0, -1, 1, 1])
OBLIQUE = nib.affines.from_matvec(
    np.array([[0.6, -0.8, 0], [0.8, 0.6, 0], [0, 0, 1]]) @ np.diag([0.7, 1.1, 2.5]), [5, -40, 12]
)
PLACES = {
    "RAS": nib.affines.from_matvec(np.diag([1.5, 2, 3]), [4, 5, 6]),
    "LPS": nib.affines.from_matvec(np.diag([-1.5, -2, 3]), [4, 5, 6]),
    "PIR": nib.affines.from_matvec([[0, 0, 3], [-1.5, 0, 0], [0, -2, 0]], [4, 5, 6]),
    "oblique": OBLIQUE,
}


def image_of(data, affine):
    """An image of SimpleITK from ``[X, Y, Z]``, or ``[C, X, Y, Z]``, and an affine from voxels to RAS mm."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(data.T), isVector=data.ndim == 4)
    affine = LPS @ affine
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    return image


def affine_of(image):
    """``[4, 4]``, voxels to RAS mm, of an image of SimpleITK."""
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return LPS @ affine


def save_itk(path, data, affine=PLACES["RAS"], compressed=True, **fields) -> Path:
    """Save an array as SimpleITK does, with these fields in the header."""
    image = image_of(data, affine)
    for key, value in fields.items():
        image.SetMetaData(key, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path), compressed)
    return path


def refused(read, path, *words):
    """One line that names the file and has these words."""
    with pytest.raises(FileError) as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert ";" in message
    for word in words:
        assert word in message
