"""One line about the files of a folder that are not read."""

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
    """A line about the visible files of a folder that have none of some endings; None if there are no such files.

    Args:
        folder: a folder that cannot be listed counts as empty.
        endings: the endings of files that are read, in lower case.
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
    """The lines about both folders of a dataset."""
    found = {room: left_out(folder / room) for room in ("imagesTr", "labelsTr")}
    return [f"{room}: {line}" for room, line in found.items() if line]


def some(names: Sequence[str]) -> str:
    """The first few of some names, and the number of the others."""
    shown = ", ".join(one_line(name, 60) for name in names[:SHOWN])
    return shown + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
