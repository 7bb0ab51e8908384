"""How far each voxel is from clicks."""

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
    "(Tensor position, Tensor groups, int[] shape, float far) -> Tensor",
    lambda position, groups, shape, far: position.new_empty((*groups.shape[:2], *shape), dtype=torch.float32),
)
def click_distances(position: Tensor, groups: Tensor, shape: Sequence[int], far: float) -> Tensor:
    """The distance of each voxel to the nearest click of a group, see `deepedit.clicks.nearest.click_distances`.

    Args:
        position: ``[B, N, 3]`` int64, contiguous.
        groups: ``[G, B, N]`` bool, contiguous.
        shape: ``(X, Y, Z)``.
        far: the distance where a group has no click.
    """
    result = position.new_empty((*groups.shape[:2], *shape), dtype=torch.float32)
    voxels = math.prod(shape)
    if result.numel():
        grid = (blocks(voxels, MEASURED), len(groups) * len(position))
        numbers = groups.shape[2], len(position), voxels, *shape[1:], far * far
        _click_distances[grid](position, groups, result, *numbers, MEASURED)
    return result


@triton.jit(do_not_specialize=["count", "samples", "height", "depth", "farthest"])
def _click_distances(position, groups, result, count, samples, voxels, height, depth, farthest, MEASURED: tl.constexpr):
    row = tl.program_id(1)
    voxel = tl.program_id(0) * MEASURED + tl.arange(0, MEASURED)
    x, y, z = voxel // (height * depth), voxel // depth % height, voxel % depth
    nearest = tl.zeros([MEASURED], dtype=tl.float32) + farthest
    for click in range(0, count):
        if tl.load(groups + row * count + click) != 0:
            at = position + 3 * ((row % samples) * count + click)
            away_x = (x - tl.load(at).to(tl.int32)).to(tl.float32)
            away_y = (y - tl.load(at + 1).to(tl.int32)).to(tl.float32)
            away_z = (z - tl.load(at + 2).to(tl.int32)).to(tl.float32)
            nearest = tl.minimum(nearest, away_x * away_x + away_y * away_y + away_z * away_z)
    tl.store(result + row.to(tl.int64) * voxels + voxel, tl.sqrt(nearest), mask=voxel < voxels)
