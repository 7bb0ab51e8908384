"""Images and label maps that a viewer sent, before they are taken."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from deepedit.errors import FileError
from deepedit.files import one_line, open_for_reading
from deepedit.io.grids import NOTED_MISFIT_VOXELS, distance_of_grids
from deepedit.io.itk_check import MAX_HEADER_BYTES
from deepedit.io.msd import read_case
from deepedit.io.pairing import Case
from deepedit.io.suffixes import NIFTI, READ, SEGMENTATION, ending
from deepedit.volume import Reading, Volume

VOXEL_FILE = re.compile(rb"data ?file\s*[:=]\s*(\S*)", re.IGNORECASE)
"""Where a header of NRRD or MetaImage names the file of its voxels; MetaImage calls its own ``LOCAL``."""

GZIP = b"\x1f\x8b"


IMAGES_SENT = (*NIFTI, ".nrrd", ".mha")
LABELS_SENT = (*NIFTI, ".nrrd", SEGMENTATION, ".mha")
"""Endings of what may be sent: formats that are one file."""


def refuse_sent(file: Path, suffix: str, endings: Sequence[str]) -> None:
    """Refuse a file from a viewer before it is read.

    Headers of NRRD and MetaImage can say that the voxels are in any other file, and so would show that file to whoever
    sent the header.

    Args:
        file: readers go by its name, which therefore has the suffix.
        suffix: of its format.
        endings: those that are taken.

    Raises:
        FileError: if its format is not taken, or its voxels are not in the file itself.
        ValueError: if its name has another ending.
    """
    end, named = suffix.lower(), ending(file.name, READ)
    if end not in endings:
        listed = ", ".join(endings)
        raise FileError(
            f"{one_line(file)}: is {one_line(suffix, 20) or 'of no format'}, and {listed} are taken; choose .nii.gz in "
            "the viewer's settings"
        )
    if named != end and not {named, end} <= {*NIFTI, ""}:
        raise ValueError(f"{file.name} should end in {suffix}")
    if end in NIFTI:
        return
    with open_for_reading(file) as stream:
        start = stream.read(MAX_HEADER_BYTES)
    # Stricter than any reader, whose rules on where a header ends need not be known here.
    if any(match[1].upper() != b"LOCAL" for match in VOXEL_FILE.finditer(start)):
        raise FileError(f"{one_line(file)}: its voxels are in another file; export it again as one file")


def sent_image(file: Path, suffix: str, reading: Reading, called: str) -> Volume:
    """An image that a viewer sent.

    Args:
        file, suffix: as for `refuse_sent`.
        called: what messages call it, instead of the file that it is kept in meanwhile.

    Raises:
        FileError: if it is no image that a model could be given.
    """
    try:
        refuse_sent(file, suffix, IMAGES_SENT)
        return read_case(Case("", (file,)), reading)
    except FileError as error:
        raise FileError(str(error).replace(one_line(file), called)) from error


def same_image(one: Volume, other: Volume) -> bool:
    """Whether two images have the same voxels in the same places."""
    if one.data.shape != other.data.shape or distance_of_grids(one, other) > NOTED_MISFIT_VOXELS:
        return False
    return np.array_equal(one.data, other.data)


def true_ending(file: Path) -> str:
    """The ending that a file should have: of NIfTI, by its content."""
    if ending(file.name, READ) not in NIFTI:
        return ending(file.name, READ)
    with open_for_reading(file) as stream:
        return ".nii.gz" if stream.read(len(GZIP)) == GZIP else ".nii"
