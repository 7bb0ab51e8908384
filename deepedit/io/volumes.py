"""Images and label maps of every format: a file's ending says which of the readers and writers is meant."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from deepedit.boxes import overlap
from deepedit.errors import FileError
from deepedit.files import one_line
from deepedit.io import dicom, dicom_seg, itk, nifti
from deepedit.io.codes import Term
from deepedit.io.dicom_series import is_series
from deepedit.io.grids import NOTED_MISFIT_VOXELS, misfit
from deepedit.io.itk_calls import simpleitk
from deepedit.io.nifti_affine import farthest
from deepedit.io.nifti_header import Geometry
from deepedit.io.suffixes import DICOM, IMAGES_WRITTEN, LABELS_WRITTEN, NIFTI, READ, SEGMENTATION, ending
from deepedit.volume import Reading, Volume


def read_geometry(
    path: str | os.PathLike[str], affine: str = "sform", units: str = "header", series: str | None = None
) -> Geometry:
    """Shape, affine and number of channels of an image, of which only the header is read.

    Args:
        affine, units, series: as for `read_volume`.

    Raises:
        FileError: if the file cannot be read or its header makes no sense.
    """
    reading = Reading(affine, units)
    if _is_for_dicom(path, series):
        return dicom.read_geometry(path, series)
    return itk.read_geometry(path, reading) if _is_for_itk(path) else nifti.read_geometry(path, affine, units)


def read_grid(path: str | os.PathLike[str], affine: str = "sform", units: str = "header") -> Volume:
    """The grid of an image, with its header: a volume whose voxels are not read, and count as 0 without taking memory.

    Args:
        affine, units: as for `read_volume`.

    Raises:
        FileError: if the file cannot be read or its header makes no sense.
    """
    if not _is_for_dicom(path) and not _is_for_itk(path):
        return nifti.read_grid(path, affine, units)
    geometry = read_geometry(path, affine, units)
    nothing = np.broadcast_to(np.float32(0), geometry.shape)
    return Volume(nothing, geometry.affine, None, geometry.other_affines, geometry.notes)


def read_volume(
    path: str | os.PathLike[str], affine: str = "sform", units: str = "header", series: str | None = None
) -> Volume:
    """An image: its scaled values on its own grid.

    Args:
        path: ``.nii`` or ``.nii.gz``; or, with SimpleITK, ``.nrrd``, ``.nhdr``, ``.mha``, ``.mhd``, ``.hdr`` or
            ``.img``, or a folder with the files of a DICOM series. A file with another ending is read as NIfTI.
        affine: of NIfTI, ``"sform"`` or ``"qform"``, the form that is used if the header has both.
        units: of NIfTI, ``"header"``; or ``"mm"`` for a header that names another unit although its lengths are in mm.
        series: the SeriesInstanceUID of the one to read of a folder that holds several DICOM series.

    Returns:
        float32 ``[X, Y, Z]``, or ``[C, X, Y, Z]`` for a file with several channels; trailing axes of length 1 are
        dropped. The volume also has notes on what the file contradicts or leaves open.

    Raises:
        FileError: if the file is missing, damaged, not a 3D or 4D image of real numbers, has no usable affine, has
            voxels that are not finite, needs more memory than there is, or needs SimpleITK where that is missing; or if
            the slices of a DICOM series do not make one grid.
    """
    reading = Reading(affine, units)
    if _is_for_dicom(path, series):
        return dicom.read_volume(path, series)
    return itk.read_volume(path, reading) if _is_for_itk(path) else nifti.read_volume(path, affine, units)


def read_label(path: str | os.PathLike[str], affine: str = "sform", units: str = "header") -> Volume:
    """A label map on its own grid.

    Args:
        path: the name of a file as for `read_volume`; or, with SimpleITK, of a ``.seg.nrrd``; or, with highdicom, of
            a DICOM SEG that ends in ``.dcm``.
        affine, units: as for `read_volume`.

    Returns:
        ``[X, Y, Z]`` of uint8, int16 or int32, the first of these that holds every value.

    Raises:
        FileError: as for `read_volume`, and if a value is negative, fractional, NaN or above 2**31 - 1 (the message
            names the values), if the file has several channels, or if its segments overlap or share a value.
    """
    if ending(Path(path).name, READ) == DICOM:
        return dicom_seg.read_label(path)
    reading = Reading(affine, units)
    return itk.read_label(path, reading) if _is_for_itk(path) else nifti.read_label(path, affine, units)


def read_label_on(image: Volume | Geometry, path: str | os.PathLike[str], reading: Reading) -> Volume:
    """The label map of an image.

    3D Slicer saves of a segmentation the part that holds something, and DICOM SEG leaves out empty frames. A
    ``.seg.nrrd`` or ``.dcm`` whose voxels are voxels of the image is placed on the image's grid, with a note. Any other
    label map stays as it is, on whatever grid.

    Raises:
        FileError: as for `read_label`, and if such a segmentation has labels outside of the image.
    """
    label = read_label(path, reading.affine, reading.units)
    if ending(Path(path).name, READ) not in (SEGMENTATION, DICOM) or misfit(image, label) is None:
        return label
    start = _start_on(image, label)
    return label if start is None else _placed(label, image, start, one_line(path))


def write_label(
    path: str | os.PathLike[str],
    labels: np.ndarray,
    like: Volume,
    names: Mapping[int, str] | None = None,
    terms: Mapping[str, Term] | None = None,
    automatic: bool = True,
) -> None:
    """Write a label map on the grid of `like`, compressed unless as ``.nii``, in the smallest unsigned type.

    A NIfTI file has the qform and sform of `like` with their codes, and its units.

    Args:
        path: a name that ends in ``.nii.gz`` or ``.nii``; or, with SimpleITK, in ``.seg.nrrd``, ``.nrrd`` or ``.mha``;
            or, with highdicom and for an image that was read from a DICOM series, in ``.dcm``.
        labels: ``[X, Y, Z]`` integers or booleans from 0 on.
        like: the image that was segmented.
        names: of values, for the segments of a ``.seg.nrrd`` or a DICOM SEG; other formats hold none.
        terms, automatic: for a DICOM SEG, the coded terms of names, and whether no one had a hand in the labels.

    Raises:
        FileError: if the file cannot be written; an earlier file of that name stays as it was.
        ValueError: if the shape is not that of `like` or the values are not labels.
    """
    check_name(path, LABELS_WRITTEN)
    if ending(Path(path).name, READ) == DICOM:
        dicom_seg.write_label(path, labels, like, names, terms, automatic)
    elif _is_for_itk(path):
        itk.write_label(path, labels, like, names)
    else:
        nifti.write_label(path, labels, like)


def write_volume(path: str | os.PathLike[str], data: np.ndarray, like: Volume, dtype: type = np.float32) -> None:
    """Write numbers, such as probabilities, on the grid of `like`; otherwise as `write_label`.

    Args:
        path: as for `write_label`, but no ``.seg.nrrd`` and no ``.dcm``.
        data: ``[X, Y, Z]``, or ``[C, X, Y, Z]``, whose channels become the fourth axis, or the components of a voxel.
        dtype: type of the values in the file, such as int16 for HU; values are cast to it.

    Raises:
        FileError: if the file cannot be written.
        ValueError: if the spatial shape is not that of `like`.
    """
    check_name(path, IMAGES_WRITTEN)
    (itk if _is_for_itk(path) else nifti).write_volume(path, data, like, dtype)


def check_name(path: str | os.PathLike[str], endings: Sequence[str]) -> None:
    """Raise a FileError if a file to be written has none of some endings, or one that needs an extra without it."""
    if not ending(Path(path).name, endings):
        listed = f"{', '.join(endings[:-1])} or {endings[-1]}"
        raise FileError(f"{one_line(path)}: its name should end in {listed}; these formats are written")
    if _is_for_itk(path):
        simpleitk(one_line(path))
    elif ending(Path(path).name, READ) == DICOM:
        dicom_seg.highdicom(one_line(path))


def _is_for_itk(path: str | os.PathLike[str]) -> bool:
    return ending(Path(path).name, READ) not in ("", DICOM, *NIFTI)


def _is_for_dicom(path: str | os.PathLike[str], series: str | None = None) -> bool:
    """Whether an image is a DICOM series, which is a folder; an error for one file of it."""
    end, name = ending(Path(path).name, READ), one_line(path)
    if os.path.isdir(path) and (not end or is_series(path)):
        return True
    if series is not None:
        raise FileError(f"{name}: `series` chooses among DICOM series in a folder, and this is none; leave it out")
    if end == DICOM and os.path.isfile(path):
        raise FileError(f"{name}: one file of DICOM is no image here; give the folder that its series lies in")
    return False


def _start_on(image: Volume | Geometry, label: Volume) -> tuple[int, ...] | None:
    """The voxel of an image at which the first voxel of a label map lies; None if their voxels do not coincide."""
    for affine in (image.affine, *image.other_affines):
        shifted = np.eye(4)
        shifted[:3, 3] = np.rint(np.linalg.solve(affine, label.affine)[:3, 3])
        if farthest(affine @ shifted, label.affine, label.shape) <= NOTED_MISFIT_VOXELS:
            return tuple(int(each) for each in shifted[:3, 3])
    return None


def _placed(label: Volume, image: Volume | Geometry, start: tuple[int, ...], name: str) -> Volume:
    data = np.zeros(image.shape, label.data.dtype, order="F")
    here, there = overlap(start, label.shape, image.shape)
    kept = label.data[there]
    lost = np.count_nonzero(label.data) - np.count_nonzero(kept)
    if lost:
        raise FileError(
            f"{name}: {lost} of its labelled voxels lie outside of its image; crop it, or is it of another?"
        )
    data[here] = kept
    where = ", ".join(map(str, start))
    note = f"its grid is a part of its image's; it is placed there voxel by voxel, from voxel {where} on"
    return replace(label, data=data, affine=image.affine, notes=(*label.notes, note))
