"""Frames of DICOM SEG that are even but not straight behind each other, as those of a series with gantry tilt.

highdicom gives their voxels, but does not take them for a volume.
"""

from typing import Any

import numpy as np

from deepedit.io.dicom_series import SAME_PLACE_MM
from deepedit.io.grids import MAX_MISFIT_VOXELS
from deepedit.io.values import refuse_too_large

POSITION = 0x00200032  # ImagePositionPatient


def sheared_label_map(segmentation: Any, name: str) -> tuple[np.ndarray, np.ndarray] | None:
    """The label map of all segments of a segmentation, ``[X, Y, Z]``, and its affine ``[4, 4]`` to LPS mm.

    None if the frames are not even, or do not say where they lie.

    Args:
        segmentation: of highdicom.
        name: of its file.

    Raises:
        FileError: if it takes more memory than there is.
        RuntimeError: if segments overlap.
    """
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    if POSITION not in segmentation.dimension_index_pointers or "PlaneOrientationSequence" not in shared:
        return None
    measures = shared.PixelMeasuresSequence[0]
    which = segmentation.dimension_index_pointers.index(POSITION)
    by_index: dict[int, set[tuple[float, ...]]] = {}
    for frame in segmentation.PerFrameFunctionalGroupsSequence:
        place = tuple(map(float, frame.PlanePositionSequence[0].ImagePositionPatient))
        by_index.setdefault(int(np.atleast_1d(frame.FrameContentSequence[0].DimensionIndexValues)[which]), set()).add(
            place
        )
    if len(by_index) < 2 or any(len(places) > 1 for places in by_index.values()):
        return None
    orientation = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float).reshape(2, 3).T
    origins = np.array([next(iter(places)) for places in by_index.values()])
    heights = origins @ np.cross(*orientation.T)
    order = heights.argsort()
    indices, origins, heights = np.array(list(by_index))[order], origins[order], heights[order]
    between = float(measures.get("SpacingBetweenSlices", np.diff(heights).min()))
    if not between > SAME_PLACE_MM:
        return None
    numbers = np.rint((heights - heights[0]) / between).astype(int)
    if not np.diff(numbers).all():
        return None
    affine = np.eye(4)
    affine[:3, :2] = orientation * np.array(measures.PixelSpacing[::-1], float)
    affine[:3, 2], affine[:3, 3] = (origins[-1] - origins[0]) / numbers[-1], origins[0]
    places = np.linalg.solve(affine[:3, :3], (origins - origins[0]).T).T
    if not np.abs(places - np.outer(numbers, [0, 0, 1])).max() <= MAX_MISFIT_VOXELS:
        return None
    shape = int(segmentation.Columns), int(segmentation.Rows), int(numbers[-1]) + 1
    refuse_too_large(int(np.prod(shape, dtype=object)) * 2, shape, 1, name)
    frames = segmentation.get_pixels_by_dimension_index_values(
        [[int(index)] for index in indices], [POSITION], combine_segments=True
    )
    data = np.zeros(shape[::-1], frames.dtype)
    data[numbers] = frames
    return data.T, affine
