"""Error regions, and chessboard distance within them."""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.library import custom_op

from deepedit.clicks.kernels.grid import BLOCK, blocks, line


@custom_op(
    "deepedit::error_codes",
    mutates_args=(),
    schema="(Tensor prediction, Tensor label, Tensor? rows, Tensor? right, bool narrow) -> Tensor",
)
def error_codes(prediction: Tensor, label: Tensor, rows: Tensor | None, right: Tensor | None, narrow: bool) -> Tensor:
    """Codes of regions: true class + 1 where a prediction is wrong (or right), else 0.

    Args:
        prediction, label: ``[B, ...]`` integer, contiguous.
        rows: ``[S]`` int64, the samples that are asked about; None: all.
        right: ``[S]`` int64, 1 for a sample whose right voxels are asked for; None: the wrong ones of all.
        narrow: whether the codes fit uint8; else int32.

    Returns:
        ``[S, ...]``.
    """
    codes = _new_codes(prediction, rows, narrow)
    voxels = math.prod(codes.shape[1:])
    if codes.numel():
        grid = (blocks(voxels), len(codes))
        _error_codes[grid](prediction, label, rows, right, codes, voxels, rows is None, right is None, BLOCK)
    return codes


@error_codes.register_fake
def _(prediction: Tensor, label: Tensor, rows: Tensor | None, right: Tensor | None, narrow: bool) -> Tensor:
    return _new_codes(prediction, rows, narrow)


def _new_codes(prediction: Tensor, rows: Tensor | None, narrow: bool) -> Tensor:
    samples = prediction.shape[0] if rows is None else rows.shape[0]
    return prediction.new_empty((samples, *prediction.shape[1:]), dtype=torch.uint8 if narrow else torch.int32)


@triton.jit
def _error_codes(
    prediction, label, rows, right, codes, voxels, ALL_ROWS: tl.constexpr, ALL_WRONG: tl.constexpr, BLOCK: tl.constexpr
):
    sample = tl.program_id(1).to(tl.int64)
    voxel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    known = voxel < voxels
    source = sample * voxels if ALL_ROWS else tl.load(rows + sample) * voxels
    predicted = tl.load(prediction + source + voxel, mask=known, other=0).to(tl.int32)
    true = tl.load(label + source + voxel, mask=known, other=0).to(tl.int32)
    asked = predicted != true
    if not ALL_WRONG:
        asked = asked != (tl.load(right + sample) != 0)
    tl.store(codes + sample * voxels + voxel, tl.where(asked, true + 1, 0), mask=known)


@custom_op(
    "deepedit::line_distance",
    mutates_args=(),
    schema="(Tensor codes, Tensor? within, int axis, int limit) -> Tensor",
)
def line_distance(codes: Tensor, within: Tensor | None, axis: int, limit: int) -> Tensor:
    """Chessboard distance to the nearest voxel of another code, with one axis more to be near along.

    The largest of the differences along the axes is separable: with D the distance within the axes so far,

        D'(p) = min over q on p's line along the new axis of max(|p - q|, D(q)), with 0 for D(q) if q has another code.

    A voxel farther away than the best so far cannot improve it, so the search along a line ends as soon as that is so
    for a whole block.

    Args:
        codes: ``[B, X, Y, Z]`` integer, contiguous; 0 is no region.
        within: ``[B, X, Y, Z]``, the distance within the axes so far; None for the first.
        axis: 0, 1 or 2 for x, y or z.
        limit: distance where there is no other code.

    Returns:
        ``[B, X, Y, Z]``, uint8 if that holds `limit`, else int16; 0 where the code is 0.
    """
    longer = _new_distance(codes, limit)
    side, inner, voxels = line(codes.shape, axis)
    if codes.numel():
        grid = (blocks(voxels), len(codes))
        _line_distance[grid](codes, within, longer, voxels, side, inner, limit, within is None, BLOCK)
    return longer


@line_distance.register_fake
def _(codes: Tensor, within: Tensor | None, axis: int, limit: int) -> Tensor:
    return _new_distance(codes, limit)


def _new_distance(codes: Tensor, limit: int) -> Tensor:
    return torch.empty_like(codes, dtype=torch.uint8 if limit <= 255 else torch.int16)


@triton.jit(do_not_specialize=["side", "limit"])
def _line_distance(codes, within, longer, voxels, side, inner, limit, FIRST: tl.constexpr, BLOCK: tl.constexpr):
    start = tl.program_id(1).to(tl.int64) * voxels
    voxel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    known = voxel < voxels
    place = voxel // inner % side
    code = tl.load(codes + start + voxel, mask=known, other=0)
    best = tl.where(code != 0, limit, 0)
    if not FIRST:
        best = tl.load(within + start + voxel, mask=known, other=0).to(tl.int32)
    away = 1
    while away < tl.max(best, 0):
        for direction in tl.static_range(2):
            if direction == 0:
                there = voxel - away * inner
                asks = (best > away) & (place >= away)
            else:
                there = voxel + away * inner
                asks = (best > away) & (place + away < side)
            same = tl.load(codes + start + there, mask=asks, other=0) == code
            if FIRST:
                found = tl.where(same, best, away)
            else:
                beyond = tl.load(within + start + there, mask=asks, other=0).to(tl.int32)
                found = tl.where(same, tl.maximum(beyond, away), away)
            best = tl.where(asks, tl.minimum(best, found), best)
        away += 1
    tl.store(longer + start + voxel, best, mask=known)
