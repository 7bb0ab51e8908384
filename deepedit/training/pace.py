"""How many steps the time of a run leaves, and the patch with which they are enough."""

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from deepedit.boxes import bounding_box_of_some
from deepedit.errors import FileError
from deepedit.io.pairing import Case
from deepedit.io.volumes import read_geometry, read_label_on
from deepedit.network.architectures import UNetConfig
from deepedit.network.inputs import mixed_precision
from deepedit.network.unet import build_network
from deepedit.plan import Plan
from deepedit.training.config import TrainingConfig
from deepedit.training.losses import segmentation_loss
from deepedit.training.planning import fitting_side
from deepedit.training.schedule import click_share, mean_passes, patch_sides, training_minutes
from deepedit.transforms.orientation import closest_canonical

VISITS = 40
"""Samples of every case that a run should at least begin."""

CONTEXT = 16
"""Voxels around the largest label that a patch should hold on each side, for the network to see where it lies."""

BESIDES = 1.15
"""What a step takes in all, as a multiple of the network's passes: patches, clicks, optimizers."""

CASES_MEASURED = 8
TRIAL_SIDE = 48  # voxels: large enough for the pace of larger patches, and done in seconds
TRIALS = 3
LONGEST_TRIAL = 5.0
"""Seconds after which no further step is timed."""


@dataclass(frozen=True)
class Pace:
    """What the time of a run comes to with some patch.

    Attributes:
        steps: optimizer steps.
        visits: samples that are begun from every case, in the mean.
    """

    steps: float
    visits: float


def seconds_per_voxel(
    network: UNetConfig, in_channels: int, num_classes: int, batch: int, config: TrainingConfig
) -> float:
    """How long a training step takes on this machine's processor for each voxel of a patch of each sample.

    A few steps of a network with this architecture are timed.

    Args:
        in_channels, num_classes: of the network.
        batch: samples that this process works on at once.
        config: precision, and how much is computed again.
    """
    model = build_network(in_channels, num_classes, network, seed=0).train()
    model.checkpointing = config.checkpointing
    sides = [by * max(1, round(TRIAL_SIDE / by)) for by in network.divisor]
    target = torch.zeros(batch, *sides, dtype=torch.uint8)
    inputs, nearness, device = torch.zeros(batch, in_channels, *sides), torch.zeros(batch, *sides), torch.device("cpu")
    taken: list[float] = []
    while len(taken) < 1 + TRIALS and sum(taken) < LONGEST_TRIAL:
        start = time.perf_counter()
        with mixed_precision(device, config.amp):
            logits = model(inputs)
        segmentation_loss(logits, target, nearness, 1.0).sum().backward()
        taken.append(time.perf_counter() - start)
    # The first step prepares what the others use.
    return BESIDES * statistics.median(taken[1:] or taken) / (batch * math.prod(sides))


def pace(per_voxel: float, plan: Plan, divisor: Sequence[int], config: TrainingConfig, batch: int, cases: int) -> Pace:
    """What the minutes of a run leave, with the patches of a plan.

    Args:
        per_voxel: see `seconds_per_voxel`.
        divisor: of the network.
        batch: samples that each process works on.
        cases: number of the training cases.
    """
    minutes = training_minutes(config)
    assert minutes is not None
    parts, steps, begun = 20, 0.0, 0.0
    for part in range(parts):
        progress = (part + 0.5) / parts
        voxels = batch * math.prod(patch_sides(progress, plan, divisor, config))
        done = 60 * minutes / parts / (per_voxel * voxels)
        steps += done
        begun += done * config.batch_size / mean_passes(click_share(progress, config), config)
    return Pace(steps, begun / cases)


def label_extents(cases: Sequence[Case], plan: Plan) -> list[tuple[float, ...]]:
    """How far the largest label of each case reaches along each axis, in voxels of the network's grid.

    Cases without labels are left out, and those that cannot be read, which are reported when cases are prepared.
    """
    extents = []
    for case in cases:
        try:
            grid = read_geometry(case.image[0], plan.reading.affine, plan.reading.units)
            classes = plan.labels.to_classes(read_label_on(grid, case.label_file, plan.reading).data)
        except (FileError, MemoryError):
            continue
        counts = np.bincount(classes.ravel(), minlength=plan.labels.num_classes)
        counts[0] = 0
        if not counts.any():
            continue
        box = bounding_box_of_some(classes == counts.argmax())
        millimetres = [span.stop - span.start for span in box] * np.linalg.norm(grid.affine[:3, :3], axis=0)
        extents.append(tuple(millimetres[list(closest_canonical(grid.affine)[0])] / plan.spacing))
    return extents


def least_patch(extents: Sequence[Sequence[float]], plan: Plan, divisor: Sequence[int]) -> tuple[int, ...]:
    """The sides that hold the largest label of a middling case and `CONTEXT` voxels around it, at most those of the
    plan's patch, which they are where no extents are known."""
    if not extents:
        return plan.patch_size
    needed = np.median(extents, axis=0) + 2 * CONTEXT
    sides = (fitting_side(size, by) for size, by in zip(needed, divisor, strict=True))
    return tuple(map(min, sides, plan.patch_size))
