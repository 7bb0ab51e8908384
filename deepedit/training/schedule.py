"""Which sample is in which slot of the batch at every step: a function of the seed alone."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Sample:
    """One visit to a case.

    Attributes:
        epoch, case: the visit, the case by its number.
        fresh: the share of the run that was over when it began.
    """

    epoch: int
    case: int

    def generator(self, seed: int, use: str = "") -> torch.Generator:
        """A CPU generator of this visit's own: nothing that other samples do changes what it draws."""
        return generator_for(seed, self.epoch, self.case, use)


def generator_for(seed: int, *key: object) -> torch.Generator:
    """A CPU generator that depends on a seed and the use that `key` names."""
    digest = hashlib.sha256(repr((seed, *key)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def visits(num_cases: int, seed: int) -> Iterator[Sample]:
    """Every case once an epoch, each epoch in an order of its own, without end."""
    epoch = 0
    while True:
        for case in torch.randperm(num_cases, generator=generator_for(seed, "order", epoch)).tolist():
            yield Sample(epoch, case)
        epoch += 1
