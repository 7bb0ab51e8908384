"""One plane of a picture: grey values, tinted labels, clicks."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from deepedit.colours import colour

Mark = tuple[Sequence[float], int]
"""A click: voxel and class index."""

TINT = 0.28
# Drawn at twice the size, then halved: smooth edges without an anti-aliasing of our own.
FINE = 2


class Plane:
    """One plane through a volume and how it lies on the picture.

    Args:
        normal, across, down: the axis that it cuts, and those of its columns and rows.
        letters: directions left, right, top and bottom.
        centre: voxel that it goes through.
        shape, spacing: of the volume.
    """

    def __init__(
        self,
        normal: int,
        across: int,
        down: int,
        letters: str,
        centre: Sequence[int],
        shape: Sequence[int],
        spacing: Sequence[float],
    ) -> None:
        self.normal, self.across, self.down, self.letters = normal, across, down, letters
        self.index, self.shape, self.spacing = centre[normal], shape, spacing
        self.size_mm = (shape[across] * spacing[across], shape[down] * spacing[down])

    def cut(self, volume: np.ndarray) -> np.ndarray:
        """``[rows, columns]`` of ``[X, Y, Z]``; of the two axes left, the first is that of the columns."""
        return volume.take(self.index, axis=self.normal).T[::-1, ::-1]

    def pixels(self, scale: float) -> tuple[int, int]:
        """Width and height at a scale in pixels per mm, before halving."""
        width, height = (FINE * max(1, round(side * scale)) for side in self.size_mm)
        return width, height

    def grey(self, image: np.ndarray, low: float, high: float, scale: float) -> np.ndarray:
        """``[H, W, 3]`` float32 in [0, 255]."""
        values = self.cut(image).astype(np.float32)
        shown = ((values - low) / max(high - low, 1e-12)).clip(0, 1) * 255
        smooth = enlarge(shown, self.pixels(scale)).clip(0, 255)
        return np.repeat(smooth[:, :, None], 3, axis=2)

    def tint(self, grey: np.ndarray, segmentation: np.ndarray, scale: float) -> np.ndarray:
        """The plane with labels tinted and outlined."""
        from scipy import ndimage

        flat = self.cut(segmentation)
        present = [int(label) for label in np.unique(flat) if label]
        shares = [enlarge((flat == label).astype(np.float32), self.pixels(scale)) for label in present]
        if not present:
            return grey
        # Enlarged as shares and then decided, outlines are smooth where voxels would be stairs.
        rest = 1 - np.sum(shares, axis=0)
        decided = np.array([0, *present])[np.argmax([rest, *shares], axis=0)]
        result = grey.copy()
        for label in present:
            mask = decided == label
            rim = mask & ~ndimage.binary_erosion(mask, iterations=3, border_value=1)
            for area, strength in ((mask & ~rim, TINT), (rim, 0.95)):
                result[area] += strength * (np.array(colour(label), np.float32) - result[area])
        return result

    def finish(self, pixels: np.ndarray, clicks: Sequence[Mark], scale: float) -> Any:
        """The plane as a Pillow image, with the clicks, at its final size."""
        from PIL import Image, ImageDraw

        picture = Image.fromarray(pixels.round().astype(np.uint8))
        draw = ImageDraw.Draw(picture)
        for number, (position, label) in enumerate(clicks, 1):
            at = [
                (self.shape[axis] - 0.5 - float(position[axis])) * self.spacing[axis] * scale * FINE
                for axis in (self.across, self.down)
            ]
            here = round(float(position[self.normal])) == self.index
            mark(draw, at, label, here, newest=number == len(clicks))
        return picture.reduce(FINE)


def mark(draw: Any, at: Sequence[float], label: int, here: bool, newest: bool) -> None:
    """A click: a dot with a rim where it lies in the plane, else a thin ring."""
    radius = (6.5 if newest else 5) * FINE if here else 4 * FINE

    def circle(size: float, **options: Any) -> None:
        draw.ellipse([at[0] - size, at[1] - size, at[0] + size, at[1] + size], **options)

    if not here:
        circle(radius, outline=(0, 0, 0), width=2 * FINE)
        circle(radius - FINE / 2, outline=colour(label), width=FINE)
        return
    circle(radius + FINE, fill=(0, 0, 0))
    circle(radius, fill=(255, 255, 255))
    circle(radius - 1.5 * FINE, fill=colour(label) if label else (40, 42, 46))
    if not label:
        arm = radius * 0.42
        for sign in (1, -1):
            draw.line([at[0] - arm, at[1] - sign * arm, at[0] + arm, at[1] + sign * arm], (255, 255, 255), 2 * FINE)


def enlarge(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """``[rows, columns]`` float32, bicubic, to a size given as width and height."""
    from PIL import Image

    return np.asarray(Image.fromarray(values).resize(size, Image.Resampling.BICUBIC))
