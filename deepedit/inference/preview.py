"""A picture of a segmentation: three planes, labels as tints with contours, clicks as markers."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from deepedit.colours import colour
from deepedit.inference.plane import Mark, Plane
from deepedit.io.click_files import PointClick
from deepedit.plan import Labels
from deepedit.transforms.geometry import nearest_voxel, to_voxel
from deepedit.transforms.orientation import closest_canonical
from deepedit.volume import Volume

PAPER, INK, FAINT = (14, 15, 18), (225, 228, 232), (190, 195, 202)
GAP, MARGIN, STRIP = 8, 10, 26
# For each plane: the axis it cuts, that of its columns, that of its rows, and the letters left, right, top, bottom.
# Columns and rows run against R, A and S: the patient's right is on the left, as radiologists look at them.
PLANES = ((2, 0, 1, "RLAP"), (1, 0, 2, "RLSI"), (0, 1, 2, "APSI"))


def overlay(
    image: np.ndarray,
    segmentations: Sequence[np.ndarray],
    clicks: Sequence[Mark] = (),
    spacing: Sequence[float] = (1, 1, 1),
    names: Sequence[str] = (),
    titles: Sequence[str] = (),
    window: tuple[float, float] | None = None,
    height: int = 320,
) -> np.ndarray:
    """Axial, coronal and sagittal plane of an image, with labels and clicks drawn over them.

    The planes go through the last click; without one, each through the largest cross-section of the first
    segmentation that is not empty. A click lying in a plane is a dot, elsewhere a ring; one for the background has a
    cross in it.

    Args:
        image: ``[X, Y, Z]``, axes closest to R, A, S.
        segmentations: ``[X, Y, Z]`` class indices each; every one gets a row of its own, such as truth and prediction.
        clicks: voxel and class index each, the newest last.
        spacing: mm between voxels along each axis.
        names: of the labels, by class index from 1 on; shown as a legend.
        titles: of the rows.
        window: values shown black and white; percentiles of the planes shown unless given.
        height: of the tallest plane, in pixels.

    Returns:
        ``[H, W, 3]`` uint8.
    """
    image, segmentations = np.asarray(image), [np.asarray(each) for each in segmentations]
    centre = _centre(segmentations, clicks, image.shape)
    planes = [Plane(*plane, centre, image.shape, spacing) for plane in PLANES]
    scale = min(height / max(plane.size_mm[1] for plane in planes), 3 * height / sum(p.size_mm[0] for p in planes))
    low, high = window or np.percentile(np.concatenate([plane.cut(image).ravel() for plane in planes]), (1, 99.5))
    grey = [plane.grey(image, float(low), float(high), scale) for plane in planes]
    rows = [
        [
            plane.finish(plane.tint(base, segmentation, scale), clicks, scale)
            for plane, base in zip(planes, grey, strict=True)
        ]
        for segmentation in segmentations
    ]
    return np.asarray(_page(rows, [plane.letters for plane in planes], titles, names, _shown(segmentations, clicks)))


def preview(
    volume: Volume,
    segmentation: np.ndarray,
    clicks: Sequence[PointClick],
    labels: Labels,
    window: tuple[float, float] | None = None,
) -> np.ndarray:
    """The picture of a result as `InteractiveSession.predict` gives it.

    Args:
        volume: the image, on the file's own grid; of several channels the first is shown.
        segmentation: ``[X, Y, Z]`` file values.
        clicks: as they were given.
        labels: names and file values.
        window: as for `overlay`.

    Returns:
        ``[H, W, 3]`` uint8.
    """
    marks = [
        (nearest_voxel(to_voxel(click.position, click.space, volume.affine)).tolist(), labels.index(click.label))
        for click in clicks
    ]
    return upright(volume, [labels.to_classes(segmentation)], marks, labels.names, window)


def upright(
    volume: Volume,
    segmentations: Sequence[np.ndarray],
    clicks: Sequence[Mark] = (),
    names: Sequence[str] = (),
    window: tuple[float, float] | None = None,
) -> np.ndarray:
    """`overlay` of an image whose axes run in any direction; arguments are as there, on the file's own grid."""
    permutation, flips = closest_canonical(volume.affine)
    backwards = tuple(slice(None, None, -1 if flip else 1) for flip in flips)
    image = volume.data if volume.data.ndim == 3 else volume.data[0]
    size = np.array(volume.shape)[list(permutation)]
    marks = []
    for place, index in clicks:
        voxel = np.array(place)[list(permutation)]
        marks.append((np.where(flips, size - 1 - voxel, voxel).tolist(), index))
    return overlay(
        image.transpose(permutation)[backwards],
        [each.transpose(permutation)[backwards] for each in segmentations],
        marks,
        [volume.spacing[axis] for axis in permutation],
        names,
        window=window,
    )


