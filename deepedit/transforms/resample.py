"""Separable interpolation: every output voxel of an axis is a weighted sum of a few input voxels of that axis.

An output voxel is the mean of the (piecewise constant) input over a box. With a box one input voxel wide this is
exactly linear interpolation. With a box as wide as an output voxel it is the area-weighted mean, which is a low-pass
filter for downsampling. So one formula serves both, and passes from one to the other without a jump.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from deepedit.devices import upload

# Continuous coordinates closer than this to a voxel's edge count as on it.
EDGE = 1e-6


@dataclass(frozen=True)
class Taps:
    """The input voxels, of N along one axis, and their weights in each of M output voxels.

    Attributes:
        index: ``[M, K]`` int64 input voxels, clamped to the axis: the edge voxels extend outwards.
        weight: ``[M, K]`` float32, each row sums to 1.
        outside: ``[M]`` bool, output voxels whose centre lies outside of all input voxels; always on the CPU.
        size: N.
        identity: whether the output equals the input.
    """

    index: Tensor
    weight: Tensor
    outside: Tensor
    size: int
    identity: bool

    @classmethod
    def of(cls, index: Tensor, weight: Tensor, outside: Tensor, size: int) -> "Taps":
        """Taps on the CPU."""
        identity = index.shape == (size, 1) and torch.equal(index[:, 0], torch.arange(size))
        return cls(index, weight, outside, size, identity)

    @property
    def copies(self) -> bool:
        """Whether every output voxel is a copy of one input voxel."""
        return self.index.shape[1] == 1

    def pick(self, tensor: Tensor, dim: int, tap: int) -> Tensor:
        """The input voxels that the given tap of each output voxel takes, along axis `dim` of a tensor."""
        index = self.index[:, tap]
        if len(index) == 1 and index.device.type == "cpu":
            return tensor.narrow(dim, int(index), 1)
        if dim < tensor.ndim - 1:
            return tensor.index_select(dim, index)
        # Along the last axis index_select is several times slower than gather; along the others it copies rows.
        return tensor.gather(dim, index.expand(*tensor.shape[:-1], -1))

    def to(self, device: torch.device | str) -> "Taps":
        """The same taps for tensors on a device. Call `rows` on taps that are on the CPU: on a GPU it would wait."""
        return replace(self, index=upload(self.index, device), weight=upload(self.weight, device))

    def rows(self, start: int, stop: int) -> tuple["Taps", int, int]:
        """The taps of the output voxels from `start` up to `stop`, and the input voxels from first up to last that they
        need; the taps count from that first one."""
        index = self.index[start:stop]
        first, last = int(index.min()), int(index.max()) + 1
        return Taps.of(index - first, self.weight[start:stop], self.outside[start:stop], last - first), first, last


def make_taps(size: int, count: int, slope: float, intercept: float, width: float = 1.0, snap: bool = False) -> Taps:
    """Taps of `count` output voxels, the i-th of which has its centre at ``slope * i + intercept`` in input voxels.

    Args:
        size: number of input voxels.
        width: width of the box in input voxels; 0 takes the nearest voxel, 1 interpolates linearly.
        snap: widen each box outwards to whole input voxels, which get equal weights, as adaptive average pooling does.
    """
    centre = slope * torch.arange(count, dtype=torch.float64) + intercept
    outside = (centre < -0.5 - EDGE) | (centre > size - 0.5 + EDGE)
    low, high = centre - width / 2, centre + width / 2
    if snap:
        low, high = torch.floor(low + 0.5 + EDGE) - 0.5, torch.ceil(high + 0.5 - EDGE) - 0.5
    first = torch.floor(low + 0.5)
    voxel = first[:, None] + torch.arange(math.ceil(width) + (2 if snap else 1))
    if width == 0:
        weight = torch.ones_like(voxel)
    else:
        overlap = torch.minimum(high[:, None], voxel + 0.5) - torch.maximum(low[:, None], voxel - 0.5)
        weight = overlap.clamp_min(0) / (high - low)[:, None]
    used = (weight > 1e-9).any(0)
    weight = weight[:, used]
    index = voxel[:, used].clamp(0, size - 1).long()
    return Taps.of(index, (weight / weight.sum(1, keepdim=True)).float(), outside, size)


def resample(tensor: Tensor, taps: Sequence[Taps], fill: float = 0.0) -> Tensor:
    """Interpolate ``[C, X, Y, Z]`` along its three spatial axes, beginning with the one that shrinks most.

    Returns:
        ``[C, X', Y', Z']`` float32; `fill` where an output voxel lies outside of the input.
    """
    tensor = tensor.to(torch.float32)
    for axis in sorted(range(3), key=lambda axis: len(taps[axis].index) / taps[axis].size):
        tensor = _resample_axis(tensor, axis + 1, taps[axis], fill)
    return tensor


def slab_elements(device: torch.device) -> int:
    """Most float32 elements that a slab may hold: the bound on the memory needed besides input and output."""
    # On a CPU small enough to stay near the caches, large enough that the calls cost little; a GPU wants more at once.
    return 2**20 if device.type == "cpu" else 2**26


def slabs(
    tensor: Tensor, taps: Sequence[Taps], channels: int | None = None
) -> Iterator[tuple[slice, Tensor, tuple[Taps, Taps, Taps]]]:
    """Cut a resampling into slabs along the first spatial axis, each of at most `slab_elements` or of one row.

    Args:
        tensor: ``[C, X, Y, Z]``.
        taps: for the three axes, on the CPU.
        channels: how many channels the resampled slab will hold; as many as `tensor` has unless given.

    Yields:
        rows of the output, the part of `tensor` that they need, and the taps between the two, on the tensor's device.
    """
    middle, last_axis = (each.to(tensor.device) for each in taps[1:])
    count = len(taps[0].index)
    plane = (channels or tensor.shape[0]) * math.prod(max(each.size, len(each.index)) for each in taps[1:])
    step = max(1, slab_elements(tensor.device) // plane)
    for start in range(0, count, step):
        stop = min(start + step, count)
        local, first, last = taps[0].rows(start, stop)
        yield slice(start, stop), tensor[:, first:last], (local.to(tensor.device), middle, last_axis)


def row_major(tensor: Tensor) -> Tensor:
    """The tensor with its last axis contiguous in memory. In a file the first axis is, and axes are permuted."""
    strides = [abs(step) if size > 1 else math.inf for step, size in zip(tensor.stride(), tensor.shape, strict=True)]
    last = tensor.ndim - 1
    fastest = min(range(tensor.ndim), key=lambda axis: (strides[axis], -axis))
    if fastest == last or tensor.ndim < 3:
        return tensor.contiguous()
    # Copied plane by plane: several times faster than turning three axes at once.
    result = torch.empty(tensor.shape, dtype=tensor.dtype, device=tensor.device)
    between = max((axis for axis in range(last) if axis != fastest), key=lambda axis: tensor.shape[axis])
    for target, source in zip(result.unbind(between), tensor.unbind(between), strict=True):
        target.copy_(source)
    return result


def _resample_axis(tensor: Tensor, dim: int, taps: Taps, fill: float) -> Tensor:
    if not taps.identity:
        tensor = _weighted_sum(tensor, dim, taps)
    if taps.outside.any():
        tensor = tensor.index_fill(dim, upload(taps.outside.nonzero()[:, 0], tensor.device), fill)
    return tensor


def _weighted_sum(tensor: Tensor, dim: int, taps: Taps) -> Tensor:
    result = taps.pick(tensor, dim, 0)
    if taps.copies:
        return result
    shape = (-1, *[1] * (tensor.ndim - 1 - dim))
    result = result * taps.weight[:, 0].view(shape)
    for tap in range(1, taps.index.shape[1]):
        result.addcmul_(taps.pick(tensor, dim, tap), taps.weight[:, tap].view(shape))
    return result
