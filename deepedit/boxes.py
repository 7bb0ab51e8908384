"""Boxes of voxels: a slice with start and stop along each axis."""

from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np

Box = tuple[slice, ...]
T = TypeVar("T")


def three(values: Iterable[T]) -> tuple[T, T, T]:
    """One value for each spatial axis, as a tuple. A ValueError is raised if there are more, or fewer."""
    x, y, z = values
    return x, y, z


def bounding_box(mask: np.ndarray) -> Box | None:
    """Smallest box that holds all of a mask ``[X, Y, Z]``; None if the mask is empty."""
    across = np.any(mask, axis=0)
    spans = []
    for profile in (np.any(mask, axis=(1, 2)), np.any(across, axis=1), np.any(across, axis=0)):
        hit = np.flatnonzero(profile)
        if not len(hit):
            return None
        spans.append(slice(int(hit[0]), int(hit[-1]) + 1))
    return tuple(spans)


def bounding_box_of_some(mask: np.ndarray) -> Box:
    """`bounding_box` of a mask that is known to hold a voxel."""
    box = bounding_box(mask)
    if box is None:
        raise ValueError("the mask is empty")
    return box


def grown(box: Box, margin: int, shape: Sequence[int]) -> Box:
    """A box with a margin of so many voxels on every side, as far as it lies in a volume of this shape."""
    return tuple(
        slice(max(span.start - margin, 0), min(span.stop + margin, size)) for span, size in zip(box, shape, strict=True)
    )


def within(outer: Box, inner: Box) -> Box:
    """A box that is given relative to the first voxel of another, in the coordinates of the other."""
    return tuple(slice(o.start + i.start, o.start + i.stop) for o, i in zip(outer, inner, strict=True))


def overlap(start: Sequence[int], window: Sequence[int], shape: Sequence[int]) -> tuple[Box, Box]:
    """Where a window and a volume overlap.

    Args:
        start: voxel of the volume at which the window begins; it may lie outside of the volume.
        window: sides of the window in voxels.
        shape: sides of the volume in voxels.

    Returns:
        The box of the volume that lies in the window, and the box of the window that lies in the volume. Both have
        the same sides; along an axis on which the two do not overlap, that side is 0.
    """
    axes = list(zip(start, window, shape, strict=True))
    in_volume = tuple(slice(min(max(a, 0), size), min(max(a + side, 0), size)) for a, side, size in axes)
    in_window = tuple(slice(min(max(-a, 0), side), min(max(size - a, 0), side)) for a, side, size in axes)
    return in_volume, in_window


def hull(boxes: Iterable[Box]) -> Box:
    """The smallest box that holds all of these; empty if they are."""
    boxes = [box for box in boxes if not is_empty(box)]
    if not boxes:
        return (slice(0, 0),) * 3
    return tuple(slice(min(s.start for s in spans), max(s.stop for s in spans)) for spans in zip(*boxes, strict=True))


def is_empty(box: Box) -> bool:
    """Whether a box holds no voxel."""
    return min(span.stop - span.start for span in box) <= 0
