"""What happens when in a run: the order of the cases, the share of passes with clicks, the learning rate.

All of it is a function of the seed and of how much of the run is over.
"""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from deepedit.training.config import TrainingConfig


@dataclass(frozen=True)
class Visit:
    """One visit to a case: the epoch, and the case by its number."""

    epoch: int
    case: int

    def generator(self, seed: int, use: str = "") -> torch.Generator:
        """A CPU generator of this visit's own: nothing that other visits do changes what it draws."""
        return generator_for(seed, self.epoch, self.case, use)


def generator_for(seed: int, *key: object) -> torch.Generator:
    """A CPU generator that depends on a seed and on the use that `key` names."""
    digest = hashlib.sha256(repr((seed, *key)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def visits(num_cases: int, seed: int) -> Iterator[Visit]:
    """Every case once an epoch, each epoch in an order of its own, without end."""
    epoch = 0
    while True:
        for case in torch.randperm(num_cases, generator=generator_for(seed, "order", epoch)).tolist():
            yield Visit(epoch, case)
        epoch += 1


RAMP = 0.2
"""Share of the run over which what is let in late rises to its full weight."""


def click_share(progress: float, config: TrainingConfig) -> float:
    """Share of the passes with clicks among the samples that begin when a share `progress` of the run is over."""
    return config.click_probability * _risen(progress, config.clicks_from)


def click_weights(progress: float, config: TrainingConfig) -> tuple[float, float]:
    """Weights of the loss around the clicks and at the clicks."""
    return config.click_loss, config.obedience_loss * _risen(progress, config.obedience_from)


def _risen(progress: float, start: float) -> float:
    """From 0 at `start` to 1; always 1 where the start is 0."""
    return 1.0 if start <= 0 else min(max((progress - start) / RAMP, 0.0), 1.0)


def draw_passes(generator: torch.Generator, share: float, config: TrainingConfig) -> tuple[int, bool]:
    """How many passes a new sample stays, and whether it begins with a segmentation from elsewhere.

    A sample that goes on with probability `share` after every pass spends that share of its passes with clicks.
    """
    length, start = torch.rand(2, generator=generator, dtype=torch.float64).tolist()
    if share >= 1:
        answered = config.max_clicks
    else:
        answered = int(math.log(max(length, 1e-12)) / math.log(share)) if share > 0 else 0
        answered = min(answered, config.max_clicks)
    edits = answered > 0 and start < config.edit_probability
    return (answered if edits else answered + 1), edits


def learning_rate(progress: float, config: TrainingConfig) -> float:
    """Up in a line, then down along a polynomial.

    Source of the decay: Isensee et al., nnU-Net, Nature Methods 2021.
    """
    rise = min(1.0, (progress + 1e-3) / max(config.warmup, 1e-3))
    return config.learning_rate * rise * max(1 - progress, 0.0) ** 0.9
