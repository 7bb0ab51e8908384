"""The class of each interpolated voxel, computed only where neighbouring voxels differ.

Where all input voxels of an output voxel have the same class, their weighted mean has that class too, and nothing needs
to be interpolated. Only the voxels along boundaries are interpolated, in chunks. The result is the same as that of
interpolating every class everywhere, in less time and memory.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import product

import torch
from torch import Tensor

from deepedit.devices import upload
from deepedit.transforms.resample import Taps, row_major, slab_elements, slabs

# Shares of a voxel that differ by less are a tie that rounding has broken.
TIE = 1e-6

Corners = Iterator[tuple[Tensor, Tensor]]


def class_type(num_classes: int) -> torch.dtype:
    """The integer type that class indices are kept in."""
    return torch.uint8 if num_classes <= 256 else torch.int16


def decide_from_logits(logits: Tensor, taps: Sequence[Taps], out: Tensor) -> None:
    """The class with the largest interpolated logit; of several the lowest.

    Args:
        logits: ``[C, X, Y, Z]``.
        taps: for the three axes.
        out: ``[X', Y', Z']``, written in place; 0 outside of the input.
    """
    classes = torch.empty(logits.shape[1:], dtype=class_type(len(logits)), device=logits.device)
    step = max(1, slab_elements(logits.device) // logits[0, 0].numel())
    for start in range(0, len(classes), step):
        rows = slice(start, start + step)
        classes[rows] = lowest_argmax(logits[:, rows]).to(classes.dtype)
    flat = logits.flatten(1)

    def weigh(corners: Corners, count: int) -> Tensor:
        total = torch.zeros((len(flat), count), device=flat.device)
        for index, weight in corners:
            total.addcmul_(flat.gather(1, index.expand(len(flat), -1)).float(), weight)
        return lowest_argmax(total)

    _decide(classes, taps, weigh, len(logits), out)


def decide_from_labels(labels: Tensor, taps: Sequence[Taps], num_classes: int, out: Tensor) -> None:
    """The class with the largest share of each output voxel; of several the lowest.

    Args:
        labels: ``[X, Y, Z]`` integer class indices.
        taps: for the three axes.
        num_classes: background included.
        out: ``[X', Y', Z']``, written in place; 0 outside of the input.
    """
    labels = row_major(labels)
    flat = labels.view(-1)

    def weigh(corners: Corners, count: int) -> Tensor:
        shares = torch.zeros((num_classes, count), device=flat.device)
        for index, weight in corners:
            shares.scatter_add_(0, flat[index].long()[None], weight[None])
        return lowest_argmax(shares, TIE)

    _decide(labels, taps, weigh, num_classes, out)


def _decide(
    classes: Tensor, taps: Sequence[Taps], weigh: Callable[[Corners, int], Tensor], num_classes: int, out: Tensor
) -> None:
    """Copy the class where all taps of an output voxel agree, and let `weigh` decide where they do not."""
    copies = all(each.copies for each in taps)
    everywhere = [] if copies else [each.to(classes.device) for each in taps]
    at_once = max(1, slab_elements(classes.device) // num_classes)
    for rows, part, local in slabs(classes[None], taps):
        low = high = part[0]
        for dim, each in enumerate(local):
            if low is high and each.copies:
                low = high = low if each.identity else each.pick(low, dim, 0)
            else:
                low, high = _extreme(low, dim, each, torch.minimum), _extreme(high, dim, each, torch.maximum)
        decided = low.to(out.dtype)
        # Counting the undecided voxels waits for a GPU, so it is left out where there can be none.
        open_voxels = () if copies else (low != high).nonzero().split(at_once)
        for voxels in open_voxels:
            place = tuple(voxels.T)
            first = (place[0] + rows.start, *place[1:])
            decided[place] = weigh(_corners(first, everywhere), len(voxels)).to(out.dtype)
        for dim, each in enumerate(local):
            if each.outside.any():
                decided.index_fill_(dim, upload(each.outside.nonzero()[:, 0], decided.device), 0)
        out[rows] = decided


def _extreme(classes: Tensor, dim: int, taps: Taps, choose: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """The lowest or highest class among each output voxel's taps along one axis."""
    if taps.identity:
        return classes
    result = taps.pick(classes, dim, 0)
    for tap in range(1, taps.index.shape[1]):
        result = choose(result, taps.pick(classes, dim, tap))
    return result


def _corners(place: tuple[Tensor, ...], taps: Sequence[Taps]) -> Corners:
    """The input voxels of some output voxels: flat index and weight, one tap of all of them at a time.

    Args:
        place: the output voxels, ``[P]`` int64 for each axis.
    """
    steps = (taps[1].size * taps[2].size, taps[2].size, 1)
    # For each axis one column for each tap: the part of the flat index that comes from this axis, and the weight.
    x, y, z = (
        list(zip((each.index[where] * step).unbind(1), each.weight[where].unbind(1), strict=True))
        for each, where, step in zip(taps, place, steps, strict=True)
    )
    for (row, row_weight), (column, column_weight) in product(x, y):
        line, weight = row + column, row_weight * column_weight
        for index, last_weight in z:
            yield line + index, weight * last_weight


def lowest_argmax(values: Tensor, tolerance: float = 0.0) -> Tensor:
    """The first index of the largest value along the first axis; int16.

    On a CPU one class at a time: argmax along the first axis is an order of magnitude slower there.
    """
    if not tolerance and values.device.type != "cpu":
        return values.argmax(0).to(torch.int16)
    best = values[0].clone()
    index = torch.zeros(best.shape, dtype=torch.int16, device=values.device)
    for each in range(1, len(values)):
        index.masked_fill_(values[each] > (best + tolerance if tolerance else best), each)
        torch.maximum(best, values[each], out=best)
    return index
