"""How much is changed at random in augmentation. It needs no torch, so that ``--help`` does not."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Augmentation:
    """Ranges of the random changes, which are drawn independently for each sample.

    Few samples are rotated. Annotators draw labels slice by slice, and by convention some labels end at a certain
    slice. Such a border is plane and runs along the grid, and a network should mostly see it so.

    Attributes:
        spatial_probability: share of samples that are scaled and shifted.
        rotation_probability: share of samples that are rotated.
        rotation: largest angle about each axis, degrees.
        scaling: smallest and largest zoom of the content, drawn independently for each axis.
        shift: largest displacement along each axis, as a share of the patch's side.
        mirror_probability: share of samples that are mirrored left to right, in datasets where `mirrored_classes` finds
            that this is safe.
        intensity_probability: share of samples to which each of the changes below is applied, independently.
        brightness: largest offset, in standard deviations of the patch.
        contrast: smallest and largest factor about the mean.
        gamma: smallest and largest exponent, applied to the patch's values after scaling them to [0, 1].
        noise: largest standard deviation of Gaussian noise, in standard deviations of the patch.
    """

    spatial_probability: float = 0.7
    rotation_probability: float = 0.2
    rotation: float = 20.0
    scaling: tuple[float, float] = (0.83, 1.2)
    shift: float = 0.06
    mirror_probability: float = 0.0
    intensity_probability: float = 0.3
    brightness: float = 0.3
    contrast: tuple[float, float] = (0.7, 1.4)
    gamma: tuple[float, float] = (0.7, 1.5)
    noise: float = 0.15

    def __post_init__(self) -> None:
        for name in ("spatial_probability", "rotation_probability", "mirror_probability", "intensity_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share from 0 to 1; got {getattr(self, name)}")
        for name in ("rotation", "shift", "brightness", "noise"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is a number from 0 on; got {getattr(self, name)}")
        for name in ("scaling", "contrast", "gamma"):
            low, high = getattr(self, name)
            if not 0 < low <= high < math.inf:
                raise ValueError(f"{name} is a range of numbers above 0, the smallest first; got {low} to {high}")
