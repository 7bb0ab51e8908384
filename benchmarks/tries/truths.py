"""Other truths for samples with clicks: how another annotator might have drawn them."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.tries.results import Networks
from deepedit.devices import upload
from deepedit.training.batch import RollingBatch
from deepedit.transforms import corrupt

MOST_KNOTS = 16

BLUR = 1.5
"""Standard deviation, in voxels, of the blur by whose level sets a label is grown."""

LARGER = (-0.3, 0.4)
"""Smallest and largest change of a label's volume by a level set of the logits, as a share."""

Redraw = Callable[[RollingBatch, int, torch.Generator], Tensor | None]
"""From the samples, a slot and its generator: another truth ``[X, Y, Z]``; None where this way has none."""


def redraw_by(*ways: Redraw) -> None:
    """Let truths be redrawn in other ways, one of them at a time."""

    def redraw(samples: RollingBatch, slot: int) -> None:
        generator = samples.generators[slot]
        chosen, which = torch.rand(2, generator=generator).tolist()
        if chosen >= samples.config.redraw_probability:
            return
        truth, present = samples.label[slot], samples.outlines[slot].present
        drawn = ways[int(which * len(ways))](samples, slot, generator) if present else None
        if drawn is None:
            drawn = plain(samples, slot, generator)
        samples.label[slot] = drawn.where(truth < samples.num_classes, truth) if samples.ignoring else drawn

    RollingBatch._redraw = redraw


def plain(samples: RollingBatch, slot: int, generator: torch.Generator) -> Tensor:
    """As the package does."""
    known = samples._known(samples.label[slot])
    return corrupt.redraw_borders(known, samples.num_classes, generator, samples.outlines[slot])


def bent(deviation: float) -> Redraw:
    """The outer surface is bent by up to twice so many voxels, in patches of about a label's radius."""

    def way(samples: RollingBatch, slot: int, generator: torch.Generator) -> Tensor:
        known = samples._known(samples.label[slot])
        extent = 2 * deviation * float(torch.rand((), generator=generator))
        knots = _knots(known, samples.outlines[slot])
        return corrupt._displace(known, extent * torch.randn(3, *knots, generator=generator))

    return way


def of_networks(networks: Networks, noisy: bool = False) -> Redraw:
    """In about half of the places a network's result replaces the truth, so that a click may ask for any error that
    networks make."""

    def way(samples: RollingBatch, slot: int, generator: torch.Generator) -> Tensor | None:
        other = networks.segment(samples, slot, generator, noisy)
        if other is None:
            return None
        known = samples._known(samples.label[slot])
        field = torch.randn(1, 1, *_knots(known, samples.outlines[slot]), generator=generator)
        least = 0.3 * (2 * torch.rand((), generator=generator).item() - 1)
        smooth = F.interpolate(
            upload(field, known.device), size=tuple(known.shape), mode="trilinear", align_corners=True
        )
        return torch.where(smooth[0, 0] > least, other, known)

    return way


def grown(share: float) -> Redraw:
    """Every label is grown or shrunk as a whole, by an offset with a standard deviation of so many radii of a label.

    So may an annotator draw everything a little larger, and then one click stands for a whole surface.
    """

    def way(samples: RollingBatch, slot: int, generator: torch.Generator) -> Tensor:
        known, outline = samples._known(samples.label[slot]), samples.outlines[slot]
        offsets = share * outline.radius * torch.randn(samples.num_classes, generator=generator)
        # A plane surface, blurred, is a normal distribution's integral of the distance to it.
        levels = 1 - torch.special.ndtr(offsets.clamp(-2 * BLUR, 2 * BLUR) / BLUR)
        levels = upload(levels[list(outline.present)], known.device)
        classes = upload(list(outline.present), known.device)
        masks = (known[None] == classes.view(-1, 1, 1, 1)).float()
        above = _blurred(masks) - levels.view(-1, 1, 1, 1)
        highest, index = above.max(0)
        return torch.where(highest > 0, classes[index], 0).to(known.dtype)

    return way


def level_set(samples: RollingBatch, slot: int, generator: torch.Generator) -> Tensor | None:
    """A label becomes another level set of the network's own logits, which follows what the network sees in the image.
    There is none for samples that begin with an initial segmentation."""
    if samples.edited[slot]:
        return None
    pick, more = torch.rand(2, generator=generator).tolist()
    present = samples.outlines[slot].present
    label = present[int(pick * len(present))]
    known, logits = samples._known(samples.label[slot]), samples.shown[slot].float()
    own = logits[label].clone()
    logits[label] = -torch.inf
    highest, other = logits.max(0)
    ahead = own - highest
    volume = (ahead > 0).sum() * (1 + LARGER[0] + more * (LARGER[1] - LARGER[0]))
    ordered = ahead.flatten().sort(descending=True).values
    inside = ahead > ordered[volume.long().clamp(max=len(ordered) - 1)]
    outside = torch.where(known == label, other.to(known.dtype), known)
    return outside.masked_fill(inside, label)


def _knots(label: Tensor, outline: corrupt.Outline) -> list[int]:
    radius = max(outline.radius, 3.0)
    return [min(max(round(side / radius), 1) + 1, MOST_KNOTS) for side in label.shape]


def _blurred(masks: Tensor) -> Tensor:
    """Maps ``[N, X, Y, Z]``, each blurred by a Gaussian of `BLUR`."""
    reach = round(3 * BLUR)
    at = torch.arange(-reach, reach + 1, device=masks.device)
    weights = torch.exp(-0.5 * (at / BLUR) ** 2)
    weights /= weights.sum()
    blurred = masks[:, None]
    for axis in range(3):
        sides: Sequence[int] = [len(at) if axis == each else 1 for each in range(3)]
        blurred = F.conv3d(blurred, weights.view(1, 1, *sides), padding=tuple(side // 2 for side in sides))
    return blurred[:, 0]