def _centre(segmentations: Sequence[np.ndarray], clicks: Sequence[Mark], shape: Sequence[int]) -> list[int]:
    if clicks:
        return [int(np.clip(round(float(at)), 0, size - 1)) for at, size in zip(clicks[-1][0], shape, strict=True)]
    mask = next((each > 0 for each in segmentations if each.any()), None)
    if mask is None:
        return [size // 2 for size in shape]
    areas = (mask.sum(axis=tuple(other for other in range(3) if other != axis)) for axis in range(3))
    return [int(area.argmax()) for area in areas]


def _shown(segmentations: Sequence[np.ndarray], clicks: Sequence[Mark]) -> list[int]:
    """Class indices that appear, ascending."""
    found = {int(value) for each in segmentations for value in np.unique(each)} | {label for _, label in clicks}
    return sorted(found - {0})


def _page(
    rows: Sequence[Sequence[Any]],
    letters: Sequence[str],
    titles: Sequence[str],
    names: Sequence[str],
    shown: Sequence[int],
) -> Any:
    """Planes side by side, a row each segmentation, with titles above and a legend below."""
    from PIL import Image, ImageDraw

    font, small = _font(13), _font(11)
    heading = STRIP if titles else 0
    row_height = max(plane.height for plane in rows[0])
    widths = [plane.width for plane in rows[0]]
    legend = STRIP if names and shown else 0
    page = Image.new(
        "RGB",
        (
            sum(widths) + GAP * (len(widths) - 1) + 2 * MARGIN,
            2 * MARGIN + len(rows) * (row_height + heading) + GAP * (len(rows) - 1) + legend,
        ),
        PAPER,
    )
    draw = ImageDraw.Draw(page)
    top = MARGIN
    for number, row in enumerate(rows):
        if number < len(titles):
            draw.text((MARGIN, top + STRIP / 2 - 2), titles[number], INK, font, anchor="lm")
        left, top = MARGIN, top + heading
        for plane, directions in zip(row, letters, strict=True):
            upper = top + (row_height - plane.height) // 2
            page.paste(plane, (left, upper))
            _directions(draw, (left, upper, plane.width, plane.height), directions, small)
            left += plane.width + GAP
        top += row_height + GAP
    if legend:
        _legend(draw, top - GAP + STRIP / 2 + 4, names, shown, font, page.width)
    return page


def _directions(draw: Any, box: tuple[int, int, int, int], letters: str, font: Any) -> None:
    """The letters of a plane's left, right, top and bottom, just inside of its edges."""
    left, top, width, height = box
    places = (
        ((left + 3, top + height / 2), "lm"),
        ((left + width - 3, top + height / 2), "rm"),
        ((left + width / 2, top + 2), "mt"),
        ((left + width / 2, top + height - 3), "mb"),
    )
    for letter, (place, anchor) in zip(letters, places, strict=True):
        draw.text(place, letter, FAINT, font, anchor=anchor, stroke_width=1, stroke_fill=PAPER)


def _legend(draw: Any, middle: float, names: Sequence[str], shown: Sequence[int], font: Any, width: int) -> None:
    """A swatch and a name for each label shown, as many as fit."""
    left = MARGIN
    for label in shown:
        name = names[label - 1] if label <= len(names) else f"class {label}"
        needed = 18 + draw.textlength(name, font)
        if left + needed > width - MARGIN:
            draw.text((left, middle), "...", FAINT, font, anchor="lm")
            return
        draw.rounded_rectangle([left, middle - 5, left + 11, middle + 6], 3, colour(label))
        draw.text((left + 17, middle), name, INK, font, anchor="lm")
        left += needed + 16


def _font(size: int) -> Any:
    from PIL import ImageFont

    try:
        return ImageFont.load_default(size)
    except TypeError:  # Pillow before 10.1 has one size
        return ImageFont.load_default()
