"""Which voxels are nearer to some clicks than to others."""

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
    "(Tensor position, Tensor valid, Tensor newest, Tensor? claims, int[] shape, float softness, float far) -> Tensor",
    lambda position, valid, newest, claims, shape, softness, far: position.new_empty(
        (len(position), *shape), dtype=torch.float32
    ),
)
def ownership(
    position: Tensor,
    valid: Tensor,
    newest: Tensor,
    claims: Tensor | None,
    shape: Sequence[int],
    softness: float,
    far: float,
) -> Tensor:
    """How much the answer to the newest clicks counts at each voxel, see `deepedit.clicks.nearest.ownership`.

    Args:
        position: ``[B, N, 3]`` int64, contiguous.
        valid, newest: ``[B, N]`` bool, contiguous.
        claims: ``[B]`` float32, contiguous, or None.
        shape: ``(X, Y, Z)``.
        far: the distance of a claim that there is not.
    """
    weight = position.new_empty((len(position), *shape), dtype=torch.float32)
    voxels = math.prod(shape)
    if weight.numel():
        grid = (blocks(voxels, MEASURED), len(position))
        numbers = valid.shape[1], voxels, *shape[1:], softness, far
        _ownership[grid](position, valid, newest, claims, weight, *numbers, claims is not None, MEASURED)
    return weight


@triton.jit(do_not_specialize=["count", "height", "depth", "softness", "far"])
def _ownership(
    position,
    valid,
    newest,
    claims,
    weight,
    count,
    voxels,
    height,
    depth,
    softness,
    far,
    CLAIMED: tl.constexpr,
    MEASURED: tl.constexpr,
):
    sample = tl.program_id(1)
    voxel = tl.program_id(0) * MEASURED + tl.arange(0, MEASURED)
    x, y, z = voxel // (height * depth), voxel // depth % height, voxel % depth
    own = tl.zeros([MEASURED], dtype=tl.float32) + far * far
    others = own
    answered = 0
    for click in range(sample * count, sample * count + count):
        if tl.load(valid + click) != 0:
            away_x = (x - tl.load(position + 3 * click).to(tl.int32)).to(tl.float32)
            away_y = (y - tl.load(position + 3 * click + 1).to(tl.int32)).to(tl.float32)
            away_z = (z - tl.load(position + 3 * click + 2).to(tl.int32)).to(tl.float32)
            square = away_x * away_x + away_y * away_y + away_z * away_z
            new = tl.load(newest + click).to(tl.int32)
            own = tl.where(new != 0, tl.minimum(own, square), own)
            others = tl.where(new != 0, others, tl.minimum(others, square))
            answered = tl.maximum(answered, new)
    own, others = tl.where(answered != 0, tl.sqrt(own), 0.0), tl.sqrt(others)
    if CLAIMED:
        others = tl.minimum(others, tl.load(claims + sample))
    ahead = (others - own) / softness
    tl.store(weight + sample.to(tl.int64) * voxels + voxel, 1 / (1 + tl.exp(-ahead)), mask=voxel < voxels)
