"""Which voxels lie near clicks."""

import math
from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from deepedit.clicks.kernels.launch import blocks, operator

MEASURED = 1024
"""Voxels that a program measures."""


@operator(
    "(Tensor position, Tensor valid, Tensor reach, int[] shape, float softness) -> Tensor",
    lambda position, valid, reach, shape, softness: position.new_empty((len(position), *shape), dtype=torch.float32),
)
def within_reach(position: Tensor, valid: Tensor, reach: Tensor, shape: Sequence[int], softness: float) -> Tensor:
    """How far each voxel lies within reach of its nearest click, see `deepedit.clicks.nearest.within_reach`.

    Args:
        position: ``[B, N, 3]`` int64, contiguous.
        valid: ``[B, N]`` bool, contiguous.
        reach: ``[B]`` float32, contiguous.
        shape: ``(X, Y, Z)``.
    """
    weight = position.new_empty((len(position), *shape), dtype=torch.float32)
    voxels = math.prod(shape)
    if weight.numel():
        grid = (blocks(voxels, MEASURED), len(position))
        _within_reach[grid](
            position, valid, reach, weight, valid.shape[1], voxels, *shape[1:], softness, MEASURED=MEASURED
        )
    return weight


@triton.jit(do_not_specialize=["count", "height", "depth", "softness"])
def _within_reach(position, valid, reach, weight, count, voxels, height, depth, softness, MEASURED: tl.constexpr):
    sample = tl.program_id(1)
    voxel = tl.program_id(0) * MEASURED + tl.arange(0, MEASURED)
    x, y, z = voxel // (height * depth), voxel // depth % height, voxel % depth
    nearest = tl.zeros([MEASURED], dtype=tl.float32) + float("inf")
    clicked = 0
    for click in range(sample * count, sample * count + count):
        if tl.load(valid + click) != 0:
            away_x = (x - tl.load(position + 3 * click).to(tl.int32)).to(tl.float32)
            away_y = (y - tl.load(position + 3 * click + 1).to(tl.int32)).to(tl.float32)
            away_z = (z - tl.load(position + 3 * click + 2).to(tl.int32)).to(tl.float32)
            nearest = tl.minimum(nearest, away_x * away_x + away_y * away_y + away_z * away_z)
            clicked = 1
    distance = tl.where(clicked != 0, tl.sqrt(nearest), 0.0)
    ahead = (tl.load(reach + sample) - distance) / softness
    tl.store(weight + sample.to(tl.int64) * voxels + voxel, 1 / (1 + tl.exp(-ahead)), mask=voxel < voxels)
