"""The training loop."""

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from deepedit.errors import TrainingError
from deepedit.network.checkpoint import Model
from deepedit.network.inputs import autocast_dtype, mixed_precision
from deepedit.training.batch import RollingBatch
from deepedit.training.config import TrainingConfig
from deepedit.training.data import PreparedCase
from deepedit.training.losses import segmentation_loss
from deepedit.training.schedule import click_share, click_weights, learning_rate

LARGEST_GRADIENT = 12.0
"""Norm that gradients are clipped to, as in nnU-Net."""

STEPS_BETWEEN_LOOKS = 10
"""Steps between two looks at the loss: on a GPU each look waits for the device."""


@dataclass
class Progress:
    """How far a run is.

    Attributes:
        step: optimizer steps so far.
        share: of the run that is over, in [0, 1].
        seconds: trained so far, earlier parts of a resumed run included.
        loss: mean over the samples, by kind of pass: ``"automatic"`` and ``"clicks"``; of the last look.
        learning_rate: now.
        timings: seconds spent in data, clicks, forward, backward.
    """

    step: int = 0
    share: float = 0.0
    seconds: float = 0.0
    learning_rate: float = 0.0
    loss: dict[str, float] = field(default_factory=dict)
    timings: dict[str, float] = field(default_factory=dict)


class Trainer:
    """A network in training: everything that a checkpoint must hold to go on from.

    Args:
        model: its network is trained in place, on the device where it lies.
        cases: prepared.
        config: how.
        state: what `state` of an earlier trainer returned; None to begin.
        workers: threads that cut patches.
    """

    def __init__(
        self,
        model: Model,
        cases: Sequence[PreparedCase],
        config: TrainingConfig,
        state: dict[str, Any] | None = None,
        workers: int = 1,
    ) -> None:
        self.model, self.cases, self.config, self.device = model, cases, config, model.device
        self.network = model.network
        self.average = copy.deepcopy(model.network).eval()
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        needs_scaler = autocast_dtype(self.device, config.amp) == torch.float16
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=needs_scaler)
        self.progress = Progress()
        begun = state["begun"] if state else 0
        self.batch = RollingBatch(cases, model.plan, config, self.device, workers, begun)
        if state:
            self.restore(state)

    def train(self, on_step: Callable[[Progress], None]) -> None:
        """Train to the end of the run; `on_step` is called after every step, and may raise to end it early."""
        config, network, batch, progress = self.config, self.network.train(), self.batch, self.progress
        earlier, start = progress.seconds, time.perf_counter()
        while progress.share < 1:
            with self.timed("data"):
                batch.fill(click_share(progress.share, config))
            with self.timed("clicks"):
                inputs, nearness = batch.inputs(), batch.nearness()
            progress.learning_rate = learning_rate(progress.share, config)
            for group in self.optimizer.param_groups:
                group["lr"] = progress.learning_rate

            with self.timed("forward"):
                with mixed_precision(self.device, config.amp):
                    logits = network(inputs)
                weights = click_weights(progress.share, config)
                losses = segmentation_loss(logits, batch.label, nearness, weights)
            with self.timed("backward"):
                self.scaler.scale(losses.mean()).backward()
                self.scaler.unscale_(self.optimizer)
                nn.utils.clip_grad_norm_(network.parameters(), LARGEST_GRADIENT)
                self.scaler.step(self.optimizer)
                self.scaler.update()
                self.optimizer.zero_grad(set_to_none=True)
                move_average(self.average, network, config.ema_decay, progress.step)

            if progress.step % STEPS_BETWEEN_LOOKS == 0:
                self._look_at(losses.detach())
            with self.timed("clicks"):
                batch.answer(logits.detach())
            progress.step += 1
            progress.seconds = earlier + time.perf_counter() - start
            progress.share = self._share_over()
            on_step(progress)

    def _share_over(self) -> float:
        if self.config.max_minutes is not None:
            return min(self.progress.seconds / (60 * self.config.max_minutes), 1.0)
        return min(self.batch.begun / (self.config.epochs * len(self.cases)), 1.0)

    def _look_at(self, losses: Tensor) -> None:
        """Note the losses by kind of pass, and stop where one is not a number."""
        values = losses.tolist()
        if not all(value == value and abs(value) != float("inf") for value in values):
            names = sorted({self.cases[visit.case].name for visit in self.batch.visits})
            raise TrainingError(
                f"the loss became {values} at step {self.progress.step} on {', '.join(names)}; look at these cases, "
                "then resume from last.pt with a lower --learning-rate or with --amp off"
            )
        kinds = {"automatic": [], "clicks": []}
        for value, used in zip(values, self.batch.used, strict=True):
            kinds["clicks" if used else "automatic"].append(value)
        self.progress.loss |= {kind: sum(found) / len(found) for kind, found in kinds.items() if found}

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add the seconds that a block takes to ``progress.timings``; on a GPU, those of putting its work in line."""
        start = time.perf_counter()
        yield
        timings = self.progress.timings
        timings[name] = timings.get(name, 0.0) + time.perf_counter() - start

    def state(self) -> dict[str, Any]:
        """All that a resumed run needs, as tensors and plain values."""
        return {
            "network": {name: tensor.cpu() for name, tensor in self.network.state_dict().items()},
            "average": {name: tensor.cpu() for name, tensor in self.average.state_dict().items()},
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "batch": self.batch.state(),
            "begun": self.batch.begun,
            "step": self.progress.step,
            "share": self.progress.share,
            "seconds": self.progress.seconds,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.batch.restore(state["batch"])
        self.progress.step, self.progress.seconds = state["step"], state["seconds"]
        self.progress.share = self._share_over()


@torch.no_grad()
def move_average(average: nn.Module, network: nn.Module, decay: float, step: int) -> None:
    """Move an exponential moving average of the weights by a step; a young one forgets faster."""
    share = 1 - min(decay, (1 + step) / (10 + step))
    torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), share)
