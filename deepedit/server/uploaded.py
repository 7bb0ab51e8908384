"""Images and label maps that a viewer sent, before they are taken."""

from pathlib import Path

import numpy as np

from deepedit.errors import FileError
from deepedit.files import one_line, open_for_reading
from deepedit.io.dataset_checks import NOTED_MISFIT_VOXELS, distance_of_grids
from deepedit.io.dataset_json import NIFTI_ENDINGS
from deepedit.io.msd import read_case
from deepedit.io.pairing import Case
from deepedit.volume import Reading, Volume

GZIP = b"\x1f\x8b"


def refuse_suffix(suffix: str) -> None:
    """Raise a FileError for the suffix of a format that is not read."""
    if suffix.lower() not in NIFTI_ENDINGS:
        named = one_line(suffix, 20) or "nothing"
        raise FileError(f"files that end in {named} are not read; choose .nii.gz in the viewer's settings")


def sent_image(file: Path, suffix: str, reading: Reading, called: str) -> Volume:
    """An image that a viewer sent.

    Args:
        suffix: of its format.
        called: what messages call it, instead of the file that it is kept in meanwhile.

    Raises:
        FileError: if it is no image that a model could be given.
    """
    refuse_suffix(suffix)
    try:
        return read_case(Case("", (file,)), reading)
    except FileError as error:
        raise FileError(str(error).replace(one_line(file), called)) from error


def same_image(one: Volume, other: Volume) -> bool:
    """Whether two images have the same voxels in the same places."""
    if one.data.shape != other.data.shape or distance_of_grids(one, other) > NOTED_MISFIT_VOXELS:
        return False
    return np.array_equal(one.data, other.data)


def true_ending(file: Path) -> str:
    """The ending that a NIfTI file should have by its content."""
    with open_for_reading(file) as stream:
        return ".nii.gz" if stream.read(len(GZIP)) == GZIP else ".nii"
