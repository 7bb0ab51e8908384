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
    prediction: np.ndarray, truth: np.ndarray, spacing: Sequence[float], tolerance: float = TOLERANCE
) -> float:
    """Normalised surface distance: the share of the two surfaces that is within a tolerance of the other surface.

    The surface of a mask is the set of its voxels with a 6-neighbour outside of the mask or of the volume.

    Args:
        prediction, truth: ``[X, Y, Z]`` bool.
        spacing: mm between voxels along each axis.
        tolerance: distance in mm up to which surfaces agree.

    Returns:
        A value in [0, 1]; 1 if both masks are empty, 0 if one is.

    Source: Nikolov et al., Clinically applicable segmentation of head and neck anatomy, JMIR 2021, with voxels in
    place of surface elements.
    """
    if not prediction.any() or not truth.any():
        return float(prediction.any() == truth.any())
    from scipy import ndimage

    box = bounding_box(prediction | truth)
    masks = [np.pad(mask[box], 1) for mask in (prediction, truth)]
    surfaces = [mask & ~ndimage.binary_erosion(mask) for mask in masks]
    distances = [ndimage.distance_transform_edt(~surface, sampling=spacing) for surface in surfaces]
    near = sum(np.count_nonzero(distances[1 - side][surfaces[side]] <= tolerance + 1e-6) for side in (0, 1))
    return near / sum(np.count_nonzero(surface) for surface in surfaces)
