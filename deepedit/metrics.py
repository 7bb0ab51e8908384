"""Measures of the agreement of a segmentation with the truth."""

from collections.abc import Sequence

import numpy as np

from deepedit.boxes import bounding_box
from deepedit.defaults import TOLERANCE


def dice(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Dice of two boolean masks of the same shape, in [0, 1]; 1 if both are empty."""
    total = np.count_nonzero(prediction) + np.count_nonzero(truth)
    return 2 * np.count_nonzero(prediction & truth) / total if total else 1.0


def surface_dice(
    prediction: np.ndarray, truth: np.ndarray, axes: np.ndarray | Sequence[float], tolerance: float = TOLERANCE
) -> float:
    """Normalised surface distance: the share of the two surfaces that is within a tolerance of the other surface.

    The surface of a mask is the set of its voxels with a 6-neighbour outside of the mask or of the volume.

    Args:
        prediction, truth: ``[X, Y, Z]`` bool.
        axes: mm between voxels along each axis; or a matrix ``[3, 3]`` that maps steps in voxels to mm, as that of the
            affine, for grids whose axes may be sheared.
        tolerance: distance in mm up to which surfaces agree.

    Returns:
        A value in [0, 1]; 1 if both masks are empty, 0 if one is.

    Source: Nikolov et al., Clinically applicable segmentation of head and neck anatomy, JMIR 2021, with voxels in
    place of surface elements.
    """
    if not prediction.any() or not truth.any():
        return float(prediction.any() == truth.any())
    from scipy import ndimage
    from scipy.spatial import KDTree

    box = bounding_box(prediction | truth)
    masks = [np.pad(mask[box], 1) for mask in (prediction, truth)]
    surfaces = [mask & ~ndimage.binary_erosion(mask) for mask in masks]
    axes = np.asarray(axes, dtype=float)
    lengths = axes if axes.ndim == 1 else np.linalg.norm(axes, axis=0)
    if axes.ndim == 1 or is_rectangular(axes):
        fields = [ndimage.distance_transform_edt(~surface, sampling=lengths) for surface in surfaces]
        distances = [fields[1 - side][surfaces[side]] for side in (0, 1)]
    else:
        points = [np.argwhere(surface) @ axes.T for surface in surfaces]
        distances = [np.asarray(KDTree(points[1 - side]).query(points[side])[0]) for side in (0, 1)]
    near = sum(np.count_nonzero(each <= tolerance + 1e-6) for each in distances)
    return near / sum(map(len, distances))


def is_rectangular(axes: np.ndarray) -> bool:
    """Whether the columns of a matrix ``[3, 3]`` are at right angles to each other, apart from rounding in headers."""
    directions = axes / np.linalg.norm(axes, axis=0)
    return bool(np.allclose(directions.T @ directions, np.eye(3), atol=1e-3))
