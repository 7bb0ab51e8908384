"""An initial segmentation: brought to the grid of its image."""

from collections.abc import Callable, Mapping
from numbers import Integral
from pathlib import Path

import numpy as np

from deepedit.errors import FileError
from deepedit.files import one_line, pasted
from deepedit.inference.memory import sides
from deepedit.io.grids import MAX_MISFIT_VOXELS, NOTED_MISFIT_VOXELS, misfit, nearly_there
from deepedit.io.nifti_affine import farthest
from deepedit.io.volumes import read_label
from deepedit.plan import BACKGROUND, Labels
from deepedit.volume import DEFAULT_READING, Reading, Volume


def initial_classes(
    segmentation: str | Path | Volume | np.ndarray,
    image: Volume,
    labels: Labels,
    reading: Reading = DEFAULT_READING,
    note: Callable[[str], None] = lambda note: None,
    mapping: Mapping[int, str] | None = None,
    same_grid: bool = False,
) -> np.ndarray:
    """Class indices of a segmentation on the grid of an image.

    Args:
        segmentation: file values. A file or volume on another grid is brought over by the two affines, each voxel
            taking the value of the nearest; an array must have the image's shape.
        image: only its grid is used.
        reading: how a file's header is read.
        note: called with a line on what contradicts in a file, on which grid the segmentation was found to lie, and on
            values that are left out.
        mapping: names of labels, or ``"background"``, for values that the model has other names for, or none. Values
            of no label count as background where others are known.
        same_grid: take it voxel by voxel, whatever its affine says.

    Returns:
        ``[X, Y, Z]`` uint8, or uint16 past 255 labels; a copy.

    Raises:
        FileError: if it cannot be read, is no label map, has foreground and none that is known, or does not lie on
            the image.
        ClickError: if a label in `mapping` is unknown.
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
    whole = data.dtype.kind in "biu" or (data.dtype.kind == "f" and (np.isfinite(data) & (data == np.rint(data))).all())
    if not whole:
        raise FileError(f"{name} holds values that are no labels; labels are whole numbers")
    _tell_other_names(segmentation, labels, mapping or {}, name, note)
    classes = _known_classes(data, labels, mapping or {}, name, note)
    if same_grid and segmentation.shape != image.shape:
        raise FileError(
            f"{name}: has {sides(segmentation.shape)} voxels where its image has {sides(image.shape)}, so that it "
            "cannot be taken voxel by voxel; leave --same-grid out"
        )
    return classes if same_grid else _on_grid_of(image, classes, segmentation, name, note)


def _on_grid_of(
    image: Volume, classes: np.ndarray, segmentation: Volume, name: str, note: Callable[[str], None]
) -> np.ndarray:
    """The class indices of a segmentation brought to its image's grid, and a word on how, unless they lie there."""
    same_shape = segmentation.shape == image.shape
    if same_shape:
        apart = farthest(image.affine, segmentation.affine, image.shape)
        if apart <= MAX_MISFIT_VOXELS:
            if apart > NOTED_MISFIT_VOXELS:
                note(f"{name}: {nearly_there(apart)}")
            return classes
    if (image.other_affines or segmentation.other_affines) and misfit(image, segmentation) is None:
        note(
            f"{name} lies on its image's grid by the other affine of a header that has two; it is taken voxel by voxel"
        )
        return classes
    moved = _at_voxels_of(classes, segmentation.affine, image)
    mend = "; if its header is wrong, --same-grid takes it voxel by voxel" if same_shape else ""
    if classes.any() and not moved.any():
        question = mend or "; is it of another image?"
        raise FileError(f"{name} lies beside its image: nothing of it is left there{question}")
    share = _share_outside(classes, segmentation.affine, image)
    lost = f", and {share:.3g} % of what it labels lie outside of the image and are lost" if share else ""
    grid = "same shape as its image, other affine" if same_shape else f"of another grid ({sides(segmentation.shape)})"
    note(f"{name}: {grid}; it is brought over by the affines{lost}{mend}")
    return moved


