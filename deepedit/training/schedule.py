"""The schedule of a run: the order of the cases, the size of patches, the share of clicks, the learning rate.

Everything here is a function of the seed and of the share of the run that is over.
"""

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from deepedit.plan import Plan
from deepedit.training.config import TrainingConfig


@dataclass(frozen=True)
class Visit:
    """One visit to a case: the epoch, and the number of the case."""

    epoch: int
    case: int

    def generator(self, seed: int, use: str = "") -> torch.Generator:
        """A CPU generator for this visit alone, so that what it draws does not depend on other visits."""
        return generator_for(seed, self.epoch, self.case, use)


def generator_for(seed: int, *key: object) -> torch.Generator:
    """A CPU generator that depends on a seed and on `key`, which names its use."""
    digest = hashlib.sha256(repr((seed, *key)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def visits(num_cases: int, seed: int) -> Iterator[Visit]:
    """Visits without end: every case once in each epoch, in a random order."""
    epoch = 0
    while True:
        for case in torch.randperm(num_cases, generator=generator_for(seed, "order", epoch)).tolist():
            yield Visit(epoch, case)
        epoch += 1


SMALL_SIDE = 0.75
"""Side of a small patch, as a share of the side of the full patch."""


def patch_sides(progress: float, plan: Plan, divisor: Sequence[int], config: TrainingConfig) -> tuple[int, ...]:
    """Sides in voxels of the patches when a share `progress` of the run is over: small at first, then full.

    A step on small patches is faster and teaches nearly as much. The full patches at the end prepare the network for
    the size of the windows in inference. On a fixed grid all patches are full, since such a network always gets whole
    images.

    Args:
        plan: the plan, with the sides of the full patch.
        divisor: each side is a multiple of this, as the network needs.

    Source: the idea is that of Fischer et al., Progressive Growing of Patch Size, MICCAI 2024.
    """
    if progress >= config.small_patches or plan.fixed_shape is not None:
        return plan.patch_size
    return tuple(by * math.ceil(SMALL_SIDE * side / by) for side, by in zip(plan.patch_size, divisor, strict=True))


REFINING = 0.08
"""Share of a run by the clock that is left to its refiner, see `deepedit.training.refining`."""


def training_minutes(config: TrainingConfig) -> float | None:
    """What a run by the clock has for its network; None if the run is not by the clock."""
    return None if config.max_minutes is None else config.max_minutes * (1 - REFINING * refines(config))


def refines(config: TrainingConfig) -> bool:
    """Whether a run learns to refine answers, which it does after its last validation."""
    return min(config.refiner_cases, config.max_clicks, config.validations) > 0


CLICKS_LEARNED = 0.4
"""Share of the run by which the share of passes with clicks reaches its full height."""


def click_share(progress: float, config: TrainingConfig) -> float:
    """Share of the passes with clicks among the samples that begin when a share `progress` of the run is over."""
    if config.clicks_from <= 0:
        return config.click_probability
    return config.click_probability * linear_ramp(progress, config.clicks_from, max(CLICKS_LEARNED, config.clicks_from))


def click_weight(progress: float, config: TrainingConfig) -> float:
    """Weight of the loss around the clicks: half of it until the clicks are learned, since early in a run it would harm
    the automatic mode, then rising to the full weight over a fifth of the run."""
    return config.click_loss * (0.5 + 0.5 * linear_ramp(progress, CLICKS_LEARNED, CLICKS_LEARNED + 0.2))


def linear_ramp(progress: float, start: float, end: float) -> float:
    """0 up to `start`, 1 from `end` on, and linear in between."""
    return min(max((progress - start) / max(end - start, 1e-9), 0.0), 1.0)


def draw_passes(generator: torch.Generator, share: float, config: TrainingConfig) -> tuple[int, bool]:
    """The number of passes of a new sample, and whether it begins with an initial segmentation.

    A sample either has a single pass without clicks, or it gets from 1 to `max_clicks` clicks, all numbers with equal
    probability: a network that has seldom seen many clicks would respond little to the later ones. The share of samples
    with clicks is such that a share `share` of all passes has clicks, or as near to it as `max_clicks` allows.
    """
    chosen, count, start = torch.rand(3, generator=generator, dtype=torch.float64).tolist()
    clicked = _clicked(share, config)
    if config.max_clicks == 0 or chosen >= clicked:
        return 1, False
    clicks = 1 + int(count * config.max_clicks)
    edits = start < config.edit_probability
    return (clicks if edits else clicks + 1), edits


def mean_passes(share: float, config: TrainingConfig) -> float:
    """The mean number of passes of a sample, see `draw_passes`."""
    if config.max_clicks == 0:
        return 1.0
    return 1 + min(_clicked(share, config), 1.0) * ((1 + config.max_clicks) / 2 - config.edit_probability)


def _clicked(share: float, config: TrainingConfig) -> float:
    """The share of samples with clicks, for a share `share` of all passes to have clicks; 1 or more where all must."""
    mean = (1 + config.max_clicks) / 2
    # The first pass of a clicked sample has a click already where it begins with an initial segmentation.
    return share / max(mean - share * (mean - config.edit_probability), 1e-9)


def learning_rate(progress: float, config: TrainingConfig) -> float:
    """The learning rate: it rises linearly, then decays along a polynomial.

    Source of the decay: Isensee et al., nnU-Net, Nature Methods 2021.
    """
    rise = min(1.0, (progress + 1e-3) / max(config.warmup, 1e-3))
    return config.learning_rate * rise * max(1 - progress, 0.0) ** 0.9
