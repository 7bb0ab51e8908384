"""Reading and writing NIfTI files.

The header is parsed by nibabel. The voxels are read here and not through nibabel's image classes, so that a file is
checked against its own header before any memory is allocated, and so that everything that can be wrong with a file
becomes one `FileError` of one line.
"""

import gzip
import math
import os
import zlib
from io import BufferedIOBase
from typing import TYPE_CHECKING, BinaryIO, cast

import numpy as np

from deepedit.errors import FileError
from deepedit.files import one_line, open_for_reading, replace_atomically
from deepedit.io.nifti_header import Geometry, Layout, header_size, new_header, parse_header, voxel_layout
from deepedit.io.suffixes import NIFTI, ending
from deepedit.io.values import checked_data, checked_labels, image_values, label_values, refuse_too_large
from deepedit.volume import Reading, Volume

if TYPE_CHECKING:
    from nibabel.nifti1 import Nifti1Header

# A byte of deflate holds at most 1032 bytes: a gzipped file cannot hold more than this, whatever its header says.
MAX_DEFLATE_RATIO = 1032
CHUNK = 2**22
OTHER_FORMATS = {b"NRRD": "it seems to hold NRRD: name it .nrrd", b"Obje": "it seems to hold MetaImage: name it .mha"}
"""What to do with a file that begins with the first bytes of another format."""


def read_geometry(path: str | os.PathLike[str], affine: str = "sform", units: str = "header") -> Geometry:
    """Shape, affine and number of channels of a NIfTI file, of which only the header is read.

    Args:
        affine, units: as for `read_volume`.

    Raises:
        FileError: if the file cannot be read or its header makes no sense.
    """
    reading = Reading(affine, units)
    with open_for_reading(path) as file:
        return _read_header(_decompressed(file, path), path, reading)[1]


def read_grid(path: str | os.PathLike[str], affine: str = "sform", units: str = "header") -> Volume:
    """The grid of an image, with its header: a volume whose voxels are not read, and count as 0 without taking memory.

    Args:
        affine, units: as for `read_volume`.

    Raises:
        FileError: if the file cannot be read or its header makes no sense.
    """
    with open_for_reading(path) as file:
        header, geometry = _read_header(_decompressed(file, path), path, Reading(affine, units))
    nothing = np.broadcast_to(np.float32(0), geometry.shape)
    return Volume(nothing, geometry.affine, header, geometry.other_affines, geometry.notes)


def read_volume(path: str | os.PathLike[str], affine: str = "sform", units: str = "header") -> Volume:
    """An image: its scaled values on its own grid.

    Args:
        path: a ``.nii`` or ``.nii.gz`` file; its content tells which.
        affine: ``"sform"`` or ``"qform"``, the form that is used if the header has both.
        units: ``"header"``; or ``"mm"`` for a header that names another unit although its lengths are in mm.

    Returns:
        float32 ``[X, Y, Z]``, or ``[C, X, Y, Z]`` for a 4D file, whose last axis becomes the channels; trailing axes
        of length 1 are dropped. The volume also has the header, and notes on contradictions in the file.

    Raises:
        FileError: if the file is missing, damaged, not a 3D or 4D image of real numbers, has no usable affine, has
            voxels that are not finite, or needs more memory than there is.
    """
    header, geometry, layout, stored, notes = _read_stored(path, Reading(affine, units))
    values = image_values(stored, one_line(path), layout.slope, layout.intercept)
    return Volume(_shaped(values, geometry), geometry.affine, header, geometry.other_affines, notes)


def read_label(path: str | os.PathLike[str], affine: str = "sform", units: str = "header") -> Volume:
    """A label map on its own grid.

    Args:
        affine, units: as for `read_volume`.

    Returns:
        ``[X, Y, Z]`` of uint8, int16 or int32, the first of these that holds every value.

    Raises:
        FileError: as for `read_volume`, and if a value is negative, fractional, NaN or above 2**31 - 1 (the message
            names the values), or if the file has several channels.
    """
    header, geometry, layout, stored, notes = _read_stored(path, Reading(affine, units))
    if geometry.channels > 1:
        raise FileError(f"{one_line(path)}: a label map is 3D, this one has {geometry.channels} channels")
    data = _shaped(label_values(stored, one_line(path), layout.slope, layout.intercept), geometry)
    return Volume(data, geometry.affine, header, geometry.other_affines, notes)


