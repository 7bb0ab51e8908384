"""Connected components, and the deepest voxel of the largest one."""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from deepedit.clicks.kernels import launch
from deepedit.clicks.kernels.drawing import clicks_at_keys
from deepedit.clicks.kernels.launch import NO_VOXEL, blocks, line, operator, rows_of_lines
from deepedit.clicks.kernels.regions import first_of_run


def largest_error_voxels(codes: Tensor) -> tuple[Tensor, Tensor]:
    """What `largest_error_click` finds, for every sample of a batch.

    Args:
        codes: ``[S, X, Y, Z]``, class + 1 where a prediction is wrong, else 0, contiguous.

    Returns:
        The voxels ``[S, 3]`` int64, and ``[S]`` bool, whether there is one; if not, the voxel is 0, 0, 0. The number of
        kernel launches does not depend on the shape of the components.
    """
    parents = run_starts(codes)
    join_runs(codes, parents)
    largest, deepest = codes.new_full((2, len(codes), 1), NO_VOXEL, dtype=torch.int64)
    measure_components(parents, torch.zeros_like(parents), largest)
    squares = None
    for axis in (2, 1, 0):
        squares = squared_distance(parents, largest, squares, axis)
    find_deepest(squares, deepest)
    _, _, position, valid = clicks_at_keys(deepest, codes.shape[1:])
    return position, valid


@operator("(Tensor codes) -> Tensor", lambda codes: torch.empty_like(codes, dtype=torch.int32))
def run_starts(codes: Tensor) -> Tensor:
    """For each voxel, the first voxel of its run of one code along z.

    Args:
        codes: ``[S, X, Y, Z]``, 0 for no region, contiguous.

    Returns:
        ``[S, X, Y, Z]`` int32, the index of that voxel in its sample; -1 where the code is 0.
    """
    parents = torch.empty_like(codes, dtype=torch.int32)
    side, _, voxels = line(codes.shape, 2)
    lines, rows, room = rows_of_lines(codes.shape)
    if codes.numel():
        _run_starts[blocks(lines, rows), len(codes)](codes, parents, voxels, lines, side, rows, room)
    return parents


@triton.jit(do_not_specialize=["lines"])
def _run_starts(codes, parents, voxels, lines, side, ROWS: tl.constexpr, SIDE: tl.constexpr):
    start = tl.program_id(1).to(tl.int64) * voxels
    row, place = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None], tl.arange(0, SIDE)[None, :]
    voxel, known = row * side + place, (row < lines) & (place < side)
    code = tl.load(codes + start + voxel, mask=known, other=0)
    first = row * side + first_of_run(codes + start, voxel, place, code, known)
    tl.store(parents + start + voxel, tl.where(code != 0, first, -1), mask=known)


@operator("(Tensor codes, Tensor(a!) parents) -> ()", lambda codes, parents: None)
def join_runs(codes: Tensor, parents: Tensor) -> None:
    """Join runs of one code that touch, so that a component becomes a tree whose root is its first voxel.

    Lock-free union-find: an atomic minimum makes the smaller of two roots the parent of the greater one. If another
    block has set that parent in the meantime, the parent that it had set is joined next. Parents only ever become
    smaller, so that a value that is read too early is still a voxel of the same component, and every loop ends.

    Args:
        codes: ``[S, X, Y, Z]``, contiguous.
        parents: of `run_starts`; changed in place.

    Source: the union of Komura, GPU-based cluster-labeling algorithm without the use of conventional iteration, 2015,
    in the form of Playne and Hawick, A new algorithm for parallel connected-component labelling on GPUs, 2018.
    """
    _, width, height, depth = codes.shape
    voxels = width * height * depth
    if codes.numel():
        grid = (blocks(voxels, launch.SEARCH), len(codes))
        _join_runs[grid](codes, parents, voxels, height, depth, launch.SEARCH, num_warps=1)


