"""Reading DICOM series: headers are checked here, and SimpleITK decodes the voxels of each slice.

SimpleITK is an extra, and imported only where a series is met. It is given slices that are stored and scaled alike at
once, as it takes the type of a whole series from its first slice.
"""

import os
from collections.abc import Iterator, Sequence
from itertools import groupby
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

CHUNK = 2**24  # voxels that SimpleITK holds at once beside the volume


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
        for start, headers in _alike(found.slices):
            _read_into(data[start : start + len(headers)], sitk, headers)
    files = tuple(header.path for header in found.slices)
    return Volume(data.T, found.geometry.affine, notes=found.geometry.notes, slices=files)


def _alike(slices: Sequence[SliceHeader]) -> Iterator[tuple[int, Sequence[SliceHeader]]]:
    """Neighbouring slices that are stored and scaled alike, and the number of the first; not too many at once."""
    start = 0
    most = max(1, CHUNK // (slices[0].rows * slices[0].columns))
    for _, group in groupby(slices, _storage):
        headers = list(group)
        for first in range(0, len(headers), most):
            yield start + first, headers[first : first + most]
        start += len(headers)


def _storage(header: SliceHeader) -> tuple:
    scaling = (header.slope, header.intercept)
    return header.syntax, header.bits_allocated, header.bits_stored, header.signed, scaling


def _read_into(target: np.ndarray, sitk: Any, headers: Sequence[SliceHeader]) -> None:
    """Read the scaled values of slices that are stored alike into float32 ``[Z, Y, X]``."""
    name = one_line(headers[0].path)
    try:
        with named(name):
            reader = sitk.ImageSeriesReader()
            reader.SetImageIO("GDCMImageIO")
            reader.SetFileNames([str(header.path) for header in headers])
            image = reader.Execute()
            stored = sitk.GetArrayViewFromImage(image)
        if stored.shape != target.shape:
            sides = " x ".join(map(str, stored.shape[:0:-1]))
            promised = f"{headers[0].columns} x {headers[0].rows}"
            raise FileError(f"{name}: {sides} voxels, its header promises {promised}; {AGAIN}")
        # Whole numbers are finite, and need not be searched for others.
        whole = stored.dtype.kind in "iu"
        target[...] = stored if whole else image_values(stored.reshape(-1), name).reshape(target.shape)
    except FileError:
        if len(headers) == 1:
            raise
        # One of them is at fault, and its name is wanted.
        for place, header in zip(target, headers, strict=True):
            _read_into(place[None], sitk, [header])
