"""What a GPU would have had to do: kernels, bytes, and where the host waited for it."""

import math
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._pytree import tree_leaves

import deepedit

PACKAGE = Path(deepedit.__file__).parent

FREE = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "_unsafe_view", "_reshape_alias"}
"""Operators that are no views by their schema and start no kernel all the same."""

WRITTEN_ONLY = {"zero_", "fill_", "copy_", "normal_", "uniform_", "exponential_", "random_"}
"""Operators that do not read what they write to."""

PICKED = {"index", "gather", "index_select", "take"}
"""Operators that read of their first argument only as much as they return."""


@dataclass(frozen=True)
class Event:
    """Something that the host waits for, and the lines of the package that asked for it, the innermost first."""

    what: str
    places: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.what} at {' < '.join(self.places) or 'a line outside of the package'}"


@dataclass
class Record:
    """What happened while it was kept.

    Attributes:
        kernels: how many of each operator were started.
        bytes: that they read and write at least once.
        waits: the host asked for a value that the device has yet to compute.
        uploads: the host waited for a copy to the device, as it does where the copy may block or is not from pinned
            memory.
    """

    kernels: Counter[str] = field(default_factory=Counter)
    bytes: int = 0
    waits: list[Event] = field(default_factory=list)
    uploads: list[Event] = field(default_factory=list)

    @property
    def launches(self) -> int:
        return self.kernels.total()

    def count(self, func: OpOverload, args: object, kwargs: object, result: object) -> None:
        """Note an operator. One of the package's own is one kernel; so is one of torch's, but those on lists."""
        name = operator_name(func)
        if func.is_view or name in FREE:
            return
        self.kernels[name] += foreach_launches(args) if name.startswith(("_foreach", "_fused", "_amp_foreach")) else 1
        read, written = list(_tensors((args, kwargs))), list(_tensors(result))
        if name in WRITTEN_ONLY:
            read = read[1:]
        elif name in PICKED:
            read[0] = written[0]
        self.bytes += sum(map(touched_bytes, (*read, *written)))


def operator_name(func: OpOverload) -> str:
    """``"add_"`` of ``aten::add_.Tensor``; with its namespace where that is not aten."""
    return func.name().removeprefix("aten::").split(".")[0]


def touched_bytes(tensor: Tensor) -> int:
    """Size of a tensor in memory; of a value that is expanded, once."""
    sides = zip(tensor.shape, tensor.stride(), strict=True)
    return math.prod(side if stride or not side else 1 for side, stride in sides) * tensor.element_size()


MULTI_TENSOR_BLOCKS, MULTI_TENSOR_CHUNK, MULTI_TENSOR_LISTS = 320, 65536, (110, 64, 48, 36, 30)
"""Most blocks of a launch, values a block, and most tensors of a launch by the number of lists that go in together.

Source: ``aten/src/ATen/native/cuda/MultiTensorApply.cuh`` of PyTorch.
"""


def foreach_launches(args: object) -> int:
    """Kernels that an operator on lists of tensors starts."""
    lists = [each for each in args if isinstance(each, list | tuple) and each and isinstance(each[0], Tensor)]
    if not lists:
        return 1
    most = MULTI_TENSOR_LISTS[min(len(lists), len(MULTI_TENSOR_LISTS)) - 1]
    blocks = sum(math.ceil(tensor.numel() / MULTI_TENSOR_CHUNK) for tensor in lists[0])
    return max(math.ceil(len(lists[0]) / most), math.ceil(blocks / MULTI_TENSOR_BLOCKS), 1)


def event(what: str) -> Event:
    """One that happens now."""
    return Event(what, tuple(_package_lines()))


def _package_lines() -> Iterator[str]:
    frame = sys._getframe(1)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(PACKAGE):
            yield f"{path.relative_to(PACKAGE.parent)}:{frame.f_lineno}"
        frame = frame.f_back


def _tensors(tree: object) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor))
