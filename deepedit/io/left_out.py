"""One line about the files of a folder that are not read."""

import os
from collections.abc import Sequence
from pathlib import Path

from deepedit.files import one_line
from deepedit.io.dicom_series import is_series
from deepedit.io.suffixes import DICOM, FORMATS, IMAGES, LABELS, READ, SEGMENTATION, ending, voxel_files

OTHER_IMAGES = (
    *(".hdr.gz", ".img.gz", ".img", ".mgz", ".mgh", ".mnc", ".gipl"),
    *(".nii.bz2", ".nii.xz", ".nii.zip", ".nii.zst"),
)
"""Endings of files that hold images or segmentations, in formats that are not read here."""

SHOWN = 5


def left_out(folder: Path, endings: Sequence[str]) -> str | None:
    """A line about the visible files of a folder that have none of some endings; None if there are no such files.

    A file with the voxels of a header beside it counts as read.

    Args:
        folder: a folder that cannot be listed counts as empty.
        endings: the endings of files that are read, in lower case.
    """
    try:
        names = sorted(entry for entry in os.listdir(folder) if not entry.startswith("."))
    except OSError:
        return None
    volumes = set(endings) <= set(READ)
    voxels = voxel_files(names) if volumes else set()
    names = [name for name in names if not ending(name, endings) and name not in voxels]
    slices = [name for name in names if volumes and ending(name, (DICOM,))]
    names = [name for name in names if name not in slices and not (volumes and is_series(folder / name))]
    segmentations = [name for name in names if volumes and ending(name, (SEGMENTATION,))]
    images = [name for name in names if volumes and ending(name, OTHER_IMAGES)]
    others = [name for name in names if name not in images and name not in segmentations]
    parts = []
    if segmentations:
        parts.append(f"{some(segmentations)}, as only images are read here")
    if slices:
        parts.append(f"{some(slices)}, as a DICOM series is an image where it has a folder of its own")
    if images:
        parts.append(f"{some(images)}, to be converted to .nii.gz")
    if others:
        read = FORMATS if volumes else " and ".join(endings)
        parts.append(f"{some(others)}, as only {read} files are read")
    return f"left out {'; and '.join(parts)}" if parts else None


def left_out_of_dataset(folder: Path) -> list[str]:
    """The lines about both folders of a dataset."""
    found = {room: left_out(folder / room, read) for room, read in (("imagesTr", IMAGES), ("labelsTr", LABELS))}
    return [f"{room}: {line}" for room, line in found.items() if line]


def some(names: Sequence[str]) -> str:
    """The first few of some names, and the number of the others."""
    shown = ", ".join(one_line(name, 60) for name in names[:SHOWN])
    return shown + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
