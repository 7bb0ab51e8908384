"""Reading and writing what is not NIfTI: NRRD, segmentations of 3D Slicer, MetaImage and Analyze pairs, by SimpleITK.

SimpleITK is an extra, and imported only where such a file is met.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from deepedit.errors import FileError
from deepedit.files import one_line, open_for_reading, replace_by_file
from deepedit.io.itk_calls import named, quiet, simpleitk, written
from deepedit.io.itk_check import AGAIN, FORMAT, Header, check_header, check_voxels
from deepedit.io.nifti_affine import check_affine
from deepedit.io.nifti_header import Geometry, parse_header
from deepedit.io.segments import Segment, merged, named_values, parse_segments, segment_fields
from deepedit.io.suffixes import READ, SEGMENTATION, ending
from deepedit.io.values import checked_data, checked_labels, image_values, label_values, refuse_too_large
from deepedit.volume import DEFAULT_READING, Reading, Volume

IO = {"NRRD": "NrrdImageIO", "MetaImage": "MetaImageIO"}
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # from RAS, and to it
COLOURS = ("RGB-color", "HSV-color", "XYZ-color", "RGBA-color")


def read_geometry(path: str | os.PathLike[str], reading: Reading = DEFAULT_READING) -> Geometry:
    """Shape, affine and number of channels of a file, of which only the header is read.

    Args:
        reading: for the header of a NIfTI pair; files of other formats state one affine, in mm.

    Raises:
        FileError: if SimpleITK is not installed, or if the file cannot be read or its header makes no sense.
    """
    with _opened(path, reading) as (_, geometry, _):
        return geometry


def read_volume(path: str | os.PathLike[str], reading: Reading = DEFAULT_READING) -> Volume:
    """An image on its own grid: float32 ``[X, Y, Z]``, or ``[C, X, Y, Z]`` for several channels.

    Channels are the components of a voxel, or the fourth axis.

    Args:
        reading: as for `read_geometry`.

    Raises:
        FileError: as for `read_geometry`, and if voxels are damaged, missing, not finite, complex or colours, or if
            they need more memory than there is.
    """
    name = one_line(path)
    with _opened(path, reading) as (reader, geometry, header):
        stored = _voxels(reader, geometry, header, name)
    data = _shaped(image_values(stored.reshape(-1), name).reshape(stored.shape), geometry)
    return Volume(data, geometry.affine, None, geometry.other_affines, geometry.notes)


def read_label(path: str | os.PathLike[str], reading: Reading = DEFAULT_READING) -> Volume:
    """A label map on its own grid: ``[X, Y, Z]`` of uint8, int16 or int32, the first of these that holds every value.

    The layers of a ``.seg.nrrd`` become one map, and the names of its segments the names of their values.

    Args:
        reading: as for `read_geometry`.

    Raises:
        FileError: as for `read_volume`, and if a value is negative, fractional or above 2**31 - 1, if the file has
            several channels, or if segments overlap or share a value.
    """
    name = one_line(path)
    with _opened(path, reading) as (reader, geometry, header):
        segments = _segments(reader, path, name)
        if geometry.channels > 1 and not segments:
            raise FileError(f"{name}: a label map is 3D, this one has {geometry.channels} channels")
        names = named_values(segments, name)
        stored = _voxels(reader, geometry, header, name)
    data = _shaped(label_values(stored.reshape(-1), name).reshape(stored.shape), geometry)
    if data.ndim == 4:
        data = merged(data, name)
    return Volume(data, geometry.affine, None, geometry.other_affines, geometry.notes, names)


def write_label(
    path: str | os.PathLike[str], labels: np.ndarray, like: Volume, names: Mapping[int, str] | None = None
) -> None:
    """Write a label map on the grid of `like`, compressed, in the smallest unsigned type that holds its values.

    Args:
        path: a name that ends in ``.seg.nrrd``, ``.nrrd`` or ``.mha``. A ``.seg.nrrd`` has the labels as segments.
        labels: ``[X, Y, Z]`` integers or booleans from 0 on.
        like: the image that was segmented.
        names: of values, for the segments, also of those that no voxel has; in the order of their classes.

    Raises:
        FileError: if SimpleITK is not installed or the file cannot be written; an earlier file of that name stays.
        ValueError: if the shape is not that of `like` or the values are not labels.
    """
    labels = checked_labels(labels, like.shape)
    fields = segment_fields(labels, names) if ending(Path(path).name, READ) == SEGMENTATION else {}
    _write(path, labels.T, like.affine, False, fields)


def write_volume(path: str | os.PathLike[str], data: np.ndarray, like: Volume, dtype: type = np.float32) -> None:
    """Write numbers, such as probabilities, on the grid of `like`; otherwise as `write_label`.

    Args:
        path: a name that ends in ``.nrrd`` or ``.mha``.
        data: ``[X, Y, Z]``, or ``[C, X, Y, Z]``, whose channels become the components of a voxel.
        dtype: type of the values in the file; values are cast to it.

    Raises:
        FileError: as for `write_label`.
        ValueError: if the spatial shape is not that of `like`.
    """
    data = checked_data(data, like.shape).astype(dtype, copy=False)
    _write(path, data.transpose(*range(data.ndim)[::-1]), like.affine, data.ndim == 4, {})


@contextmanager
def _opened(path: str | os.PathLike[str], reading: Reading) -> Iterator[tuple[Any, Geometry, Header]]:
    """A reader of SimpleITK that has read the header, the geometry, and what the checks found; errors get the name."""
    path, name = Path(path), one_line(path)
    open_for_reading(path).close()
    if path.suffix.lower() == ".img":
        path = path.with_suffix(".HDR" if path.suffix.isupper() else ".hdr")
        if not path.is_file():
            raise FileError(f"{name}: its header {one_line(path.name)} is not beside it; put it there")
    sitk = simpleitk(name)
    header = check_header(path)
    reader = sitk.ImageFileReader()
    reader.SetImageIO(IO.get(FORMAT.get(ending(path.name, READ), ""), "NiftiImageIO"))
    is_nifti = header.start[344:347] == b"ni1"
    geometry = parse_header(header.start, name, reading, pair=True)[1] if is_nifti else None
    with quiet(sitk), named(name):
        reader.SetFileName(str(path))
        reader.ReadImageInformation()
        _refuse_kind(reader, name)
        yield reader, geometry or _geometry(reader, header, name), header


def _geometry(reader: Any, header: Header, name: str) -> Geometry:
    size, components = reader.GetSize(), reader.GetNumberOfComponents()
    while len(size) > 3 and size[-1] == 1:
        size = size[:-1]
    if len(size) < 3 or len(size) > 4 or (len(size) == 4 and components > 1):
        sides = " x ".join(map(str, (*size, *[components] * (components > 1))))
        raise FileError(
            f"{name}: this is a {len(size) + (components > 1)}D image ({sides}); 3D, or 4D for channels, is needed"
        )
    across = np.reshape(reader.GetDirection(), [reader.GetDimension()] * 2)
    if across[3:, :3].any() or across[:3, 3:].any():
        raise FileError(f"{name}: its fourth axis is not apart from the others in space; set its directions anew")
    affine = np.eye(4)
    affine[:3, :3] = across[:3, :3] * reader.GetSpacing()[:3]
    affine[:3, 3] = reader.GetOrigin()[:3]
    affine = LPS @ affine
    check_affine(affine, name)
    channels = size[3] if len(size) == 4 else components
    return Geometry(tuple(size[:3]), affine, channels, notes=_notes(header))


def _refuse_kind(reader: Any, name: str) -> None:
    """Refuse colours and complex numbers."""
    import SimpleITK as sitk

    kind = reader.GetMetaData("NRRD_kinds[pixel]") if reader.HasMetaDataKey("NRRD_kinds[pixel]") else ""
    stored = sitk.GetPixelIDValueAsString(reader.GetPixelID())
    if kind in COLOURS or "complex" in stored or "label" in stored:
        what = "colour" if kind in COLOURS else stored
        raise FileError(f"{name}: voxels of type {what}; convert them to real numbers (integers, float32 or float64)")


def _notes(header: Header) -> tuple[str, ...]:
    """What a header leaves open, and how it is taken."""
    taken = "its axes are taken as left, posterior, superior, as ITK takes them"
    if not header.fields:
        return (f"an Analyze file does not say which side is right; {taken}",)
    if "encoding" not in header.fields:
        return ()
    if "space" not in header.fields:
        return (f"its header names no space; {taken}",)
    units = {unit.strip('"') for unit in header.fields.get("spaceunits", "").split()} - {"mm", "millimeter", ""}
    return (f"its header gives lengths in {one_line(min(units), 20)}; they are taken as mm",) if units else ()


def _voxels(reader: Any, geometry: Geometry, header: Header, name: str) -> np.ndarray:
    """The stored voxels, as SimpleITK has them: ``[Z, Y, X]``, ``[T, Z, Y, X]`` or ``[Z, Y, X, C]``."""
    import SimpleITK as sitk

    count = int(np.prod(geometry.shape, dtype=object)) * geometry.channels
    size = sitk.Image([1] * 3, reader.GetPixelID(), 0).GetSizeOfPixelComponent()
    refuse_too_large(count * (size + 5), geometry.shape, geometry.channels, name)
    check_voxels(header, name)
    array = sitk.GetArrayFromImage(reader.Execute())
    if array.size != count:
        raise FileError(f"{name}: {array.size} voxels, its header promises {count}; {AGAIN}")
    components = reader.GetNumberOfComponents()
    lengths = geometry.shape[::-1]
    return array.reshape((*lengths, components) if components > 1 else (-1, *lengths))


def _shaped(array: np.ndarray, geometry: Geometry) -> np.ndarray:
    """``[X, Y, Z]`` or ``[C, X, Y, Z]``, without a copy."""
    if array.shape[1:] == geometry.shape[::-1]:
        return array[0].T if geometry.channels == 1 else array.transpose(0, 3, 2, 1)
    return array.T


def _segments(reader: Any, path: str | os.PathLike[str], name: str) -> tuple[Segment, ...]:
    if ending(Path(path).name, READ) != SEGMENTATION:
        return ()
    return parse_segments({key: reader.GetMetaData(key) for key in reader.GetMetaDataKeys() if key.isprintable()}, name)


def _write(
    path: str | os.PathLike[str], array: np.ndarray, affine: np.ndarray, vector: bool, fields: Mapping[str, Any]
) -> None:
    """Write ``[Z, Y, X]``, or ``[Z, Y, X, C]`` where `vector`."""
    name, end = one_line(path), ending(Path(path).name, READ)
    sitk = simpleitk(name)
    check_affine(affine, name)
    affine = LPS @ affine
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    with replace_by_file(path, end) as temporary, quiet(sitk), written(name):
        image = sitk.GetImageFromArray(np.ascontiguousarray(array), isVector=vector)
        image.SetSpacing(spacing.tolist())
        image.SetOrigin(affine[:3, 3].tolist())
        image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
        for key, value in fields.items():
            image.SetMetaData(key, value)
        writer = sitk.ImageFileWriter()
        writer.SetImageIO(IO[FORMAT[end]])
        writer.SetFileName(str(temporary))
        writer.SetUseCompression(True)
        writer.Execute(image)
        # ITK does not always see that a disk is full.
        check_voxels(check_header(temporary), name)
