"""Whether samples can be mirrored left to right, and which labels change places then."""

import re
from collections.abc import Sequence

import numpy as np

from deepedit.plan import Labels
from deepedit.training.data import PreparedCase

FEWEST_CASES = 8
"""With fewer cases that hold a label it is not known how much its place varies."""

TOLERANCE = 0.5
"""Greatest mean asymmetry that counts as none, in standard deviations of the cases; a standard error is added, as the
mean of few cases is known less well."""

SIDES = {"left": "right", "l": "r", "lt": "rt", "sin": "dex", "sinister": "dexter", "links": "rechts"}
OTHER_SIDE = {**SIDES, **{right: left for left, right in SIDES.items()}}
WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+|[^\W\d_a-zA-Z]+")


def mirrored_classes(labels: Labels, cases: Sequence[PreparedCase]) -> tuple[int, ...] | None:
    """For each class index, the one that it has in the mirror image of a patient, or None if mirroring is not safe.

    By their names, labels such as ``LeftParotid`` and ``parotid_r`` change places, and all others stay. That must be
    true of the cases: by the place of each label in the image and among the other labels, and by how it leans, the
    mirror images must look like the cases. Cases that all show a left hippocampus do not, whatever its label is called.

    Args:
        labels: of the cases.
        cases: on the network's grid, whose first axis runs from left to right.

    Returns:
        The background first; one more at the end, which stays, for voxels to ignore. None also if there are too few
        cases to tell, or if a label of one side has none for the other.
    """
    others = _of_other_side(labels.names)
    if others is None:
        return None
    seen = np.stack([_asymmetry(case, labels.num_classes) for case in cases])
    for label, other in enumerate(others, start=1):
        here, there = (seen[:, index][~np.isnan(seen[:, index, 0])] for index in (label, other))
        number = min(len(here), len(there))
        if number < FEWEST_CASES:
            return None
        asymmetry, spread = (here.mean(0) + there.mean(0)) / 2, np.sqrt((here.var(0) + there.var(0)) / 2)
        if (abs(asymmetry) > (TOLERANCE + number**-0.5) * spread).any():
            return None
    return (0, *others, labels.num_classes)


def exchanged(labels: Labels, mirrored: Sequence[int]) -> str:
    """Which labels change places, as a line for the user ends."""
    pairs = [
        f"{labels.class_names[index]} and {labels.class_names[other]}"
        for index, other in enumerate(mirrored[:-1])
        if index < other
    ]
    return f", with {', '.join(pairs)} exchanged" if pairs else ""


def _of_other_side(names: Sequence[str]) -> list[int] | None:
    """The class index of each name's label of the other side, its own if it has no side; None if one is missing."""
    words = [tuple(word.lower() for word in WORD.findall(name)) for name in names]
    indices = {each: index for index, each in enumerate(words, start=1)}
    others = [indices.get(tuple(OTHER_SIDE.get(word, word) for word in each)) for each in words]
    known = [index for index in others if index is not None]
    return known if sorted(known) == list(range(1, len(names) + 1)) else None


def _asymmetry(case: PreparedCase, num_classes: int) -> np.ndarray:
    """``[C, 4]``, in voxels, numbers that change their sign in the mirror image: for each class the distance of its
    centre from that of the image and of all labels, and its covariances of left-right with the other two axes. NaN for
    classes that the case does not have."""
    voxels = np.asarray(case.voxels, np.float64)
    result = np.full((num_classes, 4), np.nan)
    if len(voxels):
        classes = np.unique(voxels[:, 0]).astype(int)
        centres = np.stack([voxels[voxels[:, 0] == index, 1:].mean(0) for index in classes])
        middle = (case.label.shape[0] - 1) / 2
        for index, centre in zip(classes, centres, strict=True):
            away = voxels[voxels[:, 0] == index, 1:] - centre
            leaning = (away[:, :1] * away[:, 1:]).mean(0)
            result[index] = (centre[0] - middle, centre[0] - centres[:, 0].mean(), *leaning)
    return result
