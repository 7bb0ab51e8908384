"""The rendering of clicks as guidance."""

import math
from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from deepedit.clicks.kernels.launch import blocks, operator

PAINTED = 4096
"""Voxels that a program paints."""

CLICKS = 32
"""Clicks that a program checks together for whether they reach its voxels."""


@operator(
    "(Tensor batch, Tensor label, Tensor position, Tensor valid, int[] size, float[] widths, int[] reach, "
    "ScalarType dtype) -> Tensor",
    lambda batch, label, position, valid, size, widths, reach, dtype: batch.new_empty(size, dtype=dtype),
)
def paint_guidance(
    batch: Tensor,
    label: Tensor,
    position: Tensor,
    valid: Tensor,
    size: Sequence[int],
    widths: Sequence[float],
    reach: Sequence[int],
    dtype: torch.dtype,
) -> Tensor:
    """Guidance of clicks, combined by their maximum; every voxel is written once, zeros included.

    Args:
        batch, label, position, valid: the attributes of `Clicks`, contiguous.
        size: (B, C, X, Y, Z) of the result.
        widths: sigma along each axis, voxels.
        reach: voxels along each axis beyond which a Gaussian is cut off.
        dtype: of the result.
    """
    guidance = batch.new_empty(size, dtype=dtype)
    _, classes, *sides = size
    voxels, scales = math.prod(sides), [1 / width for width in widths]
    if guidance.numel():
        grid = (blocks(voxels, PAINTED), size[0] * classes)
        numbers = len(batch), classes, voxels, *sides, *reach, *scales
        _paint_guidance[grid](batch, label, position, valid, guidance, *numbers, CLICKS, PAINTED, num_warps=8)
    return guidance


@triton.jit(do_not_specialize=["count", "classes", "width", "height", "depth", "reach_x", "reach_y", "reach_z"])
def _paint_guidance(
    batch,
    label,
    position,
    valid,
    guidance,
    count,
    classes,
    voxels,
    width,
    height,
    depth,
    reach_x,
    reach_y,
    reach_z,
    scale_x,
    scale_y,
    scale_z,
    CLICKS: tl.constexpr,
    PAINTED: tl.constexpr,
):
    channel = tl.program_id(1)
    first = tl.program_id(0) * PAINTED
    voxel = first + tl.arange(0, PAINTED)
    known = voxel < voxels
    # What a click must lie within to reach this block; a block that begins and ends in different slices has all of y.
    last = tl.minimum(first + PAINTED, voxels) - 1
    low_x, high_x = first // (height * depth) - reach_x, last // (height * depth) + reach_x
    one_slice = first // (height * depth) == last // (height * depth)
    low_y = tl.where(one_slice, first // depth % height, 0) - reach_y
    high_y = tl.where(one_slice, last // depth % height, height - 1) + reach_y
    value = tl.zeros([PAINTED], dtype=tl.float32)
    for start in range(0, count, CLICKS):
        click = start + tl.arange(0, CLICKS)
        here = click < count
        at_x = tl.load(position + 3 * click, mask=here, other=0)
        at_y = tl.load(position + 3 * click + 1, mask=here, other=0)
        at_z = tl.load(position + 3 * click + 2, mask=here, other=0)
        mine = tl.load(batch + click, mask=here, other=0) * classes + tl.load(label + click, mask=here, other=0)
        here &= (mine == channel) & (tl.load(valid + click, mask=here, other=0) != 0)
        here &= (at_x >= low_x) & (at_x <= high_x) & (at_y >= low_y) & (at_y <= high_y)
        here &= (at_z >= -reach_z) & (at_z < depth + reach_z)
        left = tl.where(here, click, count)
        nearest = tl.min(left, 0)
        # Here and not once, since three divisions a voxel take longer than to write it, and few programs are reached.
        if nearest < count:
            x, y, z = voxel // (height * depth), voxel // depth % height, voxel % depth
            while nearest < count:
                away_x = x - tl.load(position + 3 * nearest).to(tl.int32)
                away_y = y - tl.load(position + 3 * nearest + 1).to(tl.int32)
                away_z = z - tl.load(position + 3 * nearest + 2).to(tl.int32)
                within = (tl.abs(away_x) <= reach_x) & (tl.abs(away_y) <= reach_y) & (tl.abs(away_z) <= reach_z)
                in_sigmas_x, in_sigmas_y, in_sigmas_z = away_x * scale_x, away_y * scale_y, away_z * scale_z
                square = in_sigmas_x * in_sigmas_x + in_sigmas_y * in_sigmas_y + in_sigmas_z * in_sigmas_z
                value = tl.maximum(value, tl.where(within, tl.exp(-0.5 * square), 0))
                left = tl.where(left == nearest, count, left)
                nearest = tl.min(left, 0)
    tl.store(guidance + channel.to(tl.int64) * voxels + voxel, value, mask=known)
