"""Clicks as the network sees them: one channel for each class, in which every click is a Gaussian."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from deepedit.boxes import overlap
from deepedit.clicks import dispatch
from deepedit.clicks.types import Clicks

REACH_IN_SIGMAS = 5.0
"""A Gaussian is cut off where it has fallen to 4e-6."""

REFERENCE_REACH_IN_SIGMAS = 4.0

_SCRATCH_VOXELS = 1 << 22


def render_guidance(
    clicks: Clicks,
    shape: Sequence[int],
    num_classes: int,
    batch_size: int = 1,
    sigma: float | Sequence[float] = 2.0,
    spacing: Sequence[float] | None = None,
    combine: str = "max",
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    r"""Guidance channels of clicks.

    In the channel of its sample and class, a click at voxel p raises every voxel q to at least

    .. math:: \exp\Bigl(-\tfrac12 \sum_a \bigl((q_a - p_a) / \sigma_a\bigr)^2\Bigr),

    and clicks of one class are combined by their maximum, so that no click weakens another. Only voxels within five
    sigma of p along every axis are changed. A click outside of the volume contributes the tail that reaches into it.

    Args:
        clicks: on any device; those that are not valid are skipped.
        shape: (X, Y, Z) of the volumes.
        num_classes: C, number of classes, background included.
        batch_size: B, number of samples.
        sigma: width of the Gaussian in voxels, or in mm where `spacing` is given; one number, or one for each axis.
        spacing: mm between voxels along each axis.
        combine: ``"max"``, as above; or ``"sum-normalized"``, as in MONAI's ``AddGuidanceSignalDeepEditd``. There each
            channel is set to 1 at its clicks, smoothed by a Gaussian that is integrated over each voxel and cut off at
            four sigma, and then scaled to [0, 1]. A click outside of the volume is moved to its border, or left out
            if one of its indices is negative.
        dtype: a floating point type; default float32.
        device: of the result; default that of the clicks.

    Returns:
        ``[B, C, X, Y, Z]`` in [0, 1]; a channel without clicks is zeros.

    Raises:
        ValueError: if `combine` is neither, or if sigma or spacing is not positive.

    No host synchronisation on CUDA if the clicks are on that device already.
    """
    device = torch.device(device) if device is not None else clicks.batch.device
    clicks = clicks.to(device, non_blocking=True)
    widths = _sigma_in_voxels(sigma, spacing)
    size = (batch_size, num_classes, *shape)
    if combine == "max":
        dtype = dtype or torch.float32
        kernels = dispatch.kernels_for((1, *shape), device)
        if kernels:
            entries = (each.contiguous() for each in (clicks.batch, clicks.label, clicks.position, clicks.valid))
            return kernels.paint_guidance(*entries, size, widths, _reach(widths), dtype)
        paint = _paint_boxes if device.type == "cpu" else _scatter_boxes
        return paint(_zeros(size, dtype, device), clicks, widths)
    if combine == "sum-normalized":
        return _smoothed_ones(clicks, size, widths).to(dtype or torch.float32)
    raise ValueError(f'combine is "max" or "sum-normalized"; got {combine!r}')


def _sigma_in_voxels(sigma: float | Sequence[float], spacing: Sequence[float] | None) -> tuple[float, ...]:
    widths = (float(sigma),) * 3 if isinstance(sigma, (int, float)) else tuple(float(width) for width in sigma)
    steps = (1.0,) * 3 if spacing is None else tuple(float(step) for step in spacing)
    if len(widths) != 3 or len(steps) != 3 or not all(value > 0 and math.isfinite(value) for value in widths + steps):
        raise ValueError(f"sigma and spacing must be positive, one number an axis; got {sigma} and {spacing}")
    return tuple(width / step for width, step in zip(widths, steps, strict=True))


def _zeros(size: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    if device.type != "cpu":
        return torch.zeros(size, dtype=dtype, device=device)
    # numpy asks the system for pages that are zero already; torch would write each of them once more.
    memory = np.zeros(math.prod(size) * dtype.itemsize, dtype=np.uint8)
    return torch.from_numpy(memory).view(dtype).view(*size)


def _profiles(offsets: Sequence[Tensor], widths: Sequence[float]) -> list[Tensor]:
    """The Gaussian's factor along each axis at distances `offsets` (voxels) from its centre, float32."""
    return [torch.exp(-0.5 * (offset / width).square()).float() for offset, width in zip(offsets, widths, strict=True)]


def _reach(widths: Sequence[float]) -> list[int]:
    return [math.ceil(REACH_IN_SIGMAS * width) for width in widths]


