"""The endings of files that hold images and label maps: which are read, which are written, which belong together."""

import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path

NIFTI = (".nii.gz", ".nii")
SEGMENTATION = ".seg.nrrd"
IMAGES = (*NIFTI, ".nrrd", ".nhdr", ".mha", ".mhd", ".hdr")
"""Endings of images. ``.hdr`` is the header of an Analyze pair, ``.nhdr`` and ``.mhd`` are headers with the voxels in
another file."""

DICOM = ".dcm"
LABELS = (SEGMENTATION, *IMAGES, DICOM)
"""Endings of label maps: those of images, and those of segmentations of 3D Slicer and of DICOM, which are no images. An
image of DICOM is a folder, whatever its files are called."""

READ = (*LABELS, ".img")
"""Endings of all files that may be named to be read. The ``.img`` of a pair is not listed beside its ``.hdr``."""

LABELS_WRITTEN = (*NIFTI, SEGMENTATION, ".nrrd", ".mha", DICOM)
IMAGES_WRITTEN = (*NIFTI, ".nrrd", ".mha")

FORMATS = "DICOM, NIfTI, NRRD, MetaImage and Analyze"

VOXELS_OF = {
    ".hdr": (".img",),
    ".nhdr": (".raw", ".raw.gz", ".raw.bz2"),
    ".mhd": (".raw", ".zraw"),
}
"""Endings of the files that hold the voxels of a header of the same name."""


def ending(name: str, endings: Sequence[str]) -> str:
    """The ending of a file's name in any case of letters, in lower case, if it is one of `endings`; else empty.

    A ``.seg.nrrd`` is not taken for a ``.nrrd``.
    """
    lower = name.lower()
    if lower.endswith(SEGMENTATION):
        return SEGMENTATION if SEGMENTATION in endings else ""
    return next((each for each in endings if lower.endswith(each)), "")


def stem(name: str) -> str:
    """A file's name without its ending, in composed Unicode, so that equal names compare as equal."""
    return unicodedata.normalize("NFC", name[: len(name) - len(ending(name, READ))])


def parts(path: Path) -> tuple[Path, ...]:
    """The files that hold an image: its own, and that of its voxels where it is a header of its own; or all of a folder
    that holds a DICOM series."""
    if path.is_dir():
        return tuple(sorted(each for each in path.iterdir() if each.is_file()))
    end = ending(path.name, READ)
    start = path.name[: len(path.name) - len(end)]
    voxels = (path.with_name(start + each) for each in VOXELS_OF.get(end, ()))
    return (path, *(each for each in voxels if os.path.isfile(each)))


def voxel_files(names: Sequence[str]) -> set[str]:
    """Those of some names of files that hold the voxels of a header among them."""
    lower = {name.lower() for name in names}
    return {
        name
        for name in names
        for header, endings in VOXELS_OF.items()
        for each in endings
        if name.lower().endswith(each) and name.lower()[: -len(each)] + header in lower
    }
