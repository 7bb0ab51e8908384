"""NIfTI headers: parsed by nibabel, checked in every field that matters, and created for new files.

nibabel is imported only where it is used, since it imports scipy, and importing this package should stay fast.
"""

import itertools
import math
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from deepedit.boxes import three
from deepedit.errors import FileError
from deepedit.io.nifti_affine import placement
from deepedit.volume import AFFINES, UNITS, Reading, Volume

if TYPE_CHECKING:
    from nibabel.nifti1 import Nifti1Header

NIFTI1_SIZE, NIFTI2_SIZE = 348, 540  # bytes of a header, which it says first


@dataclass(frozen=True, eq=False)
class Geometry:
    """The grid of an image, known without reading its voxels.

    Attributes:
        shape: voxels along X, Y, Z.
        affine: ``[4, 4]`` float64, voxel indices to RAS millimetres.
        channels: number of channels, 1 for a 3D file.
        other_affines, notes: as in a `Volume`.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray
    channels: int
    other_affines: tuple[np.ndarray, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Layout:
    """Where the voxels are in the (decompressed) file, and how their values are stored.

    Attributes:
        offset: bytes before the first voxel.
        dtype: type of the stored values, with their byte order.
        slope, intercept: a value is ``stored * slope + intercept``.
        notes: one line about each thing in the header that is ignored.
    """

    offset: int
    dtype: np.dtype
    slope: float
    intercept: float
    notes: tuple[str, ...] = ()


def header_size(start: bytes) -> int:
    """Size in bytes of a NIfTI header that starts with these four bytes; 0 if they start no NIfTI header."""
    return next(
        (n for n in (NIFTI1_SIZE, NIFTI2_SIZE) if start[:4] in (n.to_bytes(4, "little"), n.to_bytes(4, "big"))), 0
    )


def parse_header(raw: bytes, name: str, reading: Reading, pair: bool = False) -> tuple["Nifti1Header", Geometry]:
    """The header in `raw`, and the geometry that it describes.

    Args:
        raw: the bytes of the header, of the length that `header_size` gave.
        name: the name of the file, for messages.
        reading: which affine and which units to use.
        pair: whether it is the header of a pair of files.

    Raises:
        FileError: if it is no header of a NIfTI in one file, or of a pair, or if its shape or affine is not usable.
    """
    import nibabel as nib

    kind: Any = nib.Nifti1Header if len(raw) == NIFTI1_SIZE else nib.Nifti2Header
    endian = "<" if raw[:4] == len(raw).to_bytes(4, "little") else ">"
    # nibabel's own check would mend some faults silently and log others to the terminal; ours follow.
    header = kind(raw, endianness=endian, check=False)
    if header["magic"].item() != (kind.pair_magic if pair else kind.single_magic):
        raise FileError(f"{name}: not a NIfTI file in one piece; convert it to .nii.gz")
    shape, channels = _shape(header, name)
    place = placement(header, shape, name, reading)
    return header, Geometry(shape, place.affine, channels, place.others, place.notes)


def voxel_layout(header: "Nifti1Header", name: str) -> Layout:
    """Offset, type and scaling of the voxels.

    Raises:
        FileError: if the voxels are not real numbers of at most 8 bytes, or the fields make no sense.
    """
    dtype = _voxel_type(header, name)
    offset = float(header["vox_offset"]) or header.single_vox_offset
    if not header.sizeof_hdr <= offset <= 2**40:
        raise FileError(f"{name}: its header puts the voxels at byte {offset:g}; it is damaged")
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or not math.isfinite(slope):  # the standard's way to say: not scaled
        slope, intercept = 1.0, 0.0
    notes: tuple[str, ...] = ()
    if math.isnan(intercept) and slope == 1:  # some writers mean by it that nothing is added
        intercept, notes = 0.0, ("its header adds NaN to values that it does not scale; nothing is added",)
    if not math.isfinite(intercept):
        raise FileError(f"{name}: its header scales values by {slope:g} and adds {intercept}; it is damaged")
    return Layout(int(offset), dtype, slope, intercept, notes)


def check_pair(raw: bytes, name: str) -> int:
    """The bytes that the ``.img`` of a NIfTI or Analyze header has at least.

    Raises:
        FileError: if the voxels are not real numbers of at most 8 bytes, or if the shape makes no sense.
    """
    import nibabel as nib

    endian = "<" if raw[:4] == len(raw).to_bytes(4, "little") else ">"
    header = nib.Nifti1Header(raw, endianness=endian, check=False)
    shape, channels = _shape(header, name)
    offset = float(header["vox_offset"])
    if not 0 <= offset <= 2**40:
        raise FileError(f"{name}: its header puts the voxels at byte {offset:g}; it is damaged")
    return int(offset) + math.prod(shape) * channels * _voxel_type(header, name).itemsize


def new_header(shape: tuple[int, ...], dtype: np.dtype, like: Volume) -> "Nifti1Header":
    """A header for values of `dtype` on the grid of `like`: with its qform, sform, codes and units, without scaling.

    If the header of `like` agrees with the affine of `like`, it is followed. If it does not, or if there is none, the
    affine is written to sform and qform, in millimetres. Extensions are not copied, since they may name the patient.

    Args:
        shape: ``(X, Y, Z)`` or ``(X, Y, Z, C)``.
    """
    import nibabel as nib

    source = like.header if isinstance(like.header, nib.Nifti1Header) else None
    fits_nifti1 = max(shape) <= np.iinfo(np.int16).max
    kind: Any = nib.Nifti2Header if isinstance(source, nib.Nifti2Header) or not fits_nifti1 else nib.Nifti1Header
    header = kind(endianness="<")
    header.set_data_dtype(dtype.newbyteorder("<"))
    header.set_data_shape(shape)
    if source is not None and _says(source, like):
        for key in ("qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "srow_x", "srow_y", "srow_z"):
            header[key] = source[key]
        for key in ("qoffset_x", "qoffset_y", "qoffset_z", "xyzt_units"):
            header[key] = source[key]
        header["pixdim"][:4] = source["pixdim"][:4]
    else:
        header.set_sform(like.affine, code="scanner")
        header.set_qform(like.affine, code="scanner")
        if not np.allclose(header.get_qform(), like.affine, atol=1e-4):  # sheared: no quaternion says it
            header["qform_code"] = 0
        header.set_xyzt_units("mm")
    header["vox_offset"] = kind.single_vox_offset
    header["scl_slope"], header["scl_inter"] = 1, 0
    return header


def _voxel_type(header: "Nifti1Header", name: str) -> np.dtype:
    from nibabel.spatialimages import HeaderDataError

    try:
        dtype = header.get_data_dtype()
    except (HeaderDataError, KeyError) as error:
        raise FileError(f"{name}: voxels of an unknown type (code {int(header['datatype'])})") from error
    if dtype.kind not in "iuf" or not 0 < dtype.itemsize <= 8:
        kind = "colour" if dtype.names else dtype.name
        raise FileError(f"{name}: voxels of type {kind}; convert them to real numbers (integers, float32 or float64)")
    return dtype


def _says(header: "Nifti1Header", volume: Volume) -> bool:
    """Whether a header, read in a certain way, places the voxels as the volume's affine does."""
    for affine, units in itertools.product(AFFINES, UNITS):
        with suppress(FileError):
            stated = placement(header.copy(), volume.shape, "the header", Reading(affine, units)).affine
            if np.allclose(stated, volume.affine, rtol=1e-5, atol=1e-5):
                return True
    return False


def _shape(header: "Nifti1Header", name: str) -> tuple[tuple[int, int, int], int]:
    """Spatial shape and number of channels."""
    dims = [int(n) for n in header["dim"]]
    if not 1 <= dims[0] <= 7 or min(dims[1 : dims[0] + 1]) < 1:
        raise FileError(f"{name}: its header gives a shape of {dims[1 : max(dims[0], 0) + 1]}; it is damaged")
    shape = dims[1 : dims[0] + 1]
    if len(shape) < 3:
        raise FileError(f"{name}: this is a {len(shape)}D image; 3D, or 4D with channels last, is needed")
    while len(shape) > 3 and shape[-1] == 1:
        shape.pop()
    if len(shape) == 5 and shape[3] == 1:  # as ITK writes channels: the fourth axis is time
        del shape[3]
    if len(shape) > 4:
        sides = " x ".join(map(str, shape))
        raise FileError(f"{name}: this is a {len(shape)}D image ({sides}); 3D, or 4D with channels last, is needed")
    return three(shape[:3]), math.prod(shape[3:])
