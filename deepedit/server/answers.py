"""What a viewer gets: the ranks of labels on the image's grid, as a file that it can read."""

import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from deepedit.errors import DeepEditError
from deepedit.files import one_line
from deepedit.io.itk_calls import simpleitk
from deepedit.io.nifti import write_volume
from deepedit.io.segments import segment_fields
from deepedit.volume import Volume

SUFFIXES = (".seg.nrrd", ".nrrd", ".nii.gz", ".nii")
"""Of the files that can be sent."""

TILE = 32
"""Voxels along a side of what is transposed at once: its rows and columns fit into the nearest cache together."""


@dataclass(frozen=True)
class Answer:
    """What is answered to a request.

    Attributes:
        ranks: ``[X, Y, Z]`` uint8, Fortran-contiguous: 0, and 1..n for the labels in `names`.
        volume: the image's grid and header, without its voxels.
        names: of the labels.
        notes: what is worth knowing, a line each.
        seconds: what reading (``pre``), the session (``infer``) and putting the result in order (``post``) took.
    """

    ranks: np.ndarray
    volume: Volume
    names: tuple[str, ...]
    notes: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


def ranks_of(classes: np.ndarray) -> np.ndarray:
    """Class indices ``[X, Y, Z]`` as uint8 in Fortran order, the order of files; a copy.

    Tile by tile it takes a quarter of what NumPy takes at once.
    """
    x, y, z = classes.shape
    ranks = np.empty((z, y, x), np.uint8)
    for i in range(0, x, TILE):
        for k in range(0, z, TILE):
            ranks[k : k + TILE, :, i : i + TILE] = classes[i : i + TILE, :, k : k + TILE].T
    return ranks.T


def suffix_of(wanted: object, image: str) -> str:
    """The suffix of the file to send.

    Args:
        wanted: ``result_extension`` of the request, such as ``.nrrd``; None, or empty: that of the image.
        image: name of the image's file.

    Raises:
        DeepEditError: if no such file can be written.
    """
    if not wanted:
        return next((suffix for suffix in SUFFIXES if image.lower().endswith(suffix)), ".nrrd")
    suffix = "." + str(wanted).lower().lstrip(".")
    if suffix not in SUFFIXES:
        raise DeepEditError(f"results cannot be sent as {one_line(wanted, 40)}; ask for {', '.join(SUFFIXES)}")
    return suffix


def encode(answer: Answer, suffix: str = ".nrrd", compress: bool = True) -> bytes:
    """The file of an answer.

    Args:
        suffix: one of `SUFFIXES`.
        compress: gzip the voxels of a NRRD, which is also faster to send.

    Raises:
        DeepEditError: if a NRRD is wanted and SimpleITK is not installed, or if the disk for temporary files is full.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="deepedit-") as folder:
            path = Path(folder) / f"answer{suffix}"
            if suffix in (".nrrd", ".seg.nrrd"):
                _write_nrrd(path, answer, suffix == ".seg.nrrd", compress)
            else:
                write_volume(path, answer.ranks, answer.volume, np.uint8)  # compressed less than labels, and faster
            return path.read_bytes()
    except (OSError, RuntimeError) as error:  # SimpleITK's errors are RuntimeErrors
        raise DeepEditError(
            f"the result could not be written to the server's temporary folder: {one_line(error, 200)}; "
            "make room there, or set TMPDIR"
        ) from error


def _write_nrrd(path: Path, answer: Answer, segments: bool, compress: bool) -> None:
    sitk = simpleitk(path.name)
    image = sitk.GetImageFromArray(answer.ranks.T)
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ answer.volume.affine  # RAS to LPS
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    if segments:
        for key, value in segment_fields(answer.ranks, dict(enumerate(answer.names, start=1))).items():
            image.SetMetaData(key, value)
    writer = sitk.ImageFileWriter()
    writer.SetFileName(os.fspath(path))
    writer.SetUseCompression(compress)
    writer.SetCompressionLevel(1)
    writer.Execute(image)
