"""The processes that share one run, as ``torchrun`` starts them, and what they exchange between steps."""

import os
import platform
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import nn

from deepedit.errors import DeepEditError, TrainingError
from deepedit.files import one_line

PATIENCE = timedelta(minutes=30)
"""How long a process waits for the others, while they validate a large case for example."""

T = TypeVar("T")


class Ranks:
    """One of `size` processes, which are numbered from 0. A single process is rank 0 of 1.

    The values exchanged here are on the host and are sent by gloo, so that no process waits for its GPU. Gradients are
    averaged by `DistributedDataParallel`.

    Args:
        rank, size: the number of this process, and how many there are.
        mend: what to do when another process has ended, for the message.
    """

    def __init__(self, rank: int = 0, size: int = 1, mend: str = "start all of them again") -> None:
        self.rank, self.size, self.mend = rank, size, mend

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and messages."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> Sequence[T]:
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
        """The network, its gradients averaged over the ranks in every backward pass.

        Raises:
            TrainingError: if processes would have to share a GPU, which NCCL cannot average between.
        """
        if self.size == 1:
            return network
        device = next(network.parameters()).device
        if device.type == "cuda":
            gpu = torch.cuda.get_device_properties(device)
            used = set(self.gather((platform.node(), str(getattr(gpu, "uuid", device.index)))))
            if len(used) < self.size:
                raise TrainingError(
                    f"each process needs a GPU of its own to train on, and {self.size} processes have {len(used)}; "
                    "start as many as there are GPUs, without a number in --device, or give --device cpu"
                )
        # It is about the layout of weights of 1 x 1 x 1, which is the same in memory either way.
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        with self.together():
            return nn.parallel.DistributedDataParallel(network, [device] if device.type == "cuda" else None)

    @contextmanager
    def together(self) -> Iterator[None]:
        """A context for exchanging values. The various errors that torch raises when a rank is gone become one line.

        Raises:
            DeepEditError: if another rank is gone.
        """
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            if self.size == 1:
                raise
            reason, *_ = (str(error).strip() or type(error).__name__).splitlines()
            raise DeepEditError(
                "another process of this run has ended or cannot be reached; its own message tells why; then "
                f"{self.mend} (this process was told: {one_line(reason, 200)})"
            ) from error


@contextmanager
def joined_ranks(mend: str, patience: timedelta = PATIENCE) -> Iterator[Ranks]:
    """The ranks with which ``torchrun`` started this process, connected for the duration of the block.

    Each has a GPU of its own where there are enough of them; else some share one. OMP_NUM_THREADS says how many threads
    each takes; ``torchrun`` sets it to 1 where it starts several processes and nobody else has set it.

    Args:
        mend: of `Ranks`.
        patience: how long a process waits for another that is at work; one that has ended is mostly noticed at once.

    Raises:
        DeepEditError: if the others cannot be reached.
    """
    ranks = Ranks(int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1)), mend)
    if ranks.size == 1:
        yield ranks
        return
    gpu = torch.cuda.is_available()
    if gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())
    with ranks.together():
        torch.distributed.init_process_group("cpu:gloo,cuda:nccl" if gpu else "gloo", timeout=patience)
    try:
        yield ranks
    finally:
        torch.distributed.destroy_process_group()
