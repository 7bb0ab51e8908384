"""Changed copies of a true segmentation: one with errors to correct, or one as another annotator would draw it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from deepedit.devices import upload

BORDER_SHIFT = 0.2
"""Standard deviation of the shift of the borders between labels by another annotator, in radii of a label."""

SURFACE_BEND = 0.1
"""Greatest standard deviation of the bend of the outer surface by another annotator, in radii of a label."""

MOST_KNOTS = 16
"""Most knots of a bend along each axis. Without a limit, labels much smaller than their volume would need very many."""


@dataclass(frozen=True)
class Outline:
    """What the host must know about a label map to change it without waiting for a GPU.

    Attributes:
        present: class indices of its labels.
        radius: radius in voxels of a ball with the mean volume of the labels; 0 if there are no labels.
        across: the axis along which most borders between two labels are crossed.
    """

    present: tuple[int, ...]
    radius: float
    across: int


def outline_of(label: Tensor, num_classes: int) -> Outline:
    """The outline of a label map ``[X, Y, Z]``; if the map is on a GPU, the host waits for it. Class indices from
    `num_classes` on stand for unknown voxels and count as background."""
    counts = torch.bincount(label.flatten())
    if len(counts) > num_classes:
        label, counts = label.masked_fill(label >= num_classes, 0), counts[:num_classes]
    present = tuple(index for index, count in enumerate(counts.tolist()) if index and count)
    volume = int(counts[1:].sum()) / max(len(present), 1)
    crossed = torch.stack([_crossed(label, axis) for axis in range(3)])
    return Outline(present, (3 * volume / (4 * math.pi)) ** (1 / 3), int(crossed.argmax()))


def corrupt_segmentation(
    label: Tensor, num_classes: int, severity: float, generator: torch.Generator, outline: Outline | None = None
) -> Tensor:
    """A copy of a label map with errors of every kind.

    The label map is bent and shifted, some labels are grown or shrunk, pieces are cut out or given to another label,
    and islands are added. All lengths grow with the size of the labels and with `severity`: at 0 nothing changes, at 1
    about half of a compact label is wrong. With the generator in the same state, every severity gives the same errors
    in another extent.

    Args:
        label: ``[X, Y, Z]`` class indices.
        num_classes: background included.
        severity: in [0, 1].
        generator: on the CPU.
        outline: outline of the label map, or of a similar one; computed unless given. If it is given, the host waits
            for no device.

    Returns:
        ``[X, Y, Z]`` of the same type.
    """
    draw = torch.rand(5, generator=generator).tolist()
    field = torch.randn(3, *(5,) * 3, generator=generator)
    shift = torch.randn(3, generator=generator)
    pieces = torch.rand(3, 6, generator=generator).tolist()
    outline = outline or outline_of(label, num_classes)
    present, radius = outline.present, outline.radius
    if not present or severity <= 0:
        return label.clone()
    bend = 0.5 * severity * radius * draw[0] * field
    moved = _displace(label, bend + 0.35 * severity * radius * draw[1] * shift.view(3, 1, 1, 1))
    steps = round(0.5 * severity * radius * draw[2])
    if steps and draw[3] < 0.6:
        grown = present[int(draw[4] * len(present))]
        moved = _grow(moved, grown, steps) if draw[3] < 0.3 else _shrink(moved, grown, steps)
    _paint_balls(moved, label, 0.9 * severity * radius, [piece for piece in pieces if piece[0] < 0.4], num_classes)
    return moved


def redraw_borders(
    label: Tensor, num_classes: int, generator: torch.Generator, outline: Outline | None = None
) -> Tensor:
    """A copy of a label map as another, equally good annotator might have drawn it.

    Where one label ends and the next begins is often a convention that the image does not show, such as a certain
    slice. Such a border is moved far and as a whole, so that a plane border stays plane. The outer surface, which the
    image does show, stays or is bent a little. Lengths grow with the size of the labels.

    Args:
        label: ``[X, Y, Z]`` class indices.
        num_classes: background included.
        generator: on the CPU.
        outline: as for `corrupt_segmentation`.

    Returns:
        ``[X, Y, Z]`` of the same type.
    """
    draw = float(torch.rand((), generator=generator))
    shift = float(torch.randn((), generator=generator))
    seed = int(torch.randint(2**62, (), generator=generator))
    outline = outline or outline_of(label, num_classes)
    if not outline.present:
        return label.clone()
    radius = outline.radius
    # The knots are about a radius apart, so that a bend moves a whole patch of the surface. They are drawn by a
    # generator of their own: their number depends on the label, and what `generator` draws next must not.
    knots = [min(max(round(side / radius), 1) + 1, MOST_KNOTS) for side in label.shape]
    bend = torch.randn(3, *knots, generator=torch.Generator().manual_seed(seed))
    moved = _move_borders(label, outline.across, round(BORDER_SHIFT * radius * shift))
    # Half of the annotators draw the same surface, which is what the image shows best.
    surface = _displace(moved, SURFACE_BEND * radius * max(2 * draw - 1, 0.0) * bend)
    return torch.where((surface > 0) & (moved > 0), moved, surface)


def _move_borders(label: Tensor, axis: int, count: int) -> Tensor:
    """The label map with the borders between its labels moved by `count` voxels along an axis."""
    if count == 0:
        return label
    # What is read beyond the surface is the label beside it in the same slice, so that a border along slices stays one
    # up to the surface. A rim of zeros lets neighbours be read as views of the same memory.
    now, then = F.pad(label, (1,) * 6), F.pad(label, (1,) * 6)
    for _ in range(abs(count) + 1):
        for across in {0, 1, 2} - {axis}:
            filled = now > 0
            beside = torch.where(_inner(filled, across, 1), _inner(now, across, 1), _inner(now, across, -1))
            torch.where(_inner(filled), _inner(now), beside, out=_inner(then))
            now, then = then, now
    source = _shift(_inner(now), axis, count)
    return torch.where((label > 0) & (source > 0), source, label)


def _inner(padded: Tensor, axis: int = 0, step: int = 0) -> Tensor:
    """A padded map without its rim, or moved by a voxel along an axis."""
    starts = [1 - step * (dim == axis) for dim in range(3)]
    return padded[tuple(slice(start, start + side - 2) for start, side in zip(starts, padded.shape, strict=True))]


def _crossed(label: Tensor, axis: int) -> Tensor:
    """Number of pairs of neighbours along an axis that have two different labels."""
    near, far = label.narrow(axis, 0, label.shape[axis] - 1), label.narrow(axis, 1, label.shape[axis] - 1)
    return ((near > 0) & (far > 0) & (near != far)).sum()


def _shift(label: Tensor, axis: int, count: int) -> Tensor:
    """The label map moved along an axis by `count` voxels, which is not 0; new voxels at the border are 0."""
    size, many = label.shape[axis], min(abs(count), label.shape[axis])
    moved = label.roll(count, axis)
    moved.narrow(axis, 0 if count > 0 else size - many, many).zero_()
    return moved


def _displace(label: Tensor, field: Tensor) -> Tensor:
    """The label map read at displaced voxels; `field` is ``[3, x, y, z]`` in voxels on a coarse grid."""
    shape = label.shape
    moved = F.interpolate(upload(field[None], label.device), size=shape, mode="trilinear", align_corners=True)[0]
    last = torch.tensor(shape) - 1
    *voxels, last = upload(torch.cat([*map(torch.arange, shape), last]), label.device).split([*shape, 3])
    for axis, (along, voxel) in enumerate(zip(moved, voxels, strict=True)):
        along += voxel.view(-1, *[1] * (2 - axis))
    moved = moved.round_().clamp_(min=0).minimum(last.view(3, 1, 1, 1))
    return label[tuple(moved.long())]


def _grow(label: Tensor, index: int, steps: int) -> Tensor:
    mask = _dilate(label == index, steps)
    return torch.where(mask, torch.full_like(label, index), label)


def _shrink(label: Tensor, index: int, steps: int) -> Tensor:
    rim = (label == index) & _dilate(label != index, steps)
    return torch.where(rim, torch.zeros_like(label), label)


def _dilate(mask: Tensor, steps: int) -> Tensor:
    return F.max_pool3d(mask[None, None].float(), 2 * steps + 1, stride=1, padding=steps)[0, 0] > 0


def _paint_balls(
    target: Tensor, truth: Tensor, largest: float, balls: Sequence[Sequence[float]], num_classes: int
) -> None:
    """Paint balls around random foreground voxels of `truth` into `target`, in place, each ball with some class.

    Nothing is painted if there is no foreground.

    Args:
        largest: radius of the largest possible ball, voxels.
        balls: six numbers in [0, 1] for each ball: the first is unused, the others are for its size, its place (three)
            and its class.
    """
    if not balls:
        return
    device, (_, height, length) = target.device, target.shape
    # Foreground voxels are numbered from 1 on; that of a drawn rank is the first with more than so many up to it.
    rank = (truth > 0).flatten().cumsum(0)
    drawn = [place for _, _, place, *_ in balls]
    # Half of the balls stand off by up to twice their radius, so that islands appear as well as holes.
    offset = [
        [(2 * far - 1) * 2 * (largest * size) * (axis == int(which * 3)) for _, size, _, far, which, _ in balls]
        for axis in range(3)
    ]
    drawn, offset = upload([drawn, *offset], device, torch.float64).split([1, 3])
    cell = torch.searchsorted(rank, (drawn[0] * rank[-1]).long(), right=True)
    centre = torch.stack((cell // (height * length), cell // length % height, cell % length))
    centre = (centre + offset).float().masked_fill_(rank[-1] == 0, math.inf)
    sides = list(target.shape)
    axis, voxel = upload(
        torch.stack((torch.arange(3).repeat_interleave(torch.tensor(sides)), torch.cat([*map(torch.arange, sides)]))),
        device,
    )
    squares = ((voxel[:, None] - centre[axis]) ** 2).T.split(sides, dim=1)
    for (_, size, *_, value), x, y, z in zip(balls, *squares, strict=True):
        distance = x[:, None, None] + y[:, None] + z
        target.masked_fill_(distance <= (largest * size) ** 2, int(value * num_classes))
