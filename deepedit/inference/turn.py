"""A click and what it changed."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from deepedit.io.click_files import PointClick
from deepedit.transforms.geometry import Box


@dataclass
class Turn:
    """A click and what it changed, kept so that it can be taken back and given again.

    Attributes:
        click: as it was given.
        voxel, label: on the network's grid, and the class index.
        place: box of the window on the network's grid.
        box: on the image's grid, of all voxels that depend on the logits there.
        logits: of the window, before and after.
        changed: the smallest box on the image's grid that holds all changes; None if nothing changed.
        classes: of the result in that box, before and after.
    """

    click: PointClick
    voxel: tuple[int, int, int]
    label: int
    place: Box
    box: Box
    logits: tuple[Tensor, ...] = ()
    changed: Box | None = None
    classes: tuple[np.ndarray, ...] = ()


def bounding_box(mask: np.ndarray) -> Box | None:
    """Smallest box, as slices, that holds all of a mask ``[X, Y, Z]``; None if it is empty."""
    spans = []
    for axis in range(3):
        hit = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        if not len(hit):
            return None
        spans.append(slice(int(hit[0]), int(hit[-1]) + 1))
    return tuple(spans)


def within(outer: Box, inner: Box) -> Box:
    """A box that is given relative to another, in the other's own coordinates."""
    return tuple(slice(o.start + i.start, o.start + i.stop) for o, i in zip(outer, inner, strict=True))
