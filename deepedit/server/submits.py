"""Label maps as viewers send them and want them, against label maps as they lie in files.

A viewer numbers its segments 1..n, in an order that is its own; a file has the values that the model was trained on.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from deepedit.errors import ClickError, DeepEditError, FileError
from deepedit.files import brief, one_line
from deepedit.io.grids import misfit
from deepedit.io.volumes import read_label_on, write_label
from deepedit.plan import BACKGROUND, Labels
from deepedit.server.uploaded import LABELS_SENT, refuse_sent
from deepedit.volume import Reading, Volume

NO_LABELS = (BACKGROUND, "foreground_scribbles", "background_scribbles")
"""Segments of a viewer that stand for no label."""


def submitted(
    file: Path,
    suffix: str,
    label_info: Sequence[Mapping[str, Any]] | None,
    labels: Labels,
    image: Volume,
    reading: Reading,
    name: str,
) -> np.ndarray:
    """A label map from a viewer in file values, on the grid of its image.

    Args:
        file: what the viewer sent, under a name that has the suffix.
        suffix: of its format. The segments of a ``.seg.nrrd`` have names of their own, which count.
        label_info: an entry with a ``"name"`` for each value from 1 on, in order; what else an entry holds is not used,
            as viewers number by other rules there. It may be left out where the model's file values are 1..n.
        labels: names and file values of the model.
        image: only its grid is used.
        name: of the case, for messages.

    Returns:
        ``[X, Y, Z]`` integers. Background and scribbles are 0.

    Raises:
        DeepEditError: if a voxel is of a segment that is no label of the model or has no name, if the map lies on
            another grid, or if the file cannot be read.
    """
    what = f"the segmentation of {one_line(name, 100)}"
    try:
        refuse_sent(file, suffix, LABELS_SENT)
        label = read_label_on(image, file, reading)
    except FileError as error:
        raise FileError(str(error).replace(one_line(file), what)) from error
    names = dict(label.names) or (_names(label_info, labels, what) if label.data.any() else {})
    return _file_values(on_grid_of(image, label, what), names, labels, what)


def write_ranks(label: Volume, target: Path, labels: Labels) -> None:
    """Write a label map in file values as one that a viewer understands: 1..n in the order of the labels.

    Values of no label become background.

    Raises:
        FileError: if it cannot be written.
    """
    write_label(target, labels.to_classes(label.data), label)


def on_grid_of(image: Volume, label: Volume, what: str) -> np.ndarray:
    """The voxels of a label map in the order of its image, whose voxels it has to share.

    Programs may store the same voxels along other axes, or from the other end of an axis.

    Raises:
        DeepEditError: if it is on another grid.
    """
    difference = misfit(image, label)
    if difference is None:
        return label.data
    turned = _turned(image, label)
    if turned is None or misfit(image, turned) is not None:
        raise DeepEditError(
            f"{what} does not lie on the grid of its image: {difference}; "
            "export it with the image as its reference geometry, and submit it again"
        )
    return turned.data


def _turned(image: Volume, label: Volume) -> Volume | None:
    """A label map with its axes as those of an image, as near as they come; None if they are no axes of the image."""
    matrix = np.linalg.solve(image.affine[:3, :3], label.affine[:3, :3])
    order = np.abs(matrix).argmax(axis=1)
    if sorted(order) != [0, 1, 2]:
        return None
    affine, data = label.affine.copy(), label.data.transpose(order)
    affine[:3, :3] = affine[:3, order]
    for axis in range(3):
        if matrix[axis, order[axis]] < 0:
            data = np.flip(data, axis)
            affine[:3, 3] += affine[:3, axis] * (data.shape[axis] - 1)
            affine[:3, axis] *= -1
    return replace(label, data=data, affine=affine, other_affines=())


def _names(label_info: Sequence[Mapping[str, Any]] | None, labels: Labels, what: str) -> dict[int, str]:
    """The names of the values of a label map."""
    if not isinstance(label_info or [], list | tuple):
        raise DeepEditError(f"{what}: label_info should be a list of segments, is {brief(label_info)}; correct it")
    names = {}
    for value, entry in enumerate(label_info or [], 1):
        if not isinstance(entry, Mapping) or not isinstance(entry.get("name"), str):
            raise DeepEditError(f"{what}: label_info has {brief(entry)} where a segment and its name should be")
        names[value] = entry["name"]
    if not names and labels.values != tuple(range(1, len(labels.values) + 1)):
        raise DeepEditError(
            f"{what} comes without label_info, so that its values may be those of a viewer, from 1 on, or "
            f"{_listed(labels.values)} as in the model's files; send label_info, with the name of each value from 1 on"
        )
    return names or dict(zip(labels.values, labels.names, strict=True))


def _file_values(data: np.ndarray, names: Mapping[int, str], labels: Labels, what: str) -> np.ndarray:
    present = values_in(data)
    nameless = [value for value in present if value not in names]
    if nameless:
        raise DeepEditError(
            f"{what} has the value{'s' * (len(nameless) > 1)} {_listed(nameless)}, and names for "
            f"{_listed(list(names)) or 'none'} only; say in label_info what each value is"
        )
    values = {}
    unknown = []
    for value in present:
        index = _index(names[value], labels)
        if index is None:
            unknown.append(names[value])
        values[value] = labels.values[index - 1] if index else 0
    if unknown:
        raise DeepEditError(
            f"{what}: the model has no label {_listed(list(dict.fromkeys(unknown)))} (it has {_listed(labels.names)}); "
            "rename the segment, or remove it, and submit again"
        )
    table = np.zeros(max(values, default=0) + 1, np.min_scalar_type(labels.values[-1]))
    for value, file_value in values.items():
        table[value] = file_value
    return table[data]


def values_in(data: np.ndarray) -> list[int]:
    """The distinct values of a label map above 0, in ascending order."""
    largest = int(data.max())
    if largest > 2**16:
        return [int(value) for value in np.unique(data) if value]
    present = np.zeros(largest + 1, bool)
    for index in range(data.shape[-1]):  # by slices: numpy widens an index to eight bytes a voxel
        present[data[..., index]] = True
    return [int(value) for value in np.flatnonzero(present) if value]


def _index(name: str, labels: Labels) -> int | None:
    """The class index of a segment, 0 for one that stands for no label; None if the model does not know it."""
    if name in NO_LABELS:
        return 0
    try:
        return labels.index(name)
    except ClickError:
        return None


def _listed(items: Sequence[object]) -> str:
    shown = ", ".join(one_line(item, 60) for item in itertools.islice(items, 10))
    return shown + (f" and {len(items) - 10} more" if len(items) > 10 else "")
