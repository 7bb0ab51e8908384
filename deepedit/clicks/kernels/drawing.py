"""Voxels drawn at random in regions."""

import math
from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from deepedit.clicks.kernels import launch
from deepedit.clicks.kernels.launch import blocks, operator


@operator(
    "(Tensor codes, Tensor depth, Tensor seeds, Tensor? evenly, Tensor(a!) keys, Tensor(b!)? sizes) -> ()",
    lambda codes, depth, seeds, evenly, keys, sizes: None,
)
def draw(
    codes: Tensor, depth: Tensor, seeds: Tensor, evenly: Tensor | None, keys: Tensor, sizes: Tensor | None
) -> None:
    """Draw a voxel of every sample and class, with P ~ exp(depth) - 1, by the greatest of noisy scores (Gumbel-max).

    The noise is counter-based (Philox): it depends on the sample's seed and on the voxel alone.

    Args:
        codes: ``[S, X, Y, Z]``, class + 1 or 0, contiguous.
        depth: the same shape.
        seeds: ``[S]`` int64.
        evenly: ``[S]`` int64, 1 for a sample whose voxels are all equally likely; None: no sample is such.
        keys: ``[S, C]`` int64, `NO_VOXEL`; changed in place to the key of the drawn voxel.
        sizes: ``[S, C]`` int32, zeros; changed in place to the number of voxels of each class; None: not needed.
    """
    voxels, classes = math.prod(codes.shape[1:]), keys.shape[1]
    how = evenly is None, sizes is not None, launch.BLOCK
    if codes.numel():
        grid = (blocks(voxels, launch.BLOCK), len(codes))
        _draw[grid](codes, depth, seeds, evenly, keys, sizes, voxels, classes, *how)


@triton.jit(do_not_specialize=["classes"])
def _draw(
    codes,
    depth,
    seeds,
    evenly,
    keys,
    sizes,
    voxels,
    classes,
    NONE_EVENLY: tl.constexpr,
    COUNT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    sample = tl.program_id(1).to(tl.int64)
    voxel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    known = voxel < voxels
    code = tl.load(codes + sample * voxels + voxel, mask=known, other=0).to(tl.int32)
    highest = tl.minimum(tl.max(code, 0), classes)
    if highest > 0:
        lowest = tl.min(tl.where(code > 0, code, highest), 0)
        far = tl.load(depth + sample * voxels + voxel, mask=known, other=0).to(tl.float32)
        # log(exp(d) - 1), which itself would overflow.
        weight = far + tl.log(1 - tl.exp(-tl.maximum(far, 1)))
        if not NONE_EVENLY:
            weight = tl.where(tl.load(evenly + sample) != 0, 0.0, weight)
        key = _key(weight + _gumbel(tl.load(seeds + sample), BLOCK), voxel)
        for wanted in range(lowest, highest + 1):
            mine = code == wanted
            best = tl.max(tl.where(mine, key, -(2**63)), 0)
            if best != -(2**63):
                cell = sample * classes + wanted - 1
                tl.atomic_max(keys + cell, best)
                if COUNT:
                    tl.atomic_add(sizes + cell, tl.sum(mine.to(tl.int32), 0))


@triton.jit
def _gumbel(seed, BLOCK: tl.constexpr):
    """Standard Gumbel noise of a block's voxels, float32: -log(E), with E exponential.

    E is -log(1 - v) of a uniform v. The noise that wins belongs to the smallest of millions of values v, so that v has
    64 bits, and near 0 the logarithm is computed by its series. Four words of 32 bits serve a pair of voxels. With
    seven rounds Philox passes all tests of its authors (Salmon et al., Parallel random numbers: as easy as 1, 2, 3,
    2011).
    """
    pair = tl.program_id(0) * (BLOCK // 2) + tl.arange(0, BLOCK // 2)
    high, low, other_high, other_low = tl.randint4x(seed, pair, n_rounds=7)
    high, low = tl.interleave(high, other_high), tl.interleave(low, other_low)
    v = high.to(tl.uint32, bitcast=True).to(tl.float32) * 2.0**-32
    v += (low.to(tl.uint32, bitcast=True).to(tl.float32) + 0.5) * 2.0**-64
    v = tl.minimum(v, 1 - 2.0**-24)
    small = v * (1 + v * (0.5 + v * (1 / 3 + v * 0.25)))
    return -tl.log(tl.where(v < 0.01, small, -tl.log(1 - v)))


@triton.jit
def _key(score, voxel):
    """Score (float32) and voxel as one integer, greatest for the greatest score and, of several, the first voxel."""
    bits = score.to(tl.int32, bitcast=True)
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return (ordered.to(tl.int64) << 32) | (0x7FFFFFFF - voxel)


def _new_clicks(keys: Tensor, shape: Sequence[int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    count = keys.shape[0] * keys.shape[1]
    sample, label = (keys.new_empty(count) for _ in range(2))
    return sample, label, keys.new_empty((count, 3)), keys.new_empty(count, dtype=torch.bool)


@operator("(Tensor keys, int[] shape) -> (Tensor, Tensor, Tensor, Tensor)", _new_clicks)
def clicks_at_keys(keys: Tensor, shape: Sequence[int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The clicks that keys stand for.

    Args:
        keys: ``[S, C]``, see `NO_VOXEL`.
        shape: (X, Y, Z) of a sample.

    Returns:
        Sample ``[S * C]``, class ``[S * C]``, voxel ``[S * C, 3]`` and validity ``[S * C]``, as `Clicks` takes them.
    """
    clicks = _new_clicks(keys, shape)
    count, block = keys.numel(), 128
    if count:
        _clicks_at_keys[blocks(count, block),](keys, *clicks, count, keys.shape[1], *shape[1:], block)
    return clicks


@triton.jit(do_not_specialize=["count", "classes", "height", "depth"])
def _clicks_at_keys(keys, sample, label, position, valid, count, classes, height, depth, BLOCK: tl.constexpr):
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    known = row < count
    key = tl.load(keys + row, mask=known, other=-(2**63))
    drawn = key != -(2**63)
    voxel = tl.where(drawn, 0x7FFFFFFF - (key & 0x7FFFFFFF), 0)
    tl.store(sample + row, (row // classes).to(tl.int64), mask=known)
    tl.store(label + row, (row % classes).to(tl.int64), mask=known)
    tl.store(position + 3 * row, voxel // (height * depth), mask=known)
    tl.store(position + 3 * row + 1, voxel // depth % height, mask=known)
    tl.store(position + 3 * row + 2, voxel % depth, mask=known)
    tl.store(valid + row, drawn, mask=known)
