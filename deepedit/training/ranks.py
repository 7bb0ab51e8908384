"""The processes that share one run, as ``torchrun`` starts them, and what they exchange between steps."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import nn

from deepedit.errors import TrainingError

PATIENCE = timedelta(minutes=30)
"""How long a process waits for the others, while they validate a large case for example."""

T = TypeVar("T")


class Ranks:
    """One of `size` processes, which are numbered from 0. A single process is rank 0 of 1.

    The values exchanged here are on the host and are sent by gloo, so that no process waits for its GPU. Gradients are
    averaged by `DistributedDataParallel`.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and messages."""
        return self.rank == 0

    def share(self, items: list[T]) -> list[T]:
        """Every `size`-th of the items, beginning with the item whose index is this rank's number."""
        return items[self.rank :: self.size]

    def sum(self, *values: float) -> list[float]:
        """The sums of the ranks' values, the same on all ranks."""
        if self.size == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64)
        with self.together():
            torch.distributed.all_reduce(total)
        return total.tolist()

    def gather(self, value: T) -> list[T]:
        """The values of all ranks, in their order, on all ranks."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        with self.together():
            torch.distributed.all_gather_object(values, value)
        return values

    def wait(self) -> None:
        """Wait until all ranks have called this."""
        self.sum(0)

    def averaged(self, network: nn.Module) -> nn.Module:
        """The network, with its gradients averaged over the ranks in every backward pass."""
        if self.size == 1:
            return network
        device = next(network.parameters()).device
        with self.together():
            return nn.parallel.DistributedDataParallel(network, [device] if device.type == "cuda" else None)

    @contextmanager
    def together(self) -> Iterator[None]:
        """A context for exchanging values. The various errors that torch raises when a rank is gone become one line.

        Raises:
            TrainingError: if another rank is gone.
        """
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            if self.size == 1:
                raise
            raise TrainingError(
                "another process of this run has ended or cannot be reached; its own message tells why; then start "
                "all of them again, with --resume if there is a last.pt"
            ) from error


@contextmanager
def joined_ranks() -> Iterator[Ranks]:
    """The ranks with which ``torchrun`` started this process, connected for the duration of the block.

    Raises:
        TrainingError: if the others cannot be reached.
    """
    ranks = Ranks(int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1)))
    if ranks.size == 1:
        yield ranks
        return
    gpu = torch.cuda.is_available()
    if gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
    with ranks.together():
        torch.distributed.init_process_group("cpu:gloo,cuda:nccl" if gpu else "gloo", timeout=PATIENCE)
    try:
        yield ranks
    finally:
        torch.distributed.destroy_process_group()
