"""What all kernels share: their registration as operators of torch, and the cutting of a volume into blocks."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import triton
from torch import Tensor

BLOCK = 1024
"""Voxels that a program works on, with Triton's usual four warps.

Of the number of voxels of a sample, and of the distance of neighbours in memory, only that they are multiples of 16 is
compiled into a kernel, which lets it read several voxels at a time. So a new shape seldom compiles a kernel anew."""

SEARCH = 128
"""Voxels that a program with a search works on, with one warp. It ends when the search of its last voxel ends, so that
few voxels should wait for each other, and no warp for another."""

NO_VOXEL = -(2**63)
"""The key that stands for no voxel. A key holds a score in its upper half, and in its lower half 2**31 - 1 minus the
index of a voxel, so that of equal scores that of the first voxel has the greatest key."""

_library = torch.library.Library("deepedit", "DEF")


def operator(schema: str, shapes: Callable[..., Any]) -> Callable[[Callable[..., Any]], torch._ops.OpOverload]:
    """Register a function that launches a kernel as an operator of torch, in the namespace ``deepedit``.

    Args:
        schema: arguments and results as torch writes them; arguments that are changed in place are marked.
        shapes: takes the same arguments and returns tensors like those that the function returns, with any content.
    """

    def define(launch: Callable[..., Any]) -> torch._ops.OpOverload:
        name = launch.__name__
        _library.define(name + schema)
        _library.impl(name, launch, "CPU")
        _library.impl(name, _on_device_of_first(launch), "CUDA")
        torch.library.register_fake(f"deepedit::{name}", shapes, lib=_library)
        return getattr(torch.ops.deepedit, name).default

    return define


def _on_device_of_first(launch: Callable[..., Any]) -> Callable[..., Any]:
    """The launch on the GPU of its first argument: Triton itself takes the current GPU, which may be another."""

    def run(tensor: Tensor, *others: Any, **named: Any) -> Any:
        with torch.cuda.device_of(tensor):
            return launch(tensor, *others, **named)

    return run


def blocks(voxels: int, per_block: int) -> int:
    """Number of blocks that hold so many voxels."""
    return triton.cdiv(voxels, per_block)


def line(shape: Sequence[int], axis: int) -> tuple[int, int, int]:
    """Voxels of a line along an axis of ``[B, X, Y, Z]``, how far apart they are in memory, and voxels of a sample."""
    return shape[axis + 1], math.prod(shape[axis + 2 :]), math.prod(shape[1:])


def rows_of_lines(shape: Sequence[int]) -> tuple[int, int, int]:
    """Lines along z of a sample of ``[B, X, Y, Z]``, how many of them a program takes, and room for one of them."""
    lines, room = shape[1] * shape[2], triton.next_power_of_2(shape[3])
    return lines, max(1, min(BLOCK // room, triton.next_power_of_2(lines))), room
