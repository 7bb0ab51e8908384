"""The choice of grid, patch size and intensities before training, from properties of the dataset."""

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np

from deepedit.boxes import three
from deepedit.defaults import LARGEST_PATCH
from deepedit.errors import FileError, TrainingError
from deepedit.io.msd import Dataset, read_case
from deepedit.io.volumes import read_geometry
from deepedit.network.architectures import UNetConfig, more_than_one_voxel
from deepedit.plan import Intensity, MergePolicy, Plan
from deepedit.training.config import RunSettings
from deepedit.transforms.geometry import network_grid
from deepedit.transforms.intensity import choose_intensity
from deepedit.transforms.orientation import closest_canonical
from deepedit.volume import DEFAULT_READING, Reading

CASES_LOOKED_AT = 8
MOST_CLASSES = 256
"""Training stores classes as one byte for each voxel; voxels to ignore count as one more class."""


def make_plan(
    dataset: Dataset,
    network: UNetConfig,
    spacing: Sequence[float] | None = None,
    patch_size: Sequence[int] | None = None,
    intensity: Intensity | None = None,
    reading: Reading = DEFAULT_READING,
    source: Plan | None = None,
) -> Plan:
    """A plan for a dataset.

    The spacing is the median of those of the cases, for each axis after reordering to R, A, S. Each side of the patch
    is long enough for three quarters of the cases, but at most 128 voxels, and never too short for the network.

    Args:
        dataset: found and checked.
        network: the sides of the patch are multiples of its divisor.
        spacing: mm, instead of the median.
        patch_size: voxels, instead of the patch that fits the cases.
        intensity: instead of the choice by the dataset's modality or, without one, by the values of its first cases.
        reading: how headers that contradict themselves are read, as for `find_dataset`.
        source: plan of the model to start from. Its intensities, which the weights are used to, are kept if the dataset
            asks for the same kind: a window, as for CT, or percentiles.

    Raises:
        TrainingError: if a patch side is not a multiple of the network's divisor, if the patch is too small for the
            network, or if the labels are too many.
        FileError: if a file cannot be read.
    """
    most = MOST_CLASSES - (dataset.ignore is not None)
    if dataset.labels.num_classes > most:
        raise TrainingError(
            f"{dataset.folder}: {dataset.labels.num_classes - 1} labels are more than the {most - 1} that "
            "can be trained at once; choose some with `labels`"
        )
    geometries = [read_geometry(case.image[0], reading.affine, reading.units) for case in dataset.cases]
    if spacing is None:
        spacing = np.median([_spacing(geometry.affine) for geometry in geometries], axis=0)
    spacing = tuple(round(float(mm), 4) for mm in spacing)
    shapes = [network_grid(geometry.shape, geometry.affine, spacing).network_shape for geometry in geometries]
    if patch_size is None:
        patch_size = [
            fitting_side(float(np.percentile(sides, 75)), multiple)
            for sides, multiple in zip(zip(*shapes, strict=True), network.divisor, strict=True)
        ]
        patch_size = more_than_one_voxel(patch_size, network.divisor)
    for side, multiple in zip(patch_size, network.divisor, strict=True):
        if side < multiple or side % multiple:
            raise TrainingError(
                f"`patch_size` {','.join(map(str, patch_size))}: each side must be a multiple of "
                f"{','.join(map(str, network.divisor))} for this network"
            )
    if tuple(patch_size) == network.divisor:
        raise TrainingError(
            f"`patch_size` {','.join(map(str, patch_size))}: too small for this network, whose deepest level would "
            f"be a single voxel; give {','.join(map(str, more_than_one_voxel(patch_size, network.divisor)))} or more"
        )
    if intensity is None:
        sample = [] if dataset.modality else _first_images(dataset, reading)
        intensity = choose_intensity(dataset.modality, sample)
        if source is not None and (source.intensity.mode == "window") == (intensity.mode == "window"):
            intensity = source.intensity
    return Plan(
        dataset.labels,
        three(spacing),
        three(patch_size),
        intensity,
        dataset.image_channels,
        reading=reading,
        ignore=dataset.ignore,
    )