@triton.jit(do_not_specialize=["height", "depth"])
def _join_runs(codes, parents, voxels, height, depth, BLOCK: tl.constexpr):
    start = tl.program_id(1).to(tl.int64) * voxels
    voxel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    known = voxel < voxels
    code = tl.load(codes + start + voxel, mask=known, other=0)
    first_of_line = voxel % depth == 0
    follows = known & (code != 0) & (first_of_line == 0)
    follows &= tl.load(codes + start + voxel - 1, mask=follows, other=0) == code
    for axis in tl.static_range(2):
        inner = depth if axis == 0 else height * depth
        asks = known & (code != 0)
        asks &= (voxel // depth % height > 0) if axis == 0 else (voxel >= inner)
        asks &= tl.load(codes + start + voxel - inner, mask=asks, other=0) == code
        # Where both runs come from the voxel before, they touch there too and are joined by it.
        both = asks & follows
        asks &= (both & (tl.load(codes + start + voxel - inner - 1, mask=both, other=0) == code)) == 0
        one, other = voxel, voxel - inner
        while tl.max(asks.to(tl.int32), 0) > 0:
            one, other = _root(parents + start, one, asks), _root(parents + start, other, asks)
            upper, lower = tl.maximum(one, other), tl.minimum(one, other)
            asks &= upper != lower
            before = tl.atomic_min(parents + start + upper, lower, mask=asks)
            asks &= before != upper
            one, other = tl.where(asks, before, one), tl.where(asks, lower, other)


@triton.jit
def _root(parents, voxel, asks):
    parent = tl.load(parents + voxel, mask=asks, other=0)
    climbs = asks & (parent != voxel)
    while tl.max(climbs.to(tl.int32), 0) > 0:
        voxel = tl.where(climbs, parent, voxel)
        parent = tl.load(parents + voxel, mask=climbs, other=0)
        climbs &= parent != voxel
    return voxel


@operator("(Tensor(a!) parents, Tensor(b!) sizes, Tensor(c!) largest) -> ()", lambda parents, sizes, largest: None)
def measure_components(parents: Tensor, sizes: Tensor, largest: Tensor) -> None:
    """Point every voxel at its component's root, count the voxels of components, and find the largest.

    Args:
        parents: ``[S, X, Y, Z]`` int32, joined; changed in place to the root of each voxel, or -1.
        sizes: the same shape, zeros; changed in place to the component's number of voxels at each root.
        largest: ``[S, 1]`` int64, `NO_VOXEL`; changed in place to the key of the largest component (its size and its
            first voxel).
    """
    voxels = math.prod(parents.shape[1:])
    if parents.numel():
        grid = (blocks(voxels, launch.BLOCK), len(parents))
        _measure_components[grid](parents, sizes, largest, voxels, launch.BLOCK)


@triton.jit
def _measure_components(parents, sizes, largest, voxels, BLOCK: tl.constexpr):
    sample = tl.program_id(1).to(tl.int64)
    start = sample * voxels
    voxel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    left = tl.load(parents + start + voxel, mask=voxel < voxels, other=-1) >= 0
    root = _root(parents + start, voxel, left)
    tl.store(parents + start + voxel, root, mask=left)
    # One addition a component and block: voxel by voxel, a large component's would queue for one cell of memory. The
    # last addition to a component finds all others done, so the greatest key is that of the full sizes.
    best = tl.full([], -(2**63), dtype=tl.int64)
    current = tl.max(tl.where(left, root, -1), 0)
    while current >= 0:
        mine = left & (root == current)
        count = tl.sum(mine.to(tl.int32), 0)
        size = tl.atomic_add(sizes + start + current, count) + count
        best = tl.maximum(best, (size.to(tl.int64) << 32) | (0x7FFFFFFF - current))
        left &= mine == 0
        current = tl.max(tl.where(left, root, -1), 0)
    if best > 0:
        tl.atomic_max(largest + sample, best)


@operator(
    "(Tensor parents, Tensor largest, Tensor? within, int axis) -> Tensor",
    lambda parents, largest, within, axis: torch.empty_like(parents),
)
def squared_distance(parents: Tensor, largest: Tensor, within: Tensor | None, axis: int) -> Tensor:
    """Squared Euclidean distance from a component's voxels to all other voxels, taking one more axis into account.

    The squares along the axes add up, so that the distance is separable. With D the squared distance along the axes so
    far,

        D'(p) = min over q on p's line along the new axis of (p - q)^2 + D(q), with 0 for D(q) outside the component.

    Args:
        parents: of `measure_components`.
        largest: ``[S, 1]`` int64, the key of the component.
        within: ``[S, X, Y, Z]`` int32, the squared distance along the axes so far; None for the first axis.
        axis: 0, 1 or 2 for x, y or z. The outside of the volume counts as outside of the component.

    Returns:
        ``[S, X, Y, Z]`` int32, in voxels squared; 0 outside of the component.
    """
    squares = torch.empty_like(parents)
    side, inner, voxels = line(parents.shape, axis)
    if parents.numel():
        grid = (blocks(voxels, launch.SEARCH), len(parents))
        first, block = within is None, launch.SEARCH
        _squared_distance[grid](parents, largest, within, squares, voxels, side, inner, first, block, num_warps=1)
    return squares


@triton.jit(do_not_specialize=["side"])
def _squared_distance(parents, largest, within, squares, voxels, side, inner, FIRST: tl.constexpr, BLOCK: tl.constexpr):
    sample = tl.program_id(1).to(tl.int64)
    start = sample * voxels
    voxel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    known = voxel < voxels
    place = voxel // inner % side
    key = tl.load(largest + sample)
    # Where there is no component, its root is none of the voxels'.
    root = tl.where(key > 0, 0x7FFFFFFF - (key & 0x7FFFFFFF), -2).to(tl.int32)
    mine = tl.load(parents + start + voxel, mask=known, other=-1) == root
    best = tl.where(mine, 2**30, 0)
    if not FIRST:
        best = tl.load(within + start + voxel, mask=known, other=0)
    away = 1
    while away * away < tl.max(best, 0):
        for direction in tl.static_range(2):
            there = voxel - away * inner if direction == 0 else voxel + away * inner
            exists = place >= away if direction == 0 else place + away < side
            asks = best > away * away
            if FIRST:
                same = tl.load(parents + start + there, mask=asks & exists, other=-1) == root
                found = tl.where(same, best, away * away)
            else:
                found = away * away + tl.load(within + start + there, mask=asks & exists, other=0)
            best = tl.where(asks, tl.minimum(best, found), best)
        away += 1
    tl.store(squares + start + voxel, best, mask=known)


@operator("(Tensor squares, Tensor(a!) deepest) -> ()", lambda squares, deepest: None)
def find_deepest(squares: Tensor, deepest: Tensor) -> None:
    """The voxel of the greatest depth; of several the first.

    Args:
        squares: ``[S, X, Y, Z]`` int32, contiguous.
        deepest: ``[S, 1]`` int64, `NO_VOXEL`; changed in place to that voxel's key where any depth is above 0.
    """
    voxels = math.prod(squares.shape[1:])
    if squares.numel():
        grid = (blocks(voxels, launch.BLOCK), len(squares))
        _find_deepest[grid](squares, deepest, voxels, launch.BLOCK)


@triton.jit
def _find_deepest(squares, deepest, voxels, BLOCK: tl.constexpr):
    sample = tl.program_id(1).to(tl.int64)
    voxel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    square = tl.load(squares + sample * voxels + voxel, mask=voxel < voxels, other=0)
    if tl.max(square, 0) > 0:
        key = (square.to(tl.int64) << 32) | (0x7FFFFFFF - voxel)
        tl.atomic_max(deepest + sample, tl.max(key, 0))
