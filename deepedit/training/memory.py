"""What a training step will need, known before it is tried."""

import math
from collections.abc import Sequence

import torch

from deepedit.files import available_memory
from deepedit.network.unet import UNetConfig, triple

SHARE = 0.8
"""Of the free memory that a step may take: estimates are rough, and others want some too."""

KEPT = 13
"""Tensors that a level keeps for the backward pass, or needs while it runs, each as large as what its blocks give."""

KEPT_BY_CHECKPOINTING = 5


def step_bytes(
    config: UNetConfig,
    in_channels: int,
    num_classes: int,
    patch_size: Sequence[int],
    batch_size: int,
    accumulate: int = 1,
    checkpointing: bool = False,
) -> int:
    """About how many bytes a training step takes.

    Args:
        config: of the network.
        in_channels, num_classes: of its input and output.
        patch_size: voxels.
        batch_size, accumulate, checkpointing: see `TrainingConfig`.
    """
    kept = KEPT_BY_CHECKPOINTING if checkpointing else KEPT
    voxels, size, inside = math.prod(patch_size), 1.0, 0.0
    for filters, stride in zip(config.filters, config.strides, strict=True):
        size /= math.prod(triple(stride))
        inside += kept * filters * size
    at_once = math.ceil(batch_size / accumulate)
    # The input is made of its parts and then cast; logits are cast, softened, compared, and all that goes back.
    each_voxel = 3 * in_channels * batch_size + (inside + in_channels + 6 * num_classes) * at_once
    return int(4 * voxels * each_voxel)


def affordable_patch(
    config: UNetConfig, in_channels: int, num_classes: int, patch_size: Sequence[int], free: float, **batch: int | bool
) -> tuple[int, ...]:
    """The patch, its longest side shortened time and again until a step fits into `free` bytes.

    Args:
        batch: the arguments of `step_bytes` that are left.

    Returns:
        A patch whose sides are multiples of the network's divisor; it fits unless no side can be shortened further.
    """
    patch = list(patch_size)
    while step_bytes(config, in_channels, num_classes, patch, **batch) > free:
        steps = [side / multiple for side, multiple in zip(patch, config.divisor, strict=True)]
        axis = steps.index(max(steps))
        if steps[axis] <= 2:
            break
        patch[axis] -= config.divisor[axis]
    return tuple(patch)


def free_bytes(device: torch.device) -> int | None:
    """What a step on a device may take; None where the system does not tell."""
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else available_memory()
    return None if free is None else int(SHARE * free)
