"""What was tried and is not in the package: each change replaces functions of the package in this process.

The settings of a run, such as the width of the loss around the clicks, need nothing of this; see `__main__`.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from deepedit.clicks import Clicks, enforce_clicks
from deepedit.clicks.nearest import within_reach
from deepedit.devices import upload
from deepedit.inference import merge as merging
from deepedit.inference import segmentation, sliding_window
from deepedit.network.inputs import assemble_input, mixed_precision
from deepedit.training import batch, loop
from deepedit.training.batch import RollingBatch
from deepedit.transforms import corrupt

FAR = 1e6
"""Square of a distance, in voxels, beyond all volumes."""

MOST_KNOTS = 16
NOVICES_AT = (0.10, 0.18, 0.27)
"""Shares of the run at which the network is copied as one that makes real errors."""


def squared_distances(clicks: Clicks, shape: Sequence[int]) -> Tensor:
    """``[N, X, Y, Z]`` from every click; far for those that are not valid."""
    x, y, z = (
        (torch.arange(side, device=at.device)[None] - at[:, None]).float().square()
        for side, at in zip(shape, clicks.position.unbind(1), strict=True)
    )
    squares = x[:, :, None, None] + y[:, None, :, None] + z[:, None, None, :]
    return squares.masked_fill_(~clicks.valid[:, None, None, None], FAR)


def by_channel(clicks: Clicks, values: Tensor, num_classes: int, batch_size: int) -> Tensor:
    """``[B, C, X, Y, Z]``: the greatest value of the clicks of each sample and class, at least 0."""
    channels = torch.zeros(batch_size * num_classes, *values.shape[1:], device=values.device)
    index = clicks.batch * num_classes + clicks.label.where(clicks.valid, 0)
    channels.scatter_reduce_(0, index.view(-1, 1, 1, 1).expand_as(values), values, "amax")
    return channels.unflatten(0, (batch_size, num_classes))


def cone(radius: float) -> Callable[[Clicks, Tensor, float, int], Tensor]:
    """Guidance that falls off in proportion to the distance, to 0 at a radius: a truncated distance map."""
    return lambda clicks, squares, sigma, samples: (1 - squares.sqrt() / radius).clamp_(min=0)


def two_widths(narrow: float, wide: float) -> Callable[[Clicks, Tensor, float, int], Tensor]:
    """Guidance that is the mean of two Gaussians."""
    return lambda clicks, squares, sigma, samples: (
        0.5 * torch.exp(-0.5 * squares / narrow**2) + 0.5 * torch.exp(-0.5 * squares / wide**2)
    )


def newest_is_higher(others: float) -> Callable[[Clicks, Tensor, float, int], Tensor]:
    """Guidance in which all clicks of a sample but the newest are lower."""

    def values(clicks: Clicks, squares: Tensor, sigma: float, samples: int) -> Tensor:
        valid = clicks.valid.unflatten(0, (samples, -1))
        order = torch.arange(valid.shape[1], device=valid.device)
        newest = torch.where(valid, order, -1).amax(1, keepdim=True)
        height = torch.where(order == newest, 1.0, others).flatten() * clicks.valid
        return torch.exp(-0.5 * squares / sigma**2) * height[:, None, None, None]

    return values


def change_guidance(values: Callable[[Clicks, Tensor, float, int], Tensor]) -> None:
    plain = sliding_window.render_guidance

    def render(
        clicks: Clicks, shape: Sequence[int], num_classes: int, batch_size: int, sigma: float, combine: str
    ) -> Tensor:
        if not len(clicks):
            return plain(clicks, shape, num_classes, batch_size, sigma, combine=combine)
        return by_channel(
            clicks, values(clicks, squared_distances(clicks, shape), sigma, batch_size), num_classes, batch_size
        )

    sliding_window.render_guidance = batch.render_guidance = render


def loss_around_the_newest_click(_: str) -> None:
    """The loss around the clicks counts around the newest one only."""

    def nearness(self: RollingBatch) -> Tensor:
        clicks = self._clicks()
        newest = torch.zeros(self.wanted.shape, dtype=torch.bool)
        for slot, used in enumerate(self.used):
            newest[slot, used - 1] = used > 0
        valid = clicks.valid & upload(newest.flatten(), self.device)
        clicks = Clicks(clicks.batch, clicks.label, clicks.position, valid)
        return clicks.nearness(self.label.shape[1:], self.config.click_loss_sigma, len(self.label))

    RollingBatch.nearness = nearness


def answers_count_near_clicks(reach: str) -> None:
    """An answer counts within so many voxels of the newest clicks, in training and in sessions alike, also where there
    is no initial segmentation."""
    plain = merging._reach

    def merge(
        before: Tensor,
        answer: Tensor,
        clicks: Clicks,
        newest: Tensor,
        policy: Any,
        *,
        places: Any = None,
        rim: Tensor | None = None,
        initial: Tensor | None = None,
        edited: Tensor | None = None,
        locked: Tensor | None = None,
    ) -> Tensor:
        samples = len(answer)
        most = torch.full((samples,), float(reach), device=answer.device)
        if initial is not None:
            own = plain(initial, answer, policy).minimum(most)
            most = own if edited is None else torch.where(edited, own, most)
        table = (each.unflatten(0, (samples, -1)) for each in (clicks.position, clicks.valid & newest))
        weight = within_reach(*table, most, answer.shape[2:], policy.softness)
        weight = weight if rim is None else weight * rim
        after = torch.lerp(before.float(), answer, weight[:, None])
        if policy.enforce:
            enforce_clicks(after, clicks, places, policy.margin, policy.ball)
        return after if locked is None else merging.keep_locked(after, locked, policy.margin)

    segmentation.merge = batch.merge = merge


def bent(label: Tensor, generator: torch.Generator, outline: corrupt.Outline, deviation: float) -> Tensor:
    """A label map whose outer surface is bent by up to twice so many voxels, in patches of about a label's radius."""
    extent = 2 * deviation * float(torch.rand((), generator=generator))
    return corrupt._displace(label, extent * torch.randn(3, *_knots(label, outline), generator=generator))