def write_label(path: str | os.PathLike[str], labels: np.ndarray, like: Volume) -> None:
    """Write a label map on the grid of `like`: same shape, affine, qform and sform with their codes, units.

    The values are stored without scaling, in the smallest unsigned type that holds them. The file is written under a
    temporary name and then renamed.

    Args:
        path: a name that ends in ``.nii`` or ``.nii.gz``.
        labels: ``[X, Y, Z]`` integers or booleans from 0 on.
        like: the image that was segmented.

    Raises:
        FileError: if the file cannot be written; an earlier file of that name stays as it was.
        ValueError: if the shape is not that of `like` or the values are not labels.
    """
    labels = checked_labels(labels, like.shape)
    _write(path, labels, labels.dtype, like, compression=6)


def write_volume(path: str | os.PathLike[str], data: np.ndarray, like: Volume, dtype: type = np.float32) -> None:
    """Write numbers, such as probabilities, on the grid of `like`; otherwise as `write_label`.

    Args:
        data: ``[X, Y, Z]``, or ``[C, X, Y, Z]``, whose channels become the last axis of the file.
        dtype: type of the values in the file, such as int16 for HU; values are cast to it.

    Raises:
        FileError: if the file cannot be written.
        ValueError: if the spatial shape is not that of `like`.
    """
    data = checked_data(data, like.shape)
    # Floats hardly compress; the lowest level is nearly as small and several times faster.
    _write(path, np.moveaxis(data, 0, -1) if data.ndim == 4 else data, np.dtype(dtype), like, compression=1)


def _decompressed(file: BinaryIO, path: str | os.PathLike[str]) -> BufferedIOBase:
    """The stream of NIfTI bytes in an open file. Its content, not its name, decides whether it is gzipped."""
    try:
        magic = file.read(2)
        file.seek(0)
    except OSError as error:
        raise FileError(f"{one_line(path)}: cannot be read: {error.strerror}") from error
    if not magic:
        raise FileError(f"{one_line(path)}: the file is empty; copy or export it again")
    return gzip.GzipFile(fileobj=file) if magic == b"\x1f\x8b" else cast(BufferedIOBase, file)


def _read_into(stream: BufferedIOBase, buffer: memoryview, path: str | os.PathLike[str]) -> int:
    """Fill `buffer` from `stream` and return the number of bytes read, which is smaller at the end of the file."""
    filled = 0
    try:
        while filled < len(buffer):
            count = stream.readinto(buffer[filled : filled + CHUNK])
            if not count:
                break
            filled += count
    except (EOFError, OSError, zlib.error) as error:  # gzip's own error is an OSError
        raise FileError(_damaged(path, error)) from error
    return filled


def _damaged(path: str | os.PathLike[str], error: Exception) -> str:
    what = "cut short in its gzip stream" if isinstance(error, EOFError) else f"damaged ({one_line(error, 80)})"
    return f"{one_line(path)}: {what}; copy or export it again"


def _read_header(
    stream: BufferedIOBase, path: str | os.PathLike[str], reading: Reading
) -> tuple["Nifti1Header", Geometry]:
    """The header and its geometry; afterwards the stream is at the end of the header."""
    name = one_line(path)
    start = bytearray(4)
    _read_into(stream, memoryview(start), path)
    rest = bytearray(max(header_size(bytes(start)) - len(start), 0))
    if not rest:
        mend = OTHER_FORMATS.get(bytes(start), "convert it to .nii.gz")
        raise FileError(f"{name}: this is not a NIfTI file; {mend}")
    if _read_into(stream, memoryview(rest), path) < len(rest):
        raise FileError(f"{name}: cut short in its header; copy or export it again")
    return parse_header(bytes(start + rest), name, reading)


