"""From a volume to the network's input, and from the network's output to the file's own grid."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from deepedit.devices import upload
from deepedit.errors import FileError
from deepedit.plan import Labels, Plan
from deepedit.transforms.geometry import GridMap, Shape, fixed_grid, network_grid, voxel_to_network
from deepedit.transforms.intensity import normalise
from deepedit.transforms.resample import resample
from deepedit.volume import Volume

TIE = 1e-4
"""Logits that differ by less may have equal probabilities."""


class Preprocessor:
    """Brings images and labels to the grid and intensities of a plan, and predictions back to the file's grid.

    Args:
        plan: the plan of the network.
        device: the device to compute on, which also holds the results.
    """

    def __init__(self, plan: Plan, device: torch.device | str = "cpu") -> None:
        self.plan = plan
        self.device = torch.device(device)

    def __call__(self, volume: Volume) -> tuple[Tensor, GridMap]:
        """The image channels of the network's input.

        Returns:
            ``[C, X, Y, Z]`` float32 on the network's grid, and the map between that grid and the volume's.

        Raises:
            FileError: if the number of channels of the volume is not that of the plan.
        """
        grid = self.check(volume)
        image = _tensor(volume.data).reshape(volume.channels, *volume.shape).to(self.device)
        # Before resampling: metal and padding are cut off before they can be smeared over their neighbours.
        mode = "linear" if self.plan.fixed_shape is None else "area"
        return grid.image_to_network(normalise(image, self.plan.intensity), mode), grid

    def check(self, volume: Volume) -> GridMap:
        """The map between a volume's grid and the network's, if that volume can be brought there.

        Raises:
            FileError: as when it is called.
        """
        if volume.channels != self.plan.image_channels:
            raise FileError(
                f"the image has {volume.channels} channel(s) where the model expects {self.plan.image_channels}; "
                "give an image of the kind that it was trained on"
            )
        return self.grid(volume.shape, volume.affine)

    def grid(self, shape: Shape, affine: np.ndarray) -> GridMap:
        """The map between the grid of a file and the network's grid.

        Args:
            shape: voxels of the file's grid.
            affine: ``[4, 4]``, its voxels to RAS mm.
        """
        if self.plan.fixed_shape is not None:
            return fixed_grid(shape, affine, self.plan.fixed_shape)
        return network_grid(shape, affine, self.plan.spacing)

    def click(self, voxel: Sequence[int], grid: GridMap) -> np.ndarray:
        """``[3]`` int64, the network's voxel of a click at a voxel of the file's grid."""
        return voxel_to_network(voxel, grid, "nearest" if self.plan.fixed_shape is None else "truncate")

    def label(self, volume: Volume, grid: GridMap) -> Tensor:
        """A label map on the network's grid.

        Args:
            volume: file values. Values that the plan does not name become background, except the one to ignore.
            grid: the map that was returned with its image.

        Returns:
            ``[X, Y, Z]`` uint8 (int16 past 256 classes) class indices; voxels to ignore have the number of classes as
            their index.

        Raises:
            FileError: if the shape is not that of the image.
        """
        if volume.channels != 1 or volume.shape != grid.native_shape:
            raise FileError(
                f"the segmentation has shape {volume.data.shape} where its image has {grid.native_shape}; "
                "give one on the image's own grid"
            )
        values = volume.data.reshape(volume.shape)
        classes = _classes(self.plan.labels, values)
        num_classes = self.plan.labels.num_classes
        if self.plan.ignore is not None:
            classes[values == self.plan.ignore] = num_classes
            num_classes += 1
        return grid.labels_to_network(torch.from_numpy(classes).to(self.device), num_classes)

    def to_native(self, logits: Tensor, grid: GridMap) -> np.ndarray:
        """The decision on the file's grid, in file values.

        Args:
            logits: ``[num_classes, X, Y, Z]`` on the network's grid; or probabilities.
            grid: the map that was returned with the image.

        Returns:
            ``[*native_shape]``, the smallest unsigned type that holds the label values.
        """
        return self.plan.labels.to_values(grid.labels_to_native(logits).cpu().numpy())

    def probabilities_to_native(
        self, logits: Tensor, grid: GridMap, classes: Sequence[int] | None = None, shown: np.ndarray | None = None
    ) -> np.ndarray:
        """Probabilities on the file's grid; the largest of a voxel is that of the class that `to_native` gives.

        Args:
            logits: ``[num_classes, X, Y, Z]`` on the network's grid.
            grid: the map that was returned with the image.
            classes: class indices to return; all, unless given.
            shown: ``[*native_shape]`` class indices; where others are decided, the logit of these is raised until
                theirs is the largest probability.

        Returns:
            ``[len(classes), *native_shape]`` float32; outside of the network's grid the background has probability 1.
        """
        classes = list(range(len(logits)) if classes is None else classes)

        def chosen(probabilities: Tensor) -> Tensor:
            return probabilities[classes]

        return _from_probabilities(logits, grid, len(classes), chosen, shown, self.plan.merge.margin)

    def uncertainty_to_native(self, logits: Tensor, grid: GridMap) -> np.ndarray:
        """Entropy of the probabilities on the file's grid, as a share of its largest possible value.

        Args:
            logits: ``[num_classes, X, Y, Z]`` on the network's grid.
            grid: the map that was returned with the image.

        Returns:
            ``[*native_shape]`` float32 in [0, 1]; 0 outside of the network's grid. It is computed slab by slab, so that
            the probabilities of all classes are never held at once.
        """

        def entropy(probabilities: Tensor) -> Tensor:
            return -torch.xlogy(probabilities, probabilities).sum(0, keepdim=True) / math.log(len(probabilities))

        return _from_probabilities(logits, grid, 1, entropy)[0]


def _from_probabilities(
    logits: Tensor,
    grid: GridMap,
    channels: int,
    look: Callable[[Tensor], Tensor],
    shown: np.ndarray | None = None,
    margin: float = 0.0,
) -> np.ndarray:
    """``[channels, *native_shape]`` float32, what `look` returns for the probabilities of each slab.

    Where the class that is `shown` does not lead, its logit is raised first, until it leads by the margin.
    """
    result = np.empty((channels, *grid.native_shape), dtype=np.float32)
    oriented = result.transpose(0, *(1 + axis for axis in grid.permutation))
    background = torch.zeros(len(logits), device=logits.device)
    background[0] = 1
    for rows, part, taps in grid.native_slabs(logits):
        on_native = resample(part, taps)
        if shown is not None:
            leading = torch.from_numpy(shown.transpose(grid.permutation)[rows].astype(np.int64))
            on_native = _lead(on_native, leading.to(logits.device), margin)
        probabilities = on_native.softmax(0)
        for dim, each in enumerate(taps):
            if each.outside.any():
                beyond = upload(each.outside.nonzero()[:, 0], probabilities.device)
                probabilities.movedim((0, dim + 1), (-1, 0))[beyond] = background
        oriented[:, rows] = look(probabilities).cpu().numpy()
    return result


def _lead(logits: Tensor, classes: Tensor, margin: float) -> Tensor:
    """Logits ``[C, ...]`` in which these classes ``[...]`` lead, by a margin where another was as large, or nearly."""
    classes = classes[None]
    own, others = logits.gather(0, classes), logits.scatter(0, classes, -math.inf).amax(0, keepdim=True)
    return logits.scatter(0, classes, own.where(own - others > TIE, others + margin))


def _classes(labels: Labels, values: np.ndarray) -> np.ndarray:
    """Class indices, uint8 or int16, of file values ``[X, Y, Z]``."""
    dtype = np.uint8 if labels.num_classes <= 256 else np.int16
    if np.issubdtype(values.dtype, np.integer) and values.size and values.min() >= 0 and values.max() < 2**16:
        # A table is many times faster than a search, and takes no memory beside the result.
        return labels.to_classes(np.arange(int(values.max()) + 1)).astype(dtype)[values]
    # Slice by slice: the search works with int64, eight times the size of what it returns.
    classes = np.empty(values.shape, dtype=dtype)
    for index, plane in enumerate(values):
        classes[index] = labels.to_classes(plane)
    return classes


def _tensor(data: np.ndarray) -> Tensor:
    """A tensor that shares memory where torch can, which knows neither foreign byte orders nor negative strides."""
    data = data.astype(data.dtype.newbyteorder("="), copy=False)
    return torch.from_numpy(data if min(data.strides, default=0) >= 0 and data.flags.writeable else data.copy())
