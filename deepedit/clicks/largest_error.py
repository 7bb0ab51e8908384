"""The click of the annotator in evaluation: the deepest voxel of the largest error."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from torch import Tensor

from deepedit.boxes import Box, bounding_box, bounding_box_of_some, three, within
from deepedit.clicks import dispatch
from deepedit.devices import upload


@dataclass(frozen=True, eq=False)
class ErrorComponent:
    """A 6-connected component of the error region of one class.

    Attributes:
        label: the true class of its voxels.
        box: the smallest box of the volume that holds it.
        mask: ``[x, y, z]`` bool, its voxels in the box.
    """

    label: int
    box: Box
    mask: np.ndarray

    @cached_property
    def deepest_voxel(self) -> tuple[int, int, int]:
        """The voxel of the volume with the greatest Euclidean distance, in voxels, to anything outside of the
        component; the outside of the volume counts as outside of it (on a tie, the first voxel in index order)."""
        from scipy import ndimage

        # A rim of zeros all around: whatever lies beyond the box is not of the component, nor is what lies beyond the
        # volume.
        depth = ndimage.distance_transform_edt(np.pad(self.mask, 1))[1:-1, 1:-1, 1:-1]
        deepest = np.unravel_index(depth.argmax(), depth.shape)
        return three(int(index + span.start) for index, span in zip(deepest, self.box, strict=True))

    def counts_for(self, prediction: np.ndarray) -> int:
        """The `counted_class` of a click in the deepest voxel, if ``[X, Y, Z]`` class indices are shown."""
        return self.label or counted_class(0, prediction[self.deepest_voxel])


def counted_class(clicked: int, replaced: int) -> int:
    """The foreground class that a click counts for: the one clicked; for a click for background, the one it removes."""
    return int(clicked or replaced)


def largest_error_click(
    prediction: Tensor | np.ndarray, label: Tensor | np.ndarray, used_up: Collection[int] = ()
) -> tuple[tuple[int, int, int], int] | None:
    """The click of the annotator in evaluation: the deepest voxel of the largest error.

    Args:
        prediction: ``[X, Y, Z]`` integer class indices, a numpy array or a tensor on the CPU.
        label: the same, the true class indices.
        used_up: foreground classes for which no more clicks are made, see `counted_class`: an error whose click would
            count for one of them is passed over.

    Returns:
        The deepest voxel of the first of the `error_components`, and its true class; None if nothing is wrong.

    Raises:
        ValueError: if the shapes differ.

    Source: the protocol of Sofiiuk et al., Reviving iterative training with mask guidance for interactive
    segmentation, 2021, with all classes instead of one object.
    """
    for component in error_components(prediction, label):
        if not used_up or component.counts_for(np.asarray(prediction)) not in used_up:
            return component.deepest_voxel, component.label
    return None


def error_components(prediction: Tensor | np.ndarray, label: Tensor | np.ndarray) -> Iterator[ErrorComponent]:
    """The 6-connected components of the error regions of all classes, the largest first.

    Args:
        prediction, label: as of `largest_error_click`.

    Yields:
        The components by descending number of voxels (on a tie, the one whose first voxel comes first in index order).

    Raises:
        ValueError: if the shapes differ.
    """
    from scipy import ndimage

    prediction, label = np.asarray(prediction), np.asarray(label)
    if prediction.shape != label.shape:
        raise ValueError(f"prediction {prediction.shape} and label {label.shape} differ in shape")
    wrong = prediction != label
    box = bounding_box(wrong)
    if box is None:
        return
    codes = np.where(wrong[box], label[box].astype(np.int64) + 1, 0)
    regions: list[tuple[int, Box, np.ndarray]] = []
    owners, numbers, sizes, firsts = [], [], [], []
    for code, part in enumerate(ndimage.find_objects(codes), start=1):
        if part is None:
            continue
        region = codes[part] == code
        numbered, count = ndimage.label(region)
        owners.append(np.full(count, len(regions)))
        numbers.append(np.arange(1, count + 1))
        sizes.append(np.bincount(numbered.ravel())[1:])
        firsts.append(_first_voxels(region, numbered, part, codes.shape))
        regions.append((code - 1, part, numbered))
    owner, number, size, first = (np.concatenate(each) for each in (owners, numbers, sizes, firsts))
    boxes: dict[int, list[Box]] = {}
    for rank, index in enumerate(np.lexsort((first, -size))):
        of, this = int(owner[index]), int(number[index])
        true_class, part, numbered = regions[of]
        if not rank:  # mostly all that is asked for, and found sooner than the boxes of thousands of components
            inner = bounding_box_of_some(numbered == this)
        else:
            if of not in boxes:
                boxes[of] = ndimage.find_objects(numbered)
            inner = boxes[of][this - 1]
        yield ErrorComponent(true_class, within(box, within(part, inner)), numbered[inner] == this)


def largest_errors(
    prediction: Tensor, label: Tensor, num_classes: int, samples: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """`largest_error_click` for some samples of a batch, on the device where they are.

    Args:
        prediction: ``[B, X, Y, Z]`` integer class indices.
        label: the same, the true class indices.
        num_classes: background included.
        samples: indices of the samples, S of them.

    Returns:
        The voxels ``[S, 3]`` int64, and ``[S]`` bool, whether anything is wrong; if not, the voxel is 0, 0, 0.
        On a GPU without fused kernels this waits for the device.
    """
    kernels = dispatch.kernels_for(label.shape, label.device)
    if kernels:
        rows = upload(samples, label.device)
        narrow = num_classes <= 255
        return kernels.largest_error_voxels(
            kernels.error_codes(prediction.contiguous(), label.contiguous(), rows, None, narrow)
        )
    found = [largest_error_click(prediction[sample].cpu(), label[sample].cpu()) for sample in samples]
    voxels = upload([click[0] if click else (0, 0, 0) for click in found], label.device)
    return voxels, upload([click is not None for click in found], label.device)


def _first_voxels(region: np.ndarray, numbered: np.ndarray, part: Box, shape: Sequence[int]) -> np.ndarray:
    """Of the components of a region, numbered from 1 in a box of a volume: the index of the first voxel of each in the
    flattened volume."""
    hit = np.flatnonzero(region)
    owners = numbered.ravel()[hit]
    first = np.empty(owners.max(), np.int64)
    # Of several values for one place the last is kept.
    first[owners[::-1] - 1] = hit[::-1]
    voxels = np.unravel_index(first, region.shape)
    return np.ravel_multi_index([i + span.start for i, span in zip(voxels, part, strict=True)], shape)
