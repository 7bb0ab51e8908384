"""Reading DICOM series: headers are checked here, and SimpleITK decodes the voxels of each slice.

SimpleITK is an extra, and imported only where a series is met. Of a series it would trust the names of the files, the
first slice and the distance of the first two; here each slice is read on its own, with its own scaling.
"""

import os
from typing import Any

import numpy as np

from deepedit.errors import FileError
from deepedit.files import one_line
from deepedit.io.dicom_header import AGAIN, SliceHeader
from deepedit.io.dicom_series import find_series
from deepedit.io.itk_calls import named, quiet, simpleitk
from deepedit.io.nifti_header import Geometry
from deepedit.io.values import image_values, refuse_too_large
from deepedit.volume import Volume


def read_geometry(folder: str | os.PathLike, series: str | None = None) -> Geometry:
    """Shape and affine of a series, of which only headers are read.

    Args:
        series: SeriesInstanceUID of the one to take, where a folder holds several.

    Raises:
        FileError: if SimpleITK is not installed, if there is no series or are several, or if slices do not fit.
    """
    simpleitk(one_line(folder))
    return find_series(folder, series).geometry


def read_volume(folder: str | os.PathLike, series: str | None = None) -> Volume:
    """A series as a volume: float32 ``[X, Y, Z]``, columns, rows and slices, each slice scaled as it says.

    Args:
        series: as for `read_geometry`.

    Raises:
        FileError: as for `read_geometry`, and if voxels are damaged, or need more memory than there is.
    """
    name = one_line(folder)
    sitk = simpleitk(name)
    found = find_series(folder, series)
    shape = found.geometry.shape
    refuse_too_large(int(np.prod(shape, dtype=object)) * 5, shape, 1, name)
    data = np.empty(shape[::-1], np.float32)
    with quiet(sitk):
        for target, header in zip(data, found.slices, strict=True):
            target[...] = _voxels(sitk, header)
    files = tuple(header.path for header in found.slices)
    return Volume(data.T, found.geometry.affine, notes=found.geometry.notes, slices=files)


def _voxels(sitk: Any, header: SliceHeader) -> np.ndarray:
    """The scaled values of a slice: float32 ``[Y, X]``."""
    name = one_line(header.path)
    with named(name):
        reader = sitk.ImageFileReader()
        reader.SetImageIO("GDCMImageIO")
        reader.SetFileName(str(header.path))
        image = reader.Execute()
        stored = sitk.GetArrayViewFromImage(image)
    if stored.shape != (1, header.rows, header.columns):
        sides = " x ".join(map(str, stored.shape[::-1]))
        raise FileError(f"{name}: {sides} voxels, its header promises {header.columns} x {header.rows}; {AGAIN}")
    # Values of the view are gone with the image.
    return image_values(stored.reshape(-1), name).reshape(stored.shape[1:])