def _read_stored(
    path: str | os.PathLike[str], reading: Reading
) -> tuple["Nifti1Header", Geometry, Layout, np.ndarray, tuple[str, ...]]:
    """Header, geometry, layout, stored voxels (flat, in file order, in native byte order), and notes."""
    name = one_line(path)
    with open_for_reading(path) as file:
        stream = _decompressed(file, path)
        header, geometry = _read_header(stream, path, reading)
        layout = voxel_layout(header, name)
        count = math.prod(geometry.shape) * geometry.channels
        length = count * layout.dtype.itemsize
        size = os.fstat(file.fileno()).st_size
        if layout.offset + length > size * (MAX_DEFLATE_RATIO if isinstance(stream, gzip.GzipFile) else 1):
            raise FileError(f"{name}: cut short: its header promises {length} bytes of voxels; copy or export it again")
        refuse_too_large(count * (layout.dtype.itemsize + 5), geometry.shape, geometry.channels, name)
        try:
            buffer = np.empty(length, np.uint8)
        except MemoryError as error:
            raise FileError(f"{name}: too large for this machine's memory; crop or resample it") from error
        _skip(stream, layout.offset - header.sizeof_hdr, path)
        found = _read_into(stream, buffer.data, path)
        if found < length:
            raise FileError(
                f"{name}: cut short: {found} bytes of voxels, its header promises {length}; copy or export it again"
            )
        notes = (*geometry.notes, *layout.notes, *_after_the_voxels(stream, path))
    stored = buffer.view(layout.dtype)
    return header, geometry, layout, stored.astype(layout.dtype.newbyteorder("="), copy=False), notes


def _after_the_voxels(stream: BufferedIOBase, path: str | os.PathLike[str]) -> list[str]:
    """Read to the end, where gzip compares its checksum. Returns a note on bytes that are not read as voxels."""
    surplus = 0
    try:
        while part := stream.read(CHUNK):
            surplus += len(part)
    except gzip.BadGzipFile as error:
        if "Not a gzipped file" in str(error):
            return ["bytes that follow its gzip stream are passed over"]
        raise FileError(_damaged(path, error)) from error
    except (EOFError, OSError, zlib.error) as error:
        raise FileError(_damaged(path, error)) from error
    return [f"{surplus} bytes that follow its voxels are passed over"] if surplus else []


def _skip(stream: BufferedIOBase, count: int, path: str | os.PathLike[str]) -> None:
    """Skip `count` bytes, or up to the end of the file."""
    waste = memoryview(bytearray(min(count, CHUNK)))
    while count > 0 and (moved := _read_into(stream, waste[:count], path)):
        count -= moved


def _shaped(values: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Flat values in file order, first axis fastest, as ``[X, Y, Z]`` or ``[C, X, Y, Z]``, without a copy."""
    if geometry.channels == 1:
        return values.reshape(geometry.shape, order="F")
    return np.moveaxis(values.reshape((*geometry.shape, geometry.channels), order="F"), -1, 0)


def _write(path: str | os.PathLike[str], data: np.ndarray, dtype: np.dtype, like: Volume, compression: int) -> None:
    """Write ``[X, Y, Z]`` or ``[X, Y, Z, C]`` as one NIfTI file, equal bytes for equal input."""
    end = ending(os.fspath(path), NIFTI)
    if not end:
        raise FileError(f"{one_line(path)}: the name of a NIfTI file ends in .nii or .nii.gz")
    header = new_header(data.shape, dtype, like)
    with replace_atomically(path) as file:
        if end == ".nii.gz":
            # No name and no time inside, so that the same labels give the same bytes.
            with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0, compresslevel=compression) as stream:
                _write_to(stream, header, data)
        else:
            _write_to(file, header, data)


def _write_to(stream: BinaryIO | gzip.GzipFile, header: "Nifti1Header", data: np.ndarray) -> None:
    stream.write(header.binaryblock)
    stream.write(bytes(header.single_vox_offset - header.sizeof_hdr))  # says: no extensions
    for trailing in np.ndindex(data.shape[:1:-1]):  # a slice at a time: no second copy of a large volume
        plane = data[(slice(None), slice(None), *trailing[::-1])]
        stream.write(plane.astype(header.get_data_dtype()).tobytes(order="F"))
