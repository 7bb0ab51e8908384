"""Error regions, and the chessboard distance within them."""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from deepedit.clicks.kernels import launch
from deepedit.clicks.kernels.launch import blocks, line, operator, rows_of_lines


def _new_codes(prediction: Tensor, label: Tensor, rows: Tensor | None, right: Tensor | None, narrow: bool) -> Tensor:
    samples = prediction.shape[0] if rows is None else rows.shape[0]
    return prediction.new_empty((samples, *prediction.shape[1:]), dtype=torch.uint8 if narrow else torch.int32)


@operator("(Tensor prediction, Tensor label, Tensor? rows, Tensor? right, bool narrow) -> Tensor", _new_codes)
def error_codes(prediction: Tensor, label: Tensor, rows: Tensor | None, right: Tensor | None, narrow: bool) -> Tensor:
    """Codes of the regions where a prediction is wrong (or right): true class + 1 there, else 0.

    Args:
        prediction, label: ``[B, ...]`` integer, contiguous.
        rows: ``[S]`` int64, indices of the samples to work on; None: all samples.
        right: ``[S]`` int64, 1 for a sample whose right voxels are wanted, 0 for its wrong ones; None: 0 for all.
        narrow: whether the codes fit uint8; else int32.

    Returns:
        ``[S, ...]``.
    """
    codes = _new_codes(prediction, label, rows, right, narrow)
    voxels = math.prod(codes.shape[1:])
    if codes.numel():
        grid = (blocks(voxels, launch.BLOCK), len(codes))
        _error_codes[grid](prediction, label, rows, right, codes, voxels, rows is None, right is None, launch.BLOCK)
    return codes


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


def _new_distance(codes: Tensor, limit: int) -> Tensor:
    return torch.empty_like(codes, dtype=torch.uint8 if limit <= 255 else torch.int16)


@operator("(Tensor codes, int limit) -> Tensor", _new_distance)
def run_distance(codes: Tensor, limit: int) -> Tensor:
    """Distance along z to the nearest voxel of another code.

    Args:
        codes: ``[B, X, Y, Z]`` integer, contiguous; 0 is no region.
        limit: the distance along a line that has no other code.

    Returns:
        ``[B, X, Y, Z]``, uint8 if that holds `limit`, else int16; 0 where the code is 0.
    """
    distance = _new_distance(codes, limit)
    side, _, voxels = line(codes.shape, 2)
    lines, rows, room = rows_of_lines(codes.shape)
    if codes.numel():
        _run_distance[blocks(lines, rows), len(codes)](codes, distance, voxels, lines, side, limit, rows, room)
    return distance


@triton.jit(do_not_specialize=["lines", "limit"])
def _run_distance(codes, distance, voxels, lines, side, limit, ROWS: tl.constexpr, SIDE: tl.constexpr):
    start = tl.program_id(1).to(tl.int64) * voxels
    row, place = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None], tl.arange(0, SIDE)[None, :]
    voxel, known = row * side + place, (row < lines) & (place < side)
    code = tl.load(codes + start + voxel, mask=known, other=0)
    first = first_of_run(codes + start, voxel, place, code, known)
    has_next = known & (place + 1 < side)
    ends = has_next & (tl.load(codes + start + voxel + 1, mask=has_next, other=0) != code)
    last = tl.associative_scan(tl.where(ends, place, SIDE), 1, _lesser, reverse=True)
    nearest = tl.minimum(tl.where(first > 0, place - first + 1, limit), tl.where(last < SIDE, last - place + 1, limit))
    tl.store(distance + start + voxel, tl.where(code != 0, nearest, 0), mask=known)


@triton.jit
def first_of_run(codes, voxel, place, code, known):
    """Along z, where each voxel's run of one code begins."""
    has_previous = known & (place > 0)
    begins = has_previous & (tl.load(codes + voxel - 1, mask=has_previous, other=0) != code)
    return tl.associative_scan(tl.where(begins, place, 0), 1, _greater)


@triton.jit
def _greater(one, other):
    return tl.maximum(one, other)


@triton.jit
def _lesser(one, other):
    return tl.minimum(one, other)


@operator(
    "(Tensor codes, Tensor within, int axis) -> Tensor",
    lambda codes, within, axis: torch.empty_like(within),
)
def line_distance(codes: Tensor, within: Tensor, axis: int) -> Tensor:
    """Chessboard distance to the nearest voxel of another code, taking one more axis into account.

    The largest of the differences along the axes is separable. With D the distance along the axes so far,

        D'(p) = min over q on p's line along the new axis of max(|p - q|, D(q)), with 0 for D(q) if q has another code.

    A voxel q that is farther away than the least distance found so far cannot lessen it. So the search along a line
    ends as soon as this holds for a whole block.

    Args:
        codes: ``[B, X, Y, Z]`` integer, contiguous; 0 is no region.
        within: ``[B, X, Y, Z]``, the distance along the axes so far.
        axis: 0, 1 or 2 for x, y or z.

    Returns:
        ``[B, X, Y, Z]`` of the type of `within`; 0 where the code is 0.
    """
    longer = torch.empty_like(within)
    side, inner, voxels = line(codes.shape, axis)
    if codes.numel():
        grid = (blocks(voxels, launch.SEARCH), len(codes))
        _line_distance[grid](codes, within, longer, voxels, side, inner, launch.SEARCH, num_warps=1)
    return longer


@triton.jit(do_not_specialize=["side"])
def _line_distance(codes, within, longer, voxels, side, inner, BLOCK: tl.constexpr):
    start = tl.program_id(1).to(tl.int64) * voxels
    voxel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    known = voxel < voxels
    place = voxel // inner % side
    code = tl.load(codes + start + voxel, mask=known, other=0)
    best = tl.load(within + start + voxel, mask=known, other=0).to(tl.int32)
    step = 1
    while step < tl.minimum(tl.max(best, 0), side):
        # Several steps at a time, asking whether to go on only then: that takes longer than a step.
        for further in tl.static_range(3):
            away = step + further
            for direction in tl.static_range(2):
                there = voxel - away * inner if direction == 0 else voxel + away * inner
                asks = (best > away) & ((place >= away) if direction == 0 else (place + away < side))
                same = tl.load(codes + start + there, mask=asks, other=0) == code
                beyond = tl.load(within + start + there, mask=asks, other=0).to(tl.int32)
                found = tl.where(same, tl.maximum(beyond, away), away)
                best = tl.where(asks, tl.minimum(best, found), best)
        step += 3
    tl.store(longer + start + voxel, best, mask=known)
