"""Whether two files lie on one grid, and how far they are apart where they do not."""

import itertools

from deepedit.io.nifti_affine import farthest
from deepedit.io.nifti_header import Geometry
from deepedit.volume import Volume

MAX_MISFIT_VOXELS = 0.1
"""Greatest distance of two grids that count as the same: the nearest neighbours of all voxels are far from changing."""

NOTED_MISFIT_VOXELS = 0.01
"""Distance from which on the user is told about two grids that count as the same."""


def misfit(one: Geometry | Volume, other: Geometry | Volume) -> str | None:
    """How two grids differ: in shape, or by more than a tenth of a voxel anywhere; None if they do not.

    If a header states two affines that contradict each other, the grids need to agree by one of them only, since other
    programs may have used the other one.
    """
    if one.shape != other.shape:
        return f"shape {' x '.join(map(str, one.shape))} against {' x '.join(map(str, other.shape))}"
    distance = distance_of_grids(one, other)
    # A negation, so that NaN counts as a misfit too.
    return None if distance <= MAX_MISFIT_VOXELS else f"affines differ by up to {distance:.3g} voxels"


def distance_of_grids(one: Geometry | Volume, other: Geometry | Volume) -> float:
    """Greatest distance in voxels between two grids of one shape, by those of their affines that agree best."""
    pairs = itertools.product((one.affine, *one.other_affines), (other.affine, *other.other_affines))
    return min(farthest(first, second, one.shape) for first, second in pairs)


def near_misfit(one: Geometry | Volume, other: Geometry | Volume) -> str | None:
    """A note on two grids that count as the same but are more than a hundredth of a voxel apart; else None."""
    if one.shape != other.shape:
        return None
    distance = distance_of_grids(one, other)
    return nearly_there(distance) if NOTED_MISFIT_VOXELS < distance <= MAX_MISFIT_VOXELS else None


def nearly_there(distance: float) -> str:
    """A note on a file whose grid is a small distance, in voxels, from that of another file."""
    return f"lies up to {distance:.2g} voxels off its image; it is taken voxel by voxel"
