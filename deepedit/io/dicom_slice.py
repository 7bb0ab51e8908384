"""One slice of a DICOM series: where it lies, and whether its voxels are what the readers here know."""

from dataclasses import dataclass

import numpy as np

from deepedit.errors import FileError
from deepedit.files import one_line
from deepedit.io.dicom_header import AGAIN, NATIVE, SliceHeader

SEGMENTATIONS = "1.2.840.10008.5.1.4.1.1.66"
"""What the class of segmentations, registrations and surfaces begins with."""

MAX_NOT_UNIT = 1e-3
"""Greatest difference of the length of a direction from 1, and of the cosine between two from 0."""


@dataclass(frozen=True, eq=False)
class Slice:
    """A slice in LPS mm.

    Attributes:
        header: what its file says.
        origin: ``[3]``, the middle of its first pixel.
        axes: ``[3, 2]``, the ways to the next column and to the next row.
    """

    header: SliceHeader
    origin: np.ndarray
    axes: np.ndarray

    @property
    def spacing(self) -> np.ndarray:
        """``[2]``, mm from column to column and from row to row."""
        return np.linalg.norm(self.axes, axis=0)

    @property
    def normal(self) -> np.ndarray:
        """``[3]``, of length 1."""
        across = np.cross(self.axes[:, 0], self.axes[:, 1])
        return across / np.linalg.norm(across)

    @property
    def is_localizer(self) -> bool:
        return "LOCALIZER" in (self.header.image_type or "").upper().split("\\")


def holds_slice(header: SliceHeader) -> bool:
    """Whether a file holds voxels of an image: reports, plans and segmentations do not."""
    return header.voxels is not None and not (header.sop_class or "").startswith(SEGMENTATIONS)


def checked_slice(header: SliceHeader) -> Slice:
    """A slice with its place.

    Raises:
        FileError: if its place is not known, or its voxels are colours, several frames, or not what its header says.
    """
    name = one_line(header.path)
    _check_voxels(header, name)
    position, orientation = (_numbers(header.position, 3), _numbers(header.orientation, 6))
    spacing = _numbers(header.pixel_spacing, 2)
    for values, what in (
        (position, "where it lies (ImagePositionPatient)"),
        (orientation, "how it lies (ImageOrientationPatient)"),
        (spacing, "how large its pixels are (PixelSpacing)"),
    ):
        if values is None:
            raise FileError(f"{name}: does not say {what}; {AGAIN}")
    directions = orientation.reshape(2, 3).T
    lengths = np.linalg.norm(directions, axis=0)
    if np.abs(lengths - 1).max() > MAX_NOT_UNIT or abs(directions[:, 0] @ directions[:, 1]) > MAX_NOT_UNIT:
        raise FileError(f"{name}: its rows and columns are not at right angles by ImageOrientationPatient; {AGAIN}")
    if spacing.min() <= 0:
        raise FileError(f"{name}: pixels of {spacing[1]:g} x {spacing[0]:g} mm cannot be right; {AGAIN}")
    # PixelSpacing has first the distance of the rows.
    return Slice(header, position, directions / lengths * spacing[::-1])


def _check_voxels(header: SliceHeader, name: str) -> None:
    frames = _numbers(header.frames, 1)
    if header.has_frame_groups or (header.frames is not None and (frames is None or frames[0] != 1)):
        raise FileError(f"{name}: holds several frames in one file; convert it to .nii.gz, for example with dcm2niix")
    if header.samples != 1 or header.photometric not in ("MONOCHROME1", "MONOCHROME2"):
        kind = one_line(header.photometric or "unknown kind", 40)
        raise FileError(f"{name}: its pixels are colours or alike ({kind}); a series of grey values is needed")
    if header.photometric == "MONOCHROME1":
        raise FileError(f"{name}: its largest values are meant to be dark (MONOCHROME1); export it as MONOCHROME2")
    if header.has_lut:
        raise FileError(f"{name}: its values stand in a table (ModalityLUTSequence); export it with a rescale slope")
    slope, intercept = (_numbers(text, 1) for text in (header.slope or "1", header.intercept or "0"))
    if slope is None or intercept is None or slope[0] == 0:
        raise FileError(f"{name}: its values cannot be scaled by its RescaleSlope and RescaleIntercept; {AGAIN}")
    if not header.rows or not header.columns:
        raise FileError(f"{name}: does not say how many rows and columns it has; {AGAIN}")
    bits, stored = header.bits_allocated, header.bits_stored
    known = bits in (8, 16, 32) and stored and stored <= bits and header.high_bit == stored - 1
    if not known or header.signed not in (0, 1):
        raise FileError(f"{name}: its values take {stored} of {bits} bits, which is not read; {AGAIN}")
    if header.syntax in NATIVE:
        promised = header.rows * header.columns * bits // 8
        if header.voxels != promised + promised % 2:
            raise FileError(f"{name}: has {header.voxels} bytes of voxels, its header promises {promised}; {AGAIN}")


def _numbers(text: str | None, count: int) -> np.ndarray | None:
    """Numbers with backslashes between; None if they are not so many, or not numbers."""
    try:
        values = np.array([float(part) for part in (text or "").split("\\")])
    except ValueError:
        return None
    return values if len(values) == count and np.isfinite(values).all() else None
