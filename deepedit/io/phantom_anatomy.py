"""The anatomy of the phantom: the position and brightness of each organ, and how both differ from case to case.

All coordinates are in the frame of the body: millimetres from its middle to the right, to the front and upwards.
"""

from dataclasses import dataclass

import numpy as np

LABELS = {"liver": 1, "spleen": 2, "aorta": 3}
# What a scan covers from left to right, back to front, bottom to top.
FIELD_OF_VIEW_MM = (118.0, 98.0, 100.0)
ENDLESS = np.inf


@dataclass(frozen=True)
class Ellipsoid:
    """A part of an organ. With one infinite radius it is a tube, which may bend along that axis (in mm)."""

    centre: tuple[float, float, float]
    radii: tuple[float, float, float]
    bend: tuple[float, float] = (0.0, 0.0)

    def depth(self, point: np.ndarray) -> np.ndarray:
        """The approximate depth in mm of points ``[3, ...]`` inside of the ellipsoid; negative outside."""
        squares = np.zeros(point.shape[1:], np.float32)
        for axis in range(3):
            if np.isfinite(self.radii[axis]):
                offset = point[axis] - np.float32(self.centre[axis])
                if axis < 2 and self.bend[axis]:
                    offset -= np.float32(self.bend[axis]) * np.sin(point[2] / np.float32(16.0))
                squares += (offset / np.float32(self.radii[axis])) ** 2
        return (1 - np.sqrt(squares)) * np.float32(min(self.radii))


@dataclass(frozen=True)
class Structure:
    """A tissue: the union of its parts without what is carved out of it.

    Attributes:
        hounsfield: mean brightness in HU.
        grain: standard deviation of the texture in HU.
        coarse: whether the texture consists of large patches instead of small grains.
        label: value in the label map; 0 if it has no label.
    """

    parts: tuple[Ellipsoid, ...]
    hounsfield: float
    grain: float = 6.0
    coarse: bool = False
    label: int = 0
    carved: tuple[Ellipsoid, ...] = ()

    def depth(self, point: np.ndarray) -> np.ndarray:
        """The depth of points, as for an `Ellipsoid`."""
        depth = np.maximum.reduce([part.depth(point) for part in self.parts])
        return np.minimum.reduce([depth, *(-part.depth(point) for part in self.carved)])


def random_structures(rng: np.random.Generator) -> list[Structure]:
    """The structures of one patient in the order in which they are painted: later ones cover earlier ones.

    The brightness of organs, their neighbours and muscles is drawn from overlapping ranges, so that no threshold
    separates them.
    """
    phase = rng.normal(0, 12)  # how much contrast agent there is

    def soft(mean: float, spread: float = 11.0) -> float:
        return float(phase + rng.normal(mean, spread))

    def near(*centre: float, by: float = 2.0) -> tuple[float, float, float]:
        return tuple(rng.normal(centre, by).tolist())

    def about(*radii: float) -> tuple[float, float, float]:
        return tuple((np.array(radii) * rng.uniform(0.88, 1.12, 3)).tolist())

    def tube(x: float, y: float, *radii: float, bend: float = 0.0) -> Ellipsoid:
        return Ellipsoid(
            near(x, y, 0, by=1.5), (*about(*radii, 1)[:2], ENDLESS), tuple(rng.normal(0, bend, 2).tolist())
        )

    muscle, kidney = soft(58, 8), soft(94)
    wall = [
        Structure((Ellipsoid((0, 0, 0), (54, 45, ENDLESS)),), -95, 8),
        Structure((Ellipsoid((0, 0, 0), (50, 41, ENDLESS)),), muscle),
        # What lies between the organs wanders between fat and soft tissue.
        Structure((Ellipsoid((0, 2, 0), (46, 37, ENDLESS)),), -20, 40, coarse=True),
    ]
    muscles = [Structure((tube(side * 17, -28, 8, 8),), muscle) for side in (-1, 1)]
    spine = [Structure((tube(0, -33, 11, 9),), float(rng.uniform(160, 280)), 45)]
    kidneys = [Structure((Ellipsoid(near(side * 28, -17, -24), about(10, 10, 16)),), kidney) for side in (-1, 1)]
    x, y, z = near(-18, 17, 4, by=4)
    stomach = [
        Structure((Ellipsoid((x, y, z), about(14, 13, 17)),), soft(60, 16), 8),
        Structure((Ellipsoid((x, y + 7, z + 4), about(7, 4, 7)),), -750, 20),
    ]
    bowel = [
        Structure(
            (Ellipsoid((*rng.uniform((-30, -2), (30, 26)), rng.uniform(-46, -18)), about(9, 9, 11)),), soft(66, 18), 10
        )
        for _ in range(3)
    ]
    organs = [
        Structure(
            (Ellipsoid(near(24, 3, 12), about(20, 25, 25)), Ellipsoid(near(-1, 16, 22), about(19, 12, 13))),
            soft(82, 8),
            grain=14,
            label=LABELS["liver"],
        ),
        Structure(
            (Ellipsoid(near(-33, -12, 16), about(14, 19, 21)),),
            soft(104, 8),
            label=LABELS["spleen"],
            carved=(Ellipsoid(near(-19, -3, 9), about(8, 10, 14)),),
        ),
        Structure((tube(-6, -15, 9.5, 9.5, bend=3),), soft(136, 12), label=LABELS["aorta"]),
    ]
    vein = [Structure((tube(12, -15, 8, 7, bend=3),), soft(112, 14))]
    return [*wall, *muscles, *bowel, *stomach, *kidneys, *vein, *spine, *organs]


class SmoothField:
    """Smooth random values over a voxel grid, about N(0, 1), stored on a coarse grid and computed slice by slice."""

    def __init__(self, rng: np.random.Generator, shape: tuple[int, int, int], wavelength: np.ndarray, count: int = 1):
        """
        Args:
            wavelength: voxels between the nodes of the coarse grid along each axis.
            count: number of independent fields.
        """
        self._weights = [_spline_weights(side, step) for side, step in zip(shape, wavelength, strict=True)]
        nodes = [weights.shape[1] for weights in self._weights]
        # A cubic B-spline over white noise keeps about 0.48 of its variance along each axis.
        self._nodes = rng.standard_normal((count, *nodes), dtype=np.float32) / np.float32(0.48**1.5)

    def plane(self, index: int) -> np.ndarray:
        """``[count, X, Y]`` at one index of the last axis."""
        first, second, third = self._weights
        return first @ (self._nodes @ third[index]) @ second.T


def _spline_weights(side: int, step: float) -> np.ndarray:
    """``[side, nodes]`` weights of a cubic B-spline with a node every `step` voxels."""
    position = np.arange(side, dtype=np.float32)[:, None] / np.float32(step) + 1
    distance = np.abs(position - np.arange(int(side / step) + 4, dtype=np.float32))
    inner = 2 / 3 - distance**2 + distance**3 / 2
    outer = (2 - distance).clip(min=0) ** 3 / 6
    return np.where(distance < 1, inner, outer).astype(np.float32)
