"""The click of the annotator in evaluation: the deepest voxel of the largest error."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from deepedit.boxes import Box, bounding_box, within
from deepedit.clicks import dispatch
from deepedit.devices import upload


def largest_error_click(
    prediction: Tensor | np.ndarray, label: Tensor | np.ndarray
) -> tuple[tuple[int, int, int], int] | None:
    """The click of the annotator in evaluation: the deepest voxel of the largest error.

    Of the 6-connected components of the error regions of all classes, the largest by number of voxels is chosen (on a
    tie, the one whose first voxel comes first in index order). In it the click goes to the voxel with the greatest
    Euclidean distance, in voxels, to anything outside of the component; the outside of the volume counts as outside of
    the component (on a tie, the first voxel in index order).

    Args:
        prediction: ``[X, Y, Z]`` integer class indices, a numpy array or a tensor on the CPU.
        label: the same, the true class indices.

    Returns:
        The voxel and its true class; None if nothing is wrong.

    Raises:
        ValueError: if the shapes differ.

    Source: the protocol of Sofiiuk et al., Reviving iterative training with mask guidance for interactive
    segmentation, 2021, with all classes instead of one object.
    """
    from scipy import ndimage

    prediction, label = np.asarray(prediction), np.asarray(label)
    if prediction.shape != label.shape:
        raise ValueError(f"prediction {prediction.shape} and label {label.shape} differ in shape")
    wrong = prediction != label
    box = bounding_box(wrong)
    if box is None:
        return None
    codes = np.where(wrong[box], label[box].astype(np.int64) + 1, 0)
    component, inner = _largest_component(codes)
    # A rim of zeros all around: whatever lies beyond the box is not of the component, nor is what lies beyond the
    # volume.
    depth = ndimage.distance_transform_edt(np.pad(component, 1))[1:-1, 1:-1, 1:-1]
    deepest = np.unravel_index(depth.argmax(), depth.shape)
    voxel = tuple(int(index + span.start) for index, span in zip(deepest, within(box, inner), strict=True))
    return voxel, int(label[voxel])


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


def _largest_component(codes: np.ndarray) -> tuple[np.ndarray, Box]:
    """Mask of the largest 6-connected component of one code, in the box of `codes` that holds it."""
    from scipy import ndimage

    best, found = (0, 0), None
    for code, box in enumerate(ndimage.find_objects(codes), start=1):
        if box is None:
            continue
        components, _ = ndimage.label(codes[box] == code)
        sizes = np.bincount(components.ravel())[1:]
        if sizes.max() < best[0]:
            continue
        for number in np.flatnonzero(sizes == sizes.max()) + 1:
            first = np.unravel_index((components == number).argmax(), components.shape)
            start = np.ravel_multi_index([i + span.start for i, span in zip(first, box, strict=True)], codes.shape)
            if (sizes[number - 1], -start) > best or found is None:
                best, found = (sizes[number - 1], -start), (components, number, box)
    components, number, box = found
    mask = components == number
    inner = bounding_box(mask)
    return mask[inner], within(box, inner)