def _knots(label: Tensor, outline: corrupt.Outline) -> list[int]:
    radius = max(outline.radius, 3.0)
    return [min(max(round(side / radius), 1) + 1, MOST_KNOTS) for side in label.shape]


class Novices:
    """Copies of the network from early in its run, which make the errors that networks make."""

    def __init__(self) -> None:
        self.networks: list[torch.nn.Module] = []
        agree = loop.Trainer._agree

        def and_copy(trainer: loop.Trainer, *arguments: Any) -> bool:
            stopped = agree(trainer, *arguments)
            while len(self.networks) < len(NOVICES_AT) and trainer.progress.share >= NOVICES_AT[len(self.networks)]:
                self.networks.append(copy.deepcopy(trainer.average).eval())
            return stopped

        loop.Trainer._agree = and_copy

    def segment(self, samples: RollingBatch, slot: int, generator: torch.Generator, noisy: bool) -> Tensor:
        """``[X, Y, Z]``: the automatic result of one of them for a sample, perhaps of other intensities."""
        network = self.networks[int(torch.randint(len(self.networks), (), generator=generator))]
        image = samples.image[slot][None]
        if noisy:
            contrast, offset = (0.2 * torch.randn(2, generator=generator)).tolist()
            image = image * (1 + contrast) + offset * image.std()
        guidance = image.new_zeros(1, samples.num_classes, *image.shape[2:])
        previous = torch.zeros_like(samples.label[slot])[None]
        with torch.no_grad(), mixed_precision(image.device, samples.config.amp):
            return network(assemble_input(image, guidance, previous)).argmax(1)[0].to(samples.label.dtype)


def redraw_by(kinds: Sequence[str], bend: float = 0.0, noisy: bool = False, edits: bool = False) -> None:
    """Let truths be redrawn in other ways, one of `kinds` at a time.

    Args:
        kinds: ``plain``, as the package does; ``bent``, see `bent`; ``novice``: in about half of the places a novice's
            result replaces the truth, so that a click may ask for any error that networks make.
        bend: of ``bent``, voxels.
        noisy: novices see other intensities.
        edits: half of the initial segmentations are results of novices.
    """
    novices = Novices() if "novice" in kinds else None

    def redraw(samples: RollingBatch, slot: int) -> None:
        generator = samples.generators[slot]
        chosen, which = torch.rand(2, generator=generator).tolist()
        if chosen >= samples.config.redraw_probability:
            return
        truth, outline = samples.label[slot], samples.outlines[slot]
        known = samples._known(truth)
        able = [kind for kind in kinds if kind != "novice" or novices.networks] or ["plain"]
        kind = able[int(which * len(able))]
        if kind == "plain" or not outline.present:
            drawn = corrupt.redraw_borders(known, samples.num_classes, generator, outline)
        elif kind == "bent":
            drawn = bent(known, generator, outline, bend)
        else:
            other = novices.segment(samples, slot, generator, noisy)
            field = torch.randn(1, 1, *_knots(known, outline), generator=generator)
            least = 0.3 * (2 * torch.rand((), generator=generator).item() - 1)
            smooth = F.interpolate(
                upload(field, known.device), size=tuple(known.shape), mode="trilinear", align_corners=True
            )
            drawn = torch.where(smooth[0, 0] > least, other, known)
        samples.label[slot] = drawn.where(truth < samples.num_classes, truth) if samples.ignoring else drawn

    RollingBatch._redraw = redraw
    if edits:
        _edit_results_of(novices, noisy)


def _edit_results_of(novices: Novices, noisy: bool) -> None:
    plain, fill, filling = batch.corrupt_segmentation, RollingBatch.fill, []

    def filled(samples: RollingBatch, *arguments: Any) -> None:
        filling[:] = [samples]
        fill(samples, *arguments)

    def corrupted(
        label: Tensor, num_classes: int, severity: float, generator: torch.Generator, outline: corrupt.Outline
    ) -> Tensor:
        if novices.networks and torch.rand((), generator=generator).item() < 0.5:
            slot = next(number for number, each in enumerate(filling[0].generators) if each is generator)
            return novices.segment(filling[0], slot, generator, noisy)
        return plain(label, num_classes, severity, generator, outline)

    batch.corrupt_segmentation, RollingBatch.fill = corrupted, filled


CHANGES: dict[str, Callable[[str], None]] = {
    "cone": lambda value: change_guidance(cone(float(value))),
    "two-widths": lambda value: change_guidance(two_widths(*map(float, value.split("+")))),
    "newest-higher": lambda value: change_guidance(newest_is_higher(float(value))),
    "newest-loss": loss_around_the_newest_click,
    "reach": answers_count_near_clicks,
    "bent": lambda value: redraw_by(["bent"], float(value)),
    "plain+bent": lambda value: redraw_by(["plain", "bent"], float(value)),
    "novice": lambda value: redraw_by(["novice"]),
    "plain+novice": lambda value: redraw_by(["plain", "novice"]),
    "novice-edits": lambda value: redraw_by(["novice"], noisy=True, edits=True),
}
"""By name: each is called once, with the text behind its ``=``."""
