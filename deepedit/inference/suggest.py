"""Where a click would tell most."""

from typing import NamedTuple

import numpy as np

from deepedit.clicks import largest_error_click
from deepedit.inference.locks import Locks

DOUBT = 0.5
"""A voxel is in doubt where the label shown is less than so much more probable than the next one."""


class Suggestion(NamedTuple):
    """A place to look at: a voxel of the image's own grid, and the label in question there."""

    voxel: tuple[int, int, int]
    label: str


def suggest_click(
    shown: np.ndarray, next_best: np.ndarray, lead: np.ndarray, locks: Locks | None = None
) -> tuple[tuple[int, int, int], int] | None:
    """The deepest voxel of the largest region in doubt, and the class in question there; None where all is clear.

    Of the truth nothing is known, so what is shown is compared with the next best class where that is nearly as
    probable, as the evaluation's annotator compares it with the truth: a region is a 6-connected component of voxels in
    doubt with one next best class.

    Args:
        shown: ``[X, Y, Z]`` class indices.
        next_best: ``[X, Y, Z]``, of all other classes the most probable one.
        lead: ``[X, Y, Z]``, by how much the class shown is more probable.
        locks: what may not change, and is not in doubt.
    """
    doubtful = np.where(lead < DOUBT, next_best, shown)
    if locks is not None:
        doubtful = locks.keep(shown, doubtful, tuple(slice(0, side) for side in shown.shape))
    return largest_error_click(shown, doubtful)
