"""Patches for which a machine has the memory and the time."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from deepedit.boxes import three
from deepedit.errors import TrainingError
from deepedit.io.pairing import Case
from deepedit.network.architectures import UNetConfig
from deepedit.plan import Plan
from deepedit.ranks import Ranks
from deepedit.training.config import RunSettings
from deepedit.training.memory import affordable_patch, free_bytes, step_bytes
from deepedit.training.pace import (
    CASES_MEASURED,
    VISITS,
    Pace,
    label_extents,
    least_patch,
    pace,
    seconds_per_voxel,
)
from deepedit.training.planning import shortened_patch


@dataclass(frozen=True)
class Room:
    """What a run has to work with.

    Attributes:
        settings: of the run.
        network, in_channels: its architecture, and the channels of its input.
        device: that trains.
        ranks: the processes that share the batch.
        say: is told what is made smaller.
    """

    settings: RunSettings
    network: UNetConfig
    in_channels: int
    device: torch.device
    ranks: Ranks
    say: Callable[[str], None]

    def in_memory(self, plan: Plan) -> Plan:
        """The plan with a patch for which there is memory.

        Raises:
            TrainingError: if the user asked for a patch that is too large, or none is small enough.
        """
        told = [free for free in self.ranks.gather(free_bytes(self.device)) if free is not None]
        config, free = self.settings.config, min(told, default=math.inf)
        batch: dict[str, Any] = {
            "batch_size": config.batch_size // self.ranks.size,
            "accumulate": config.accumulate,
            "checkpointing": config.checkpointing,
        }
        patch, classes = plan.patch_size, plan.labels.num_classes
        if not self._is_asked_for(plan):
            patch = affordable_patch(self.network, self.in_channels, classes, patch, free, **batch)
        needed = step_bytes(self.network, self.in_channels, classes, patch, **batch)
        if needed > free:
            raise TrainingError(
                f"a step on patches of {_sides(patch)} voxels with {classes} classes "
                f"takes about {needed / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB may be used; try `accumulate` "
                f"{config.batch_size}, `checkpointing`, or a smaller `patch_size`"
            )
        if patch != plan.patch_size:
            self.say(
                f"note: patches of {_sides(plan.patch_size)} voxels would not fit into memory; "
                f"`accumulate` {config.batch_size} or `checkpointing` may make room for them"
            )
        return replace(plan, patch_size=patch)

    def in_time(self, plan: Plan, training: Sequence[Case]) -> Plan:
        """The plan with a patch of which a run by the clock does enough, where a processor trains.

        Args:
            training: the training cases.
        """
        config = self.settings.config
        if config.max_minutes is None or self.device.type != "cpu" or self._is_asked_for(plan):
            return plan
        own = label_extents(self.ranks.share(training[:CASES_MEASURED]), plan)
        least = least_patch([each for part in self.ranks.gather(own) for each in part], plan, self.network.divisor)
        if least == plan.patch_size:
            return plan
        batch, classes = config.batch_size // self.ranks.size, plan.labels.num_classes
        # All ranks measure at the same time, as they will work, and go on together at the pace of the slowest.
        measured = seconds_per_voxel(self.network, self.in_channels, classes, batch, config)
        per_voxel = max(self.ranks.gather(measured))

        def left(patch: Sequence[int]) -> Pace:
            smaller = replace(plan, patch_size=three(patch))
            return pace(per_voxel, smaller, self.network.divisor, config, batch, len(training))

        patch = shortened_patch(
            plan.patch_size, least, self.network.divisor, lambda sides: left(sides).visits >= VISITS
        )
        if patch != plan.patch_size:
            self.say(
                f"note: patches of {_sides(patch)} voxels instead of {_sides(plan.patch_size)}, so that "
                f"{config.max_minutes:g} minutes are about {left(patch).steps:.0f} steps and not "
                f"{left(plan.patch_size).steps:.0f}, and begin {left(patch).visits:.0f} samples of every case "
                f"({VISITS} are wanted); `patch_size` chooses another"
            )
        return replace(plan, patch_size=three(patch))

    def _is_asked_for(self, plan: Plan) -> bool:
        return self.settings.patch_size is not None or plan.fixed_shape is not None


def _sides(patch: Sequence[int]) -> str:
    return " x ".join(map(str, patch))
