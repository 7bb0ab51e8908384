"""Which voxel axis runs along which axis of the patient."""

import numpy as np

from deepedit.boxes import three
from deepedit.errors import FileError


def closest_canonical(affine: np.ndarray) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
    """The order and direction of voxel axes closest to R, A, S. An oblique rotation that remains is not resampled.

    Args:
        affine: ``[4, 4]``, voxels to RAS mm.

    Returns:
        permutation: for each of R, A, S the voxel axis that runs along it.
        flips: for each of R, A, S whether that voxel axis runs against it.

    Raises:
        FileError: if the affine maps different voxels to one point, or is not finite.
    """
    columns = np.asarray(affine, dtype=np.float64)[:3, :3]
    spacing = np.linalg.norm(columns, axis=0)
    if not np.isfinite(columns).all() or (spacing == 0).any() or abs(np.linalg.det(columns / spacing)) < 1e-6:
        raise FileError("the affine is singular or not finite; repair the sform or qform of the file's header")
    # The rotation nearest to the axes: shears must not decide which world axis a voxel axis belongs to.
    left, _, right = np.linalg.svd(columns / spacing)
    rotation = left @ right
    permutation, flips = [0, 0, 0], [False, False, False]
    free = [0, 1, 2]
    # The voxel axis that lies closest to any world axis chooses first.
    strength = np.abs(rotation).max(axis=0).round(9)
    for axis in np.argsort(-strength, kind="stable").tolist():
        world = max(free, key=lambda each: (round(abs(rotation[each, axis]), 9), -each))
        free.remove(world)
        permutation[world], flips[world] = axis, bool(rotation[world, axis] < 0)
    return three(permutation), three(flips)