def _paint_boxes(guidance: Tensor, clicks: Clicks, widths: Sequence[float]) -> Tensor:
    """The rendering on a CPU: for one click after another, in the box that its Gaussian reaches."""
    reach = _reach(widths)
    x, y, z = _profiles([torch.arange(-r, r + 1, dtype=torch.float64) for r in reach], widths)
    stamp = (x[:, None, None] * y[:, None] * z).to(guidance.dtype)
    rows = torch.cat([clicks.batch[:, None], clicks.label[:, None], clicks.position], dim=1)[clicks.valid]
    for target, part in _meetings(guidance, rows, stamp):
        torch.maximum(target, part, out=target)
    return guidance


def _meetings(guidance: Tensor, rows: Tensor, stamp: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """For each row (sample, class, voxel) the part of the guidance that a stamp centred there covers, and the matching
    part of the stamp; a stamp that misses the volume yields nothing."""
    for batch, label, *centre in rows.tolist():
        start = [index - side // 2 for index, side in zip(centre, stamp.shape, strict=True)]
        covered, part = overlap(start, stamp.shape, guidance.shape[2:])
        if all(span.start < span.stop for span in covered):
            yield guidance[(batch, label, *covered)], stamp[part]


def _scatter_boxes(guidance: Tensor, clicks: Clicks, widths: Sequence[float]) -> Tensor:
    """The rendering on a GPU: in the boxes of many clicks at once; voxels outside of the volume carry the weight 0."""
    sides = guidance.shape[2:]
    reach = _reach(widths)
    spans = [torch.arange(-r, r + 1, device=guidance.device) for r in reach]
    many = max(1, _SCRATCH_VOXELS // math.prod(len(span) for span in spans))
    strides = (math.prod(sides), sides[1] * sides[2], sides[2], 1)
    flat = guidance.view(-1)
    for start in range(0, len(clicks), many):
        part = slice(start, start + many)
        known = clicks.valid[part]
        channel = (clicks.batch[part] * guidance.shape[1] + clicks.label[part]) * known
        weight = known[:, None, None, None].float()
        index = (channel * strides[0])[:, None, None, None]
        for axis, profile in enumerate(_profiles([span.double() for span in spans], widths)):
            at = clicks.position[part, axis, None] + spans[axis]
            along = [len(at) if other == 0 else -1 if other == axis + 1 else 1 for other in range(4)]
            within = (at >= 0) & (at < sides[axis])
            index = index + (at.clamp(0, sides[axis] - 1) * strides[axis + 1]).view(along)
            weight = weight * (profile * within).view(along)
        flat.scatter_reduce_(0, index.reshape(-1), weight.reshape(-1).to(flat.dtype), "amax")
    return guidance


def _smoothed_ones(clicks: Clicks, size: Sequence[int], widths: Sequence[float]) -> Tensor:
    """The reference's rendering, float64."""
    keep = clicks.valid & (clicks.position >= 0).all(1)
    voxel = [axis.clamp(0, side - 1) for axis, side in zip(clicks.position.unbind(1), size[2:], strict=True)]
    kernels = [_reference_kernel(width, clicks.batch.device) for width in widths]
    signal = torch.zeros(size, dtype=torch.float64, device=clicks.batch.device)
    if signal.device.type == "cpu":
        # Two clicks on one voxel count once.
        rows = torch.stack((clicks.batch, clicks.label, *voxel), dim=1)[keep].unique(dim=0)
        x, y, z = kernels
        for target, part in _meetings(signal, rows, x[:, None, None] * y[:, None] * z):
            target += part
    else:
        signal.index_put_((clicks.batch * keep, clicks.label * keep, *voxel), keep.double(), accumulate=True)
        signal = signal.clamp_(max=1).flatten(0, 1)[:, None]
        for axis, kernel in enumerate(kernels):
            shape = [-1 if other == axis + 2 else 1 for other in range(5)]
            padding = [len(kernel) // 2 if other == axis else 0 for other in range(3)]
            # In float64: a GPU may round the factors of a float32 convolution to TF32.
            signal = F.conv3d(signal, kernel.view(shape), padding=padding)
        signal = signal.view(*size)
    low, high = signal.amin((2, 3, 4), keepdim=True), signal.amax((2, 3, 4), keepdim=True)
    return signal.sub_(low).div_((high - low).clamp(min=1e-20))


def _reference_kernel(width: float, device: torch.device) -> Tensor:
    """``[2 * tail + 1]`` float64: the share of a Gaussian that falls into each voxel around its centre."""
    tail = int(max(REFERENCE_REACH_IN_SIGMAS * width, 0.5) + 0.5)
    edges = torch.arange(-tail, tail + 2, dtype=torch.float64, device=device) - 0.5
    return 0.5 * torch.special.erf(edges / (width * math.sqrt(2))).diff()
