"""Segmentations that a page begins with, kept on the grid of their image."""

import io
from pathlib import Path
from typing import Any

import numpy as np

from deepedit.errors import FileError
from deepedit.files import one_line
from deepedit.inference.initial import initial_classes
from deepedit.io.volumes import read_grid, write_label
from deepedit.plan import Labels, Plan
from deepedit.server.forms import Received
from deepedit.server.uploads import KeptImages
from deepedit.volume import Volume

ENDING = ".nii"


def read_start(starts: KeptImages, sent: Received, image: Path, plan: Plan) -> dict[str, Any]:
    """Keep a label map that was sent, brought to the grid of an image.

    Args:
        image: its file, of which the grid is read; where there are several, the first.
        plan: of the model.

    Returns:
        ``key``; ``notes``, on how it was brought there and what was left out; and ``missing``, the labels of the model
        that it has not.

    Raises:
        FileError: if it cannot be read, is no label map, or does not lie on the image.
    """
    name, reading = one_line(sent.name, 100), plan.reading
    notes: list[str] = []
    grid = read_grid(image, reading.affine, reading.units)
    try:
        classes = initial_classes(sent.path, grid, plan.labels, reading, notes.append)
    except FileError as error:
        raise FileError(str(error).replace(one_line(sent.path), name)) from error
    present = set(np.unique(classes).tolist())
    missing = [label for index, label in enumerate(plan.labels.names, start=1) if index not in present]
    key = kept_start(starts, classes, grid, plan.labels)
    return {"key": key, "notes": [note.replace(one_line(sent.path), name) for note in notes], "missing": missing}


def kept_start(starts: KeptImages, classes: np.ndarray, grid: Volume, labels: Labels) -> str:
    """Keep class indices on the grid of an image; returns the key. The same ones get the same key again."""
    with starts.receive(io.BytesIO(), ENDING) as path:
        write_label(path, labels.to_values(classes), grid)
        return starts.keep(path, ENDING, "start").key
