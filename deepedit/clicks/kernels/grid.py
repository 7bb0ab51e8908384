"""What all kernels share: how a volume is cut into blocks, and keys."""

import math
from collections.abc import Sequence

import triton

BLOCK = 1024
"""Voxels that a program works on.

How many voxels a sample has and how far apart neighbours are is compiled in as far as these are multiples of 16, which
lets voxels be read several at a time; other numbers are not, so that another volume seldom compiles a kernel anew."""

NO_VOXEL = -(2**63)
"""Key where there is no voxel. A key holds a score in its upper half and, in its lower one, 2**31 - 1 less the index of
a voxel: of equal scores the first voxel's is the greatest."""


def blocks(voxels: int, per_block: int = BLOCK) -> int:
    """How many blocks hold so many voxels."""
    return triton.cdiv(voxels, per_block)


def line(shape: Sequence[int], axis: int) -> tuple[int, int, int]:
    """Voxels of a line along an axis of ``[B, X, Y, Z]``, how far apart they are in memory, and voxels of a sample."""
    return shape[axis + 1], math.prod(shape[axis + 2 :]), math.prod(shape[1:])
