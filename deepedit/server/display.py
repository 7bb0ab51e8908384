"""Volumes as a page shows them: axes in the closest R, A, S order, and no more of a segmentation than has changed.

What a page is sent has the first display axis adjacent in memory: an array ``[z, y, x]`` in the order of C.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from deepedit.boxes import Box, bounding_box_of_some, three
from deepedit.server.answers import TILE
from deepedit.transforms.orientation import closest_canonical

ENDS = (("L", "R"), ("P", "A"), ("I", "S"))
"""Letters of the patient's sides at the first and last voxel of each display axis."""
MANY_CLASSES = 16
OBLIQUE_DEGREES = 0.1
"""From which angle between an axis of the image and the patient's on an image counts as oblique."""


@dataclass(frozen=True)
class Axes:
    """How the axes of a display run along those of a file.

    Attributes:
        permutation: the file's axis of each display axis.
        flips: for each display axis, whether it runs against the file's.
        shape: voxels along each of the file's axes.
    """

    permutation: tuple[int, int, int]
    flips: tuple[bool, bool, bool]
    shape: tuple[int, int, int]

    @classmethod
    def of(cls, affine: np.ndarray, shape: Sequence[int]) -> "Axes":
        """Of an image: x to the patient's right, y to the front, z upwards, as near as its own axes come.

        Raises:
            FileError: if the affine maps different voxels to one point.
        """
        return cls(*closest_canonical(affine), three(shape))

    @property
    def display_shape(self) -> tuple[int, int, int]:
        """Voxels along each display axis."""
        return three(self.shape[axis] for axis in self.permutation)

    @property
    def matrix(self) -> np.ndarray:
        """``[4, 4]``, display voxels to the file's voxels."""
        matrix = np.zeros((4, 4))
        matrix[3, 3] = 1
        for display, (axis, flipped) in enumerate(zip(self.permutation, self.flips, strict=True)):
            matrix[axis, display] = -1 if flipped else 1
            matrix[axis, 3] = self.shape[axis] - 1 if flipped else 0
        return matrix

    def box(self, box: Box) -> list[list[int]]:
        """First voxel, and the one after the last, along each display axis, of a box of the file's voxels."""
        spans = []
        for axis, flipped in zip(self.permutation, self.flips, strict=True):
            start, stop, size = box[axis].start, box[axis].stop, self.shape[axis]
            spans.append([size - stop, size - start] if flipped else [start, stop])
        return spans

    def view(self, data: np.ndarray) -> np.ndarray:
        """An array ``[X, Y, Z]`` of the file's voxels, or of a box of them, as ``[z, y, x]``, not copied."""
        turned = data.transpose(self.permutation)
        return turned[tuple(slice(None, None, -1) if flipped else slice(None) for flipped in self.flips)].T

    def copy(
        self, data: np.ndarray, change: Callable[[np.ndarray], np.ndarray] = lambda part: part, dtype: type = np.uint8
    ) -> np.ndarray:
        """The same, a copy in the order of C; tile by tile, see `deepedit.server.answers.ranks_of`.

        Args:
            change: is made of each tile, and keeps its shape.
            dtype: of the copy.
        """
        view = self.view(data)
        found: np.ndarray = np.empty(view.shape, dtype)
        for k in range(0, view.shape[0], TILE):
            for i in range(0, view.shape[2], TILE):
                found[k : k + TILE, :, i : i + TILE] = change(view[k : k + TILE, :, i : i + TILE])
        return found


def is_oblique(affine: np.ndarray) -> bool:
    """Whether an image's axes do not run along the patient's."""
    columns = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return bool((np.abs(columns).max(axis=0) < np.cos(np.radians(OBLIQUE_DEGREES))).any())


def difference(before: np.ndarray | None, after: np.ndarray) -> Box | None:
    """The smallest box that holds all voxels in which two segmentations differ; None if they do not.

    Args:
        before: ``[X, Y, Z]``; None: the background everywhere.
        after: of the same shape.
    """
    order = _memory_order(after)
    after = after.transpose(order)
    before = np.broadcast_to(after.dtype.type(0), after.shape) if before is None else before.transpose(order)
    hit, across = [], np.zeros(after.shape[1:], bool)
    # Plane by plane, each of which stays in the cache: where nothing differs, nothing is written to memory.
    for number, (old, new) in enumerate(zip(before, after, strict=True)):
        differs = old != new
        if differs.any():
            hit.append(number)
            across |= differs
    if not hit:
        return None
    spans = (slice(hit[0], hit[-1] + 1), *bounding_box_of_some(across[None])[1:])
    return tuple(spans[order.index(axis)] for axis in range(3))


def counts_of(classes: np.ndarray, num_classes: int) -> np.ndarray:
    """How many voxels each class has, ``[num_classes]``."""
    counts = np.zeros(num_classes, np.int64)
    for plane in classes.transpose(_memory_order(classes)):
        if num_classes > MANY_CLASSES:
            counts += np.bincount(plane.ravel(), minlength=num_classes)
        else:  # several times faster: nothing is widened to eight bytes a voxel
            counts[1:] += [np.count_nonzero(plane == label) for label in range(1, num_classes)]
    counts[0] = classes.size - counts[1:].sum()
    return counts


def _memory_order(array: np.ndarray) -> list[int]:
    """The axes, from that along which voxels lie farthest apart in memory; files and networks differ in that."""
    return sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis]))
