"""What lies in a folder and is not read, in one line."""

import os
from collections.abc import Sequence
from pathlib import Path

from deepedit.files import one_line
from deepedit.io.dataset_json import NIFTI_ENDINGS
from deepedit.io.pairing import ending

OTHER_IMAGES = (
    *(".nrrd", ".nhdr", ".hdr", ".img", ".hdr.gz", ".img.gz", ".mha", ".mhd", ".mgz", ".mgh", ".mnc", ".gipl"),
    *(".dcm", ".nii.bz2", ".nii.xz", ".nii.zip", ".nii.zst"),
)
"""Endings of files that hold images or segmentations, in formats that are not read here."""

SHOWN = 5


def left_out(folder: Path, endings: Sequence[str] = NIFTI_ENDINGS) -> str | None:
    """What to say of all that is visible in a folder and has none of some endings; None if there is nothing.

    Args:
        folder: is not looked at if it cannot be listed.
        endings: lower case, of what is read.
    """
    try:
        names = sorted(entry for entry in os.listdir(folder) if not entry.startswith("."))
    except OSError:
        return None
    names = [name for name in names if not ending(name, endings)]
    images = [name for name in names if ending(name, OTHER_IMAGES)]
    others = [name for name in names if name not in images]
    parts = []
    if images:
        parts.append(f"{some(images)}, to be converted to .nii.gz")
    if others:
        parts.append(f"{some(others)}, as only {' and '.join(endings)} files are read")
    return f"left out {'; and '.join(parts)}" if parts else None


def left_out_of_dataset(folder: Path) -> list[str]:
    """The lines of both folders of a dataset."""
    found = {room: left_out(folder / room) for room in ("imagesTr", "labelsTr")}
    return [f"{room}: {line}" for room, line in found.items() if line]


def some(names: Sequence[str]) -> str:
    """The first of some names, and how many more there are."""
    shown = ", ".join(one_line(name, 60) for name in names[:SHOWN])
    return shown + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