def _known_classes(
    data: np.ndarray, labels: Labels, mapping: Mapping[int, str], name: str, note: Callable[[str], None]
) -> np.ndarray:
    """Class indices of values, and a word on those that are of no label."""
    classes = labels.to_classes(data)
    unknown = (classes == 0) & (data != 0)
    for value, label in mapping.items():
        if not isinstance(value, Integral):
            raise FileError(f"{name}: {value!r} is mapped to {one_line(label, 60)}; values of a file are whole numbers")
        here = data == value
        classes[here] = labels.index(label)
        unknown[here] = False
    values = [int(value) for value in np.unique(data[unknown])]
    if not values:
        return classes
    listed = ", ".join(map(str, values[:10])) + (f" and {len(values) - 10} more" if len(values) > 10 else "")
    if not ((data != 0) & ~unknown).any():
        proposed = zip(values, labels.names, strict=False)
        hint = " ".join(pasted("--map", f"{value}={label}") for value, label in list(proposed)[:10] if value > 0)
        raise FileError(
            f"{name}: has {listed}; the model knows {named_values(labels)}"
            + (f"; say what that is, as in {hint}" * bool(hint))
        )
    counts = np.bincount(classes.ravel(), minlength=labels.num_classes)[1:]
    free = [label for label, count in zip(labels.names, counts, strict=True) if not count]
    hint = pasted("--map", f"{values[0]}={(*free, BACKGROUND)[0]}")
    note(
        f"{name}: {listed} {'is' if len(values) == 1 else 'are'} of no label ({named_values(labels)}) and left out; "
        f"bring it over with {hint}"
    )
    return classes


def _tell_other_names(
    segmentation: Volume, labels: Labels, mapping: Mapping[int, str], name: str, note: Callable[[str], None]
) -> None:
    """A word on values to which the segmentation gives the name of another label: 3D Slicer numbers segments anew."""
    known = dict(zip(labels.values, labels.names, strict=True))
    for value, called in segmentation.names.items():
        if called in labels.names and known.get(value) != called and value not in mapping:
            ours = one_line(known[value], 60) if value in known else "nothing"
            note(
                f"{name}: calls the value {value} {one_line(called, 60)}, and the model {ours}; values count, "
                f"{pasted('--map', f'{value}={called}')} takes it by its name"
            )


def named_values(labels: Labels) -> str:
    """File values and names, as in ``1 Anterior, 2 Posterior``; of many the first."""
    entries = [f"{value} {one_line(name, 40)}" for name, value in zip(labels.names, labels.values, strict=True)]
    return ", ".join(entries[:10]) + (f" and {len(entries) - 10} more" if len(entries) > 10 else "")


def _at_voxels_of(classes: np.ndarray, affine: np.ndarray, image: Volume) -> np.ndarray:
    """Nearest neighbours at the voxels of another grid; background beyond the own."""
    from scipy import ndimage

    try:
        matrix = np.linalg.solve(affine, image.affine)
    except np.linalg.LinAlgError as error:
        raise FileError("the affine of the segmentation is singular; repair the sform or qform") from error
    # This mode's grid ends at the outer edges of the outermost voxels, not at their centres.
    return ndimage.affine_transform(
        classes, matrix[:3, :3], matrix[:3, 3], output_shape=image.shape, order=0, mode="grid-constant", cval=0
    )


def _share_outside(classes: np.ndarray, affine: np.ndarray, image: Volume) -> float:
    """Percentage of the labelled voxels whose centres lie beyond the edges of an image."""
    matrix = np.linalg.solve(image.affine, affine)
    size = np.array(image.shape)
    labelled = outside = 0
    for index, plane in enumerate(classes):  # a slice at a time: coordinates take 48 times the memory of a class
        voxels = np.argwhere(plane)
        places = matrix[:3, 0] * index + voxels @ matrix[:3, 1:3].T + matrix[:3, 3]
        labelled += len(voxels)
        outside += int(((places < -0.5) | (places > size - 0.5)).any(axis=1).sum())
    return 100 * outside / labelled if labelled else 0.0
