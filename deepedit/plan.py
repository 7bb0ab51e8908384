"""What a model must know besides its weights: the labels, and the grid and intensities that it was trained on."""

import difflib
import math
import reprlib
import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from deepedit.defaults import WINDOW
from deepedit.errors import ClickError, ModelError
from deepedit.volume import Reading

BACKGROUND = "background"
MAX_VALUE = 2**31 - 1
MIN_SPACING, MAX_SPACING = 1e-3, 1e3  # mm


@dataclass(frozen=True)
class Labels:
    """The foreground labels, in ascending order of their value in the file.

    Class index 0 is the background; class index ``c`` from 1 on has the name ``names[c - 1]`` and the file value
    ``values[c - 1]``.
    """

    names: tuple[str, ...]
    values: tuple[int, ...]

    def __post_init__(self) -> None:
        # First, and without showing them: what comes from a file may be of any type and of any size.
        if not all(isinstance(name, str) and name.strip() and name.isprintable() for name in self.names):
            raise ValueError("label names must be short texts")
        if not all(type(value) is int and abs(value) <= MAX_VALUE for value in self.values):
            raise ValueError(f"label values must be whole numbers up to {MAX_VALUE}")
        if len(self.names) != len(self.values) or not self.names:
            raise ValueError(f"labels need one name for each value; got {self.names} and {self.values}")
        if list(self.values) != sorted(set(self.values)) or self.values[0] < 1:
            raise ValueError(f"label values must be distinct, ascending and above 0; got {self.values}")
        if len(set(self.names)) != len(self.names) or BACKGROUND in self.names:
            raise ValueError(f"label names must be distinct, and {BACKGROUND} is value 0; got {self.names}")

    @classmethod
    def from_mapping(cls, values: Mapping[str, int]) -> "Labels":
        """Labels from ``{name: file value}``; an entry for the background (value 0) is left out."""
        ordered = sorted((value, name) for name, value in values.items() if value != 0)
        return cls(tuple(name for _, name in ordered), tuple(value for value, _ in ordered))

    @property
    def num_classes(self) -> int:
        """Number of classes, background included."""
        return len(self.names) + 1

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names by class index, the background first."""
        return (BACKGROUND, *self.names)

    def index(self, name: str) -> int:
        """Class index of a label name.

        Raises:
            ClickError: for a name that is not known; the message suggests the nearest.
        """
        if not isinstance(name, str):
            raise ClickError(f"label {name!r} is not a name; give one of {', '.join(self.class_names)}")
        composed = [unicodedata.normalize("NFC", each) for each in (name, *self.class_names)]
        if composed[0] in composed[1:]:
            return composed.index(composed[0], 1) - 1
        near = difflib.get_close_matches(name, self.class_names, n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ClickError(f"label {name!r} is not one of {', '.join(self.class_names)}{hint}")

    def to_values(self, classes: np.ndarray) -> np.ndarray:
        """File values of class indices, in the smallest unsigned type that holds them all."""
        table = np.array((0, *self.values))
        return table.astype(np.min_scalar_type(self.values[-1]))[classes]

    def to_classes(self, values: np.ndarray) -> np.ndarray:
        """Class indices (uint8, or uint16 past 255 labels) of file values; values of no label become background."""
        kind = values.dtype
        if kind.kind in "iu" and kind.itemsize <= 2 and kind.isnative and values.size > 2**16:
            bits = np.dtype(f"u{kind.itemsize}")
            every = np.arange(2 ** (8 * kind.itemsize)).astype(bits).view(kind)
            return self.to_classes(every)[values.view(bits)]
        known = np.array((0, *self.values))
        position = np.searchsorted(known, values).clip(max=len(known) - 1)
        return np.where(known[position] == values, position, 0).astype(np.min_scalar_type(len(self.values)))


@dataclass(frozen=True)
class Intensity:
    """How intensities are normalised.

    Attributes:
        mode: ``"window"`` maps [lower, upper] to [0, 1] and clips; ``"percentile"`` does the same with the volume's
            own percentiles `lower` and `upper`; ``"zscore"`` clips to those percentiles, then subtracts the mean and
            divides by the standard deviation.
        lower, upper: file units (HU) for ``"window"``, else percentiles in [0, 100].
    """

    mode: str = "window"
    lower: float = WINDOW[0]
    upper: float = WINDOW[1]

    def __post_init__(self) -> None:
        if self.mode not in ("window", "percentile", "zscore"):
            raise ValueError(f"intensity mode must be window, percentile or zscore; got {reprlib.repr(self.mode)}")
        if not (_finite(self.lower) and _finite(self.upper)):
            raise ValueError("intensity range must be two numbers")
        if not self.lower < self.upper:
            raise ValueError(f"intensity range must ascend; got {self.lower} to {self.upper}")
        if self.mode != "window" and not 0 <= self.lower < self.upper <= 100:
            raise ValueError(f"percentiles go from 0 to 100; got {self.lower} and {self.upper}")

    def __str__(self) -> str:
        """As messages name it, such as ``window -175 to 250``."""
        return f"{self.mode} {self.lower:g} to {self.upper:g}"


@dataclass(frozen=True)
class MergePolicy:
    """What an answer to a click may change, see `deepedit.inference.merge`.

    Attributes:
        reach: voxels from the newest clicks at which their answer counts as much as an initial segmentation with which
            the network agrees. The less it agrees, the farther.
        softness: voxels by which a click has to be nearer than that, for most of the weight to be the answer's.
        agreement: of the network's answer with an initial segmentation, as a share of what it expects of its answer
            and the truth: up to the first the answer counts everywhere, from the second on no farther than the reach.
        initial_logit: the logit of an initial segmentation's label, where the others have as much below 0.
        enforce: a clicked voxel that the network leaves wrong takes its label all the same.
        margin: by how much, in logits, a class leads where it is made to.
        ball: width, in voxels, of the Gaussian by which the surroundings of such a voxel are raised too.
    """

    reach: float = 5.0
    softness: float = 2.0
    agreement: tuple[float, float] = (0.8, 0.86)
    initial_logit: float = 4.0
    enforce: bool = True
    margin: float = 0.1
    ball: float = 2.0

    @classmethod
    def plain(cls) -> "MergePolicy":
        """The answer as it is, as MONAI shows it, whose models take no initial segmentation."""
        return cls(enforce=False)

    def __post_init__(self) -> None:
        numbers = (self.reach, self.softness, self.initial_logit, self.margin, self.ball)
        if not all(_finite(number) and number > 0 for number in numbers):
            raise ValueError(f"the distances and logits of a merge policy are numbers above 0; got {numbers}")
        lowest, highest = self.agreement
        if not (_finite(lowest) and _finite(highest) and lowest < highest):
            raise ValueError(f"the agreement of a merge policy must be two ascending numbers; got {self.agreement}")
        if type(self.enforce) is not bool:
            raise ValueError("enforce of a merge policy must be true or false")

    @classmethod
    def from_dict(cls, entries: Mapping[str, Any]) -> "MergePolicy":
        """The policy in the dictionary of a plan; entries of rules that are no more are left out."""
        entries = dict(entries)
        if "ownership" in entries:  # as first written in format 3, when agreement was no share of what is expected
            for name in ("ownership", "agreement"):
                del entries[name]
            entries["reach"] = entries.pop("initial_distance")
        else:
            entries["agreement"] = tuple(_list(entries["agreement"]))
        return cls(**entries)


@dataclass(frozen=True)
class Plan:
    """All that is decided before training, and that inference must repeat.

    Attributes:
        labels: names and file values.
        spacing: mm between voxels of the network's grid, axes closest to R, A, S.
        patch_size: voxels that the network sees at once.
        intensity: how image values are normalised.
        image_channels: channels of an input image.
        sigma: width of a click's Gaussian in voxels of the network's grid.
        fixed_shape: None; or the voxels that every image is resized to whatever its spacing, each the mean of all that
            it touches, clicks truncated: as models imported from MONAI were trained. `spacing` is unused then.
        guidance: how clicks of one class are joined, see `render_guidance`.
        previous: whether the network takes a previous segmentation, without which it cannot correct one.
        merge: what the network's answer to a click may change.
        reading: what is believed of the headers of images that contradict themselves.
        ignore: the file value of voxels of which nothing is known; in training they count nowhere.
    """

    labels: Labels
    spacing: tuple[float, float, float]
    patch_size: tuple[int, int, int]
    intensity: Intensity = field(default_factory=Intensity)
    image_channels: int = 1
    sigma: float = 2.0
    fixed_shape: tuple[int, int, int] | None = None
    guidance: str = "max"
    previous: bool = True
    merge: MergePolicy = field(default_factory=MergePolicy)
    reading: Reading = field(default_factory=Reading)
    ignore: int | None = None

    def __post_init__(self) -> None:
        if self.guidance not in ("max", "sum-normalized"):
            raise ValueError(f"guidance must be max or sum-normalized; got {reprlib.repr(self.guidance)}")
        if len(self.spacing) != 3 or not all(MIN_SPACING <= mm <= MAX_SPACING for mm in self.spacing):
            raise ValueError(f"spacing must be three sizes from {MIN_SPACING} to {MAX_SPACING} mm; got {self.spacing}")
        for sides in (self.patch_size, self.fixed_shape or (1, 1, 1)):
            if len(sides) != 3 or min(sides) < 1:
                raise ValueError(f"a shape must be three numbers of voxels above 0; got {sides}")
        if not _finite(self.sigma) or self.sigma <= 0:
            raise ValueError("the width of clicks must be a number above 0")
        if type(self.image_channels) is not int or self.image_channels < 1 or type(self.previous) is not bool:
            raise ValueError("the number of image channels must be above 0, and previous true or false")

        if self.ignore is not None and (type(self.ignore) is not int or self.ignore in (0, *self.labels.values)):
            raise ValueError("the value to ignore must be a whole number that is no label's")

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings, lists and dictionaries, fit for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, entries: Mapping[str, Any]) -> "Plan":
        """The plan that `to_dict` wrote.

        Raises:
            ModelError: if an entry is missing, unknown or malformed.
        """
        try:
            if not isinstance(entries, Mapping) or not isinstance(entries["labels"], Mapping):
                raise TypeError("the plan and its labels must be dictionaries")
            fixed = entries.get("fixed_shape")
            # Until format 2 it went without saying.
            policy = MergePolicy() if entries.get("guidance", "max") == "max" else MergePolicy.plain()
            if "merge" in entries:
                policy = MergePolicy.from_dict(entries["merge"])
            return cls(
                **{
                    **entries,
                    "fixed_shape": None if fixed is None else tuple(int(side) for side in _list(fixed)),
                    "labels": Labels(*(tuple(_list(entries["labels"][key])) for key in ("names", "values"))),
                    "spacing": tuple(float(mm) for mm in _list(entries["spacing"])),
                    "patch_size": tuple(int(side) for side in _list(entries["patch_size"])),
                    "intensity": Intensity(**entries["intensity"]),
                    "merge": policy,
                    "reading": Reading(**entries.get("reading", {})),  # models of format 1 have none
                }
            )
        except (LookupError, TypeError, ValueError, ArithmeticError, RuntimeError, AttributeError) as error:
            raise ModelError(f"the preprocessing plan is damaged: {error}") from error


def _list(entries: object) -> list[Any] | tuple[Any, ...]:
    # A tensor may be gone through as well, and a few bytes of a file make one of a billion entries.
    if not isinstance(entries, list | tuple):
        raise TypeError("a list is something else")
    return entries


def _finite(number: object) -> bool:
    return isinstance(number, int | float) and math.isfinite(number)
