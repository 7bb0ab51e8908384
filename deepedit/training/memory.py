"""The memory that a training step will need, estimated before the first step."""

import math
import os
from collections.abc import Sequence
from typing import Any

import torch

from deepedit.boxes import three
from deepedit.devices import free_on_gpu
from deepedit.files import available_memory
from deepedit.network.architectures import Triple, UNetConfig, triple
from deepedit.training.planning import shortened_patch

SHARE = 0.8
"""Share of the free memory that a step may take: estimates are rough, and other programs need memory, too."""

KEPT = 13
"""Number of tensors that a level keeps for the backward pass or needs during it, each as large as the output of its
blocks."""

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
        config: the architecture of the network.
        in_channels, num_classes: channels of its input and output.
        patch_size: voxels along each axis.
        batch_size, accumulate, checkpointing: see `TrainingConfig`.
    """
    kept = KEPT_BY_CHECKPOINTING if checkpointing else KEPT
    voxels, size, inside = math.prod(patch_size), 1.0, 0.0
    for filters, stride in zip(config.filters, config.strides, strict=True):
        size /= math.prod(triple(stride))
        inside += kept * filters * size
    at_once = math.ceil(batch_size / accumulate)
    # The input is concatenated and then cast. Logits are cast, go through softmax and loss, and have gradients.
    each_voxel = 3 * in_channels * batch_size + (inside + in_channels + 6 * num_classes) * at_once
    return int(4 * voxels * each_voxel)


def affordable_patch(
    config: UNetConfig, in_channels: int, num_classes: int, patch_size: Sequence[int], free: float, **batch: Any
) -> Triple:
    """The patch, its longest side shortened repeatedly until a step fits into `free` bytes.

    Args:
        batch: the remaining arguments of `step_bytes`.

    Returns:
        A patch whose sides are multiples of the network's divisor. It fits, unless no side can be shortened further.
    """
    least = [2 * multiple for multiple in config.divisor]

    def fits(patch: Sequence[int]) -> bool:
        return step_bytes(config, in_channels, num_classes, patch, **batch) <= free

    return three(shortened_patch(patch_size, least, config.divisor, fits))


def free_bytes(device: torch.device) -> int | None:
    """The bytes that a step on a device may take; None if the system does not tell how much memory is free.

    On a CPU, the processes that ``torchrun`` started on this machine share its memory evenly.
    """
    if device.type == "cuda":
        return int(SHARE * free_on_gpu(device))
    free = available_memory()
    return None if free is None else int(SHARE * free / int(os.environ.get("LOCAL_WORLD_SIZE", 1)))
