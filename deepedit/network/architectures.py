"""What a network is made of, as settings and checkpoints name it. It needs no torch, so that ``--help`` does not."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

MAX_LEVELS = 16  # each halves the image: no volume has room for more

Triple = tuple[int, int, int]


def triple(value: int | Sequence[int]) -> Triple:
    """Three ints, one for each axis, from one int for all axes or from three."""
    x, y, z = (value,) * 3 if isinstance(value, int) else value
    return x, y, z


@dataclass(frozen=True)
class UNetConfig:
    """The architecture of a `ResidualUNet`. Each tuple has one entry for each resolution level, the finest first.

    Attributes:
        filters: channels of each level.
        strides: downsampling before each level; the first is 1. An entry is one int, or one int for each axis.
        kernels: convolution kernel sizes (odd) of each level; an entry is one int, or one int for each axis.
        affine: whether the norms have learned weights and biases.
        first_shortcut: whether the first block's shortcut is a convolution even if its shape does not change.
    """

    filters: tuple[int, ...]
    strides: tuple[int | Triple, ...]
    kernels: tuple[int | Triple, ...]
    affine: bool = True
    first_shortcut: bool = False

    def __post_init__(self) -> None:
        for name in ("filters", "strides", "kernels"):
            # First, and without showing them: what comes from a file may be of any type and of any size.
            given = getattr(self, name)
            if not isinstance(given, list | tuple) or len(given) > MAX_LEVELS:
                raise ValueError(f"{name} must be a list, an entry for each of at most {MAX_LEVELS} levels")
            entries = tuple(tuple(entry) if isinstance(entry, list) else entry for entry in given)
            if not all(_is_side(entry) or (name != "filters" and _is_triple(entry)) for entry in entries):
                raise ValueError(f"{name} must be whole numbers above 0, one or three for each level")
            object.__setattr__(self, name, entries)
        if not len(self.filters) == len(self.strides) == len(self.kernels) >= 2:
            raise ValueError(f"filters, strides and kernels need one entry for each of at least 2 levels; got {self}")
        if triple(self.strides[0]) != (1, 1, 1):
            raise ValueError(f"the first level keeps the resolution of the input; got stride {self.strides[0]}")

    @property
    def divisor(self) -> Triple:
        """Each side of an input must be a multiple of this, in voxels."""
        return triple([math.prod(triple(stride)[axis] for stride in self.strides) for axis in range(3)])

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def more_than_one_voxel(sides: Sequence[int], divisor: Triple) -> Triple:
    """Sides of an input, doubled along two axes if the network's deepest level would be a single voxel.

    Norms cannot work with a single voxel. Four voxels do as well as eight and cost half.
    """
    x, y, z = sides
    return (x, 2 * y, 2 * z) if (x, y, z) == divisor else (x, y, z)


def _is_side(entry: object) -> bool:
    return type(entry) is int and entry > 0


def _is_triple(entry: object) -> bool:
    return isinstance(entry, tuple) and len(entry) == 3 and all(map(_is_side, entry))


NETWORKS = {
    "light": UNetConfig(filters=(16, 32, 64, 128), strides=(1, 2, 2, 2), kernels=(3,) * 4),
    "reference": UNetConfig(filters=(32, 64, 128, 256, 320, 320), strides=(1, 2, 2, 2, 2, (2, 2, 1)), kernels=(3,) * 6),
}
"""Named architectures; ``"reference"`` is that of MONAI's DeepEdit tutorial."""

DEFAULT_NETWORK = "light"
