"""A segmentation from elsewhere: brought to the grid of its image, and weighed against the network's answer."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from deepedit.clicks import Clicks, render_guidance
from deepedit.errors import FileError
from deepedit.files import one_line
from deepedit.io.dataset_checks import misfit
from deepedit.io.nifti import read_label
from deepedit.plan import Labels
from deepedit.volume import DEFAULT_READING, Reading, Volume

SAME_PLACE_MM = 1e-3

EVIDENCE = 6.0
"""By how much, in logits, the network must be sure to overrule a segmentation that it largely agrees with."""

EVIDENCE_SIGMA = 3.0
"""How near to a click that ends, in voxels of the network's grid."""

AGREES, AGREES_NOT = 0.85, 0.7
"""Dice between the two from which on the segmentation counts fully, and up to which not at all."""


def given_classes(
    segmentation: str | Path | Volume | np.ndarray,
    image: Volume,
    labels: Labels,
    reading: Reading = DEFAULT_READING,
    note: Callable[[str], None] = lambda note: None,
) -> np.ndarray:
    """Class indices of a segmentation on the grid of an image.

    Args:
        segmentation: file values; those of no label count as background. A file or volume on another grid is brought
            over by the two affines, each voxel taking the value of the nearest; an array must have the image's shape.
        image: only its grid is used.
        reading: how a file's header is read.
        note: called with a line on what contradicts in a file, or on which grid the segmentation was found to lie.

    Returns:
        ``[X, Y, Z]`` uint8, or uint16 past 255 labels; a copy.

    Raises:
        FileError: if it cannot be read, is no label map, or does not lie on the image.
    """
    name = "the segmentation"
    if isinstance(segmentation, np.ndarray):
        if segmentation.shape != image.shape:
            raise FileError(
                f"{name} has shape {segmentation.shape} where its image has {image.shape}; give an array on the "
                "image's grid, or a Volume, whose affine says where it lies"
            )
        segmentation = Volume(segmentation, image.affine)
    elif not isinstance(segmentation, Volume):
        name = one_line(segmentation)
        segmentation = read_label(segmentation, reading.affine, reading.units)
        for each in segmentation.notes:
            note(f"{name}: {each}")
    if segmentation.channels != 1:
        raise FileError(f"{name} has {segmentation.channels} channels; a label map has one")
    data = segmentation.data.reshape(segmentation.shape)
    if (data.dtype.kind == "f" and not (data == np.rint(data)).all()) or data.dtype.kind not in "biuf":
        raise FileError(f"{name} holds values that are no labels; labels are whole numbers")
    classes = labels.to_classes(data)
    same_place = np.allclose(segmentation.affine, image.affine, rtol=0, atol=SAME_PLACE_MM)
    if segmentation.shape == image.shape and same_place:
        return classes
    if (image.other_affines or segmentation.other_affines) and misfit(image, segmentation) is None:
        note(
            f"{name} lies on its image's grid by the other affine of a header that has two; it is taken voxel by voxel"
        )
        return classes
    moved = _at_voxels_of(classes, segmentation.affine, image)
    if classes.any() and not moved.any():
        raise FileError(f"{name} lies beside its image: nothing of it is left there; is it of another image?")
    return moved


def _at_voxels_of(classes: np.ndarray, affine: np.ndarray, image: Volume) -> np.ndarray:
    """Nearest neighbours at the voxels of another grid; background beyond the own."""
    from scipy import ndimage

    try:
        matrix = np.linalg.solve(affine, image.affine)
    except np.linalg.LinAlgError as error:
        raise FileError("the affine of the segmentation is singular; repair the sform or qform") from error
    return ndimage.affine_transform(
        classes, matrix[:3, :3], matrix[:3, 3], output_shape=image.shape, order=0, mode="constant", cval=0
    )


def add_evidence(logits: Tensor, given: Tensor, clicks: Clicks, weight: Tensor) -> None:
    """Let a segmentation that was given count as evidence beside the network's answer, but near the clicks.

    The more so the better the two agree: a good segmentation differs from the network's along its borders only, and a
    user who corrects it wants the rest left alone; a bad one is what the network is asked to replace.

    Args:
        logits: ``[C, X, Y, Z]`` float, the answer; changed in place.
        given: ``[X, Y, Z]`` class indices.
        clicks: all of them, on that grid.
        weight: ``[X, Y, Z]`` or a number in [0, 1], how much the answer itself counts.
    """
    given = given.long()
    trust = ((agreement(given, logits.argmax(0)) - AGREES_NOT) / (AGREES - AGREES_NOT)).clamp(0, 1)
    of_any_class = Clicks(clicks.batch, torch.zeros_like(clicks.label), clicks.position, clicks.valid)
    near = render_guidance(of_any_class, given.shape, 1, sigma=EVIDENCE_SIGMA)[0, 0]
    logits.scatter_add_(0, given[None], (EVIDENCE * trust * (1 - near) * weight)[None])


def agreement(one: Tensor, other: Tensor) -> Tensor:
    """Dice of the foreground of two maps of class indices, voxels of different labels counting as different; float64.

    A single value on the maps' device, which is not waited for.
    """
    inside = one > 0
    foreground = inside.sum() + (other > 0).sum()
    same = ((one == other) & inside).sum()
    return torch.where(foreground > 0, 2 * same / foreground, 1.0).double()