def plan_of_run(
    settings: RunSettings, dataset: Dataset, network: UNetConfig, source: Plan | None, reading: Reading
) -> Plan:
    """The plan of a run: as the user asked for it, else from the dataset or from the model that the run begins with.

    Args:
        network: for which the patch has to fit.
        source: the plan of that model, if there is one.

    Raises:
        DeepEditError: as of `make_plan` and `inherited_plan`.
    """
    asked: list[Any] = [settings.spacing, settings.patch_size, settings.intensity]
    if source is not None and source.fixed_shape is not None:
        return replace(inherited_plan(source, dataset, *asked), reading=reading)
    if settings.studies and source is not None:
        # A few more studies are no reason for another grid, on which all cases would be prepared anew.
        kept = (source.spacing, source.patch_size, source.intensity)
        asked = [default if value is None else value for value, default in zip(asked, kept, strict=True)]
    spacing, patch_size, intensity = asked
    plan = make_plan(dataset, network, spacing, patch_size, intensity, reading, source)
    return replace(plan, sigma=settings.config.click_sigma)


def inherited_plan(
    source: Plan,
    dataset: Dataset,
    spacing: Sequence[float] | None = None,
    patch_size: Sequence[int] | None = None,
    intensity: Intensity | None = None,
) -> Plan:
    """The plan for fine-tuning a model with a fixed grid on a dataset.

    Grid, intensities and guidance stay as they are, since the weights are trained for them. The labels are those of the
    dataset, and what a click may change is no longer what MONAI shows.

    Args:
        source: a plan with a `fixed_shape`.
        dataset: found and checked.
        spacing, patch_size, intensity: those that the user asked for; with a fixed grid there is nothing to choose.

    Raises:
        TrainingError: if the user asked for one of them, or the images have another number of channels.
    """
    for name, value in (("spacing", spacing), ("patch_size", patch_size)):
        if value is not None:
            raise TrainingError(
                f"`{name}`: the model in `init_weights` resizes every image to "
                f"{' x '.join(map(str, source.fixed_shape or ()))} voxels, which fine-tuning keeps; leave it out"
            )
    if intensity not in (None, source.intensity):
        raise TrainingError(
            f"`intensity`: the model in `init_weights` takes intensities by {source.intensity}, which "
            "fine-tuning on its fixed grid keeps; leave it out"
        )
    if dataset.image_channels != source.image_channels:
        raise TrainingError(
            f"the images have {dataset.image_channels} channel(s) where the model in `init_weights` expects "
            f"{source.image_channels}; fine-tune it on images of its own kind"
        )
    return replace(source, labels=dataset.labels, ignore=dataset.ignore, merge=MergePolicy())


def fitting_side(size: float, multiple: int) -> int:
    """The smallest multiple that holds `size` voxels, at most 128 (or one multiple, where that is more)."""
    most = max(LARGEST_PATCH // multiple, 1)
    return multiple * min(max(math.ceil(size / multiple), 1), most)


def shortened_patch(
    patch: Sequence[int], least: Sequence[int], divisor: Sequence[int], fits: Callable[[tuple[int, ...]], bool]
) -> tuple[int, ...]:
    """The patch, its longest side shortened repeatedly until it fits, or no side can be shortened further.

    Args:
        patch: sides in voxels, multiples of `divisor`.
        least: no side becomes shorter than this.
        divisor: of the network; the longest side is that of the most multiples.
        fits: tells of a patch whether there is enough for it.
    """
    sides = list(patch)
    while not fits(tuple(sides)):
        able = [axis for axis in range(3) if sides[axis] - divisor[axis] >= least[axis]]
        if not able:
            break
        longest = max(able, key=lambda axis: sides[axis] / divisor[axis])
        sides[longest] -= divisor[longest]
    return tuple(sides)


def _first_images(dataset: Dataset, reading: Reading) -> list[np.ndarray]:
    """The voxels of a few cases. Cases that cannot be read are skipped; they are reported when cases are prepared."""
    images: list[np.ndarray] = []
    for case in dataset.cases:
        if len(images) == CASES_LOOKED_AT:
            break
        with suppress(FileError):
            images.append(read_case(case, reading).data)
    return images


def _spacing(affine: np.ndarray) -> np.ndarray:
    """Spacing in mm along R, A, S."""
    return np.linalg.norm(affine[:3, :3], axis=0)[list(closest_canonical(affine)[0])]
