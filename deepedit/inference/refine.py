"""Answers that a second network refines around the clicks, see `deepedit.network.refiner`.

A network that is trained on whole patches moves the border of a label by a few voxels at a click, where the error that
was clicked is larger. The refiner has learned, from clicks on training cases, which voxels around a click belong to the
clicked class, given the image, the logits before and after, and where the clicks are. From the same clicks it is known
whether answers do any good farther away, as they do where a whole organ is missing. It corrects the automatic result
only: an initial segmentation has no logits that would tell how sure it is of a voxel.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from deepedit.boxes import overlap, three
from deepedit.clicks import Clicks, render_guidance
from deepedit.devices import upload
from deepedit.inference.sliding_window import Triple, cut
from deepedit.network.refiner import LARGEST_LEAD, RADIUS, SIDE, Refiner

NEAR_SIGMA, WIDE_SIGMA, EARLIER_SIGMA = 2.0, 6.0, 3.0
"""Widths of the Gaussians that show the newest click, twice, and the others, voxels."""

INSIDE = 2
"""The channel of a piece that is 1 where the window is and 0 beyond it."""

NewClick = tuple[int, int, Triple]
"""The row of a click among all clicks, its class index and its voxel."""


@torch.inference_mode()
def refined(
    refiner: Refiner, before: Tensor, answer: Tensor, image: Tensor, clicks: Clicks, newest: Sequence[NewClick]
) -> Tensor:
    """An answer in which the clicked class is raised or lowered, as the refiner decides, within `RADIUS` voxels of each
    click. Where several decide on a voxel, the last one counts. Farther away, it is the logits before the clicks if the
    refiner has found that answers do more harm than good there.

    Of clicks near each other, as those of a scribble, few are asked about: a click within `RADIUS` voxels of a later
    one of its class is left to that.

    Args:
        before: ``[C, X, Y, Z]`` logits of what was there.
        answer: ``[C, X, Y, Z]`` float32, the logits of the network.
        image: ``[K, X, Y, Z]`` float32, on the network's grid.
        clicks: all that count, on this grid; they may lie outside of it.
        newest: those that `answer` is the answer to, the newest one last.

    Returns:
        ``[C, X, Y, Z]`` float32. No host synchronisation.
    """
    after = torch.where(refiner.far > 0, answer, before.float())
    squared = distances(answer.device)
    for click in _apart(newest):
        _, label, voxel = click
        lead = refiner(piece(before, answer, image, clicks, click, squared)[None])[0]
        window, part = overlap(corner(voxel), (SIDE,) * 3, answer.shape[1:])
        own = answer[(slice(None), *window)].clone()
        own[label] = _highest_other(own, label) + lead[part]
        there = after[(slice(None), *window)]
        there.copy_(torch.where(squared[part] <= RADIUS**2, own, there))
    return after


def _apart(newest: Sequence[NewClick]) -> list[NewClick]:
    """The clicks, in order, without those that a later one reaches, which is among the result and has their class, or
    their voxel."""
    kept: list[NewClick] = []
    for click in reversed(newest):
        _, label, voxel = click
        if not any(voxel == at or (label == other and math.dist(voxel, at) <= RADIUS) for _, other, at in kept):
            kept.append(click)
    return kept[::-1]


def piece(before: Tensor, answer: Tensor, image: Tensor, clicks: Clicks, click: NewClick, squared: Tensor) -> Tensor:
    """``[channels, SIDE, SIDE, SIDE]``, what a refiner sees of a click; other arguments as of `refined`.

    Args:
        squared: see `distances`.
    """
    row, label, voxel = click
    num_classes, shape, start = len(answer), answer.shape[1:], corner(voxel)
    sides = (SIDE,) * 3
    inside = torch.zeros(1, *sides, device=answer.device)
    inside[(slice(None), *overlap(start, sides, shape)[1])] = 1
    here = cut(image, start, sides)
    x, y, z = (min(max(at, 0), side - 1) for at, side in zip(voxel, shape, strict=True))
    difference = (here - image[:, x, y, z].view(-1, 1, 1, 1)) * inside
    leads = [_lead(cut(logits, start, sides).float(), label) for logits in (answer, before)]
    gaussians = [torch.exp(squared / (-2 * sigma**2)) for sigma in (NEAR_SIGMA, WIDE_SIGMA)]
    others = clicks.valid.clone()
    others[row] = False
    origin = upload(start, answer.device)
    moved = Clicks(clicks.batch, clicks.label, clicks.position - origin, others)
    guidance = render_guidance(moved, sides, num_classes, sigma=EARLIER_SIGMA)[0]
    is_label = torch.zeros(num_classes, *sides, device=answer.device)
    is_label[label] = 1
    of_clicks = torch.stack([*gaussians, guidance[label], _highest_other(guidance, label)])
    return torch.cat([torch.stack(leads), inside, here, difference, of_clicks, is_label])


def corner(voxel: Sequence[int]) -> Triple:
    """The first voxel of the piece around a voxel."""
    return three(at - RADIUS for at in voxel)


def distances(device: torch.device | str) -> Tensor:
    """``[SIDE, SIDE, SIDE]`` float32, squared distances from the middle of a piece."""
    steps = (torch.arange(SIDE, device=device) - RADIUS).float().square()
    return steps[:, None, None] + steps[:, None] + steps


def _lead(logits: Tensor, label: int) -> Tensor:
    """By how much the logit of a class leads, as a share of half of `LARGEST_LEAD`, up to 2."""
    return ((logits[label] - _highest_other(logits, label)) / (LARGEST_LEAD / 2)).clamp(-2, 2)


def _highest_other(values: Tensor, label: int) -> Tensor:
    """``[...]``, of ``[C, ...]`` the highest but for that of a class."""
    return torch.cat([values[:label], values[label + 1 :]]).amax(0)
