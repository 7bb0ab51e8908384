"""The training loop."""

import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from deepedit.errors import TrainingError
from deepedit.network.checkpoint import Model
from deepedit.network.inputs import autocast_dtype, mixed_precision
from deepedit.network.unet import ResidualUNet
from deepedit.ranks import Ranks
from deepedit.training.batch import RollingBatch
from deepedit.training.config import TrainingConfig
from deepedit.training.data import PreparedCase
from deepedit.training.graphs import RecordedPasses
from deepedit.training.losses import segmentation_loss
from deepedit.training.muon import Muon
from deepedit.training.schedule import click_share, click_weight, learning_rate, patch_sides, training_minutes

LARGEST_GRADIENT = 12.0
"""Norm that gradients are clipped to, as in nnU-Net."""

ADAMW_SHARE = 0.5
"""Learning rate of AdamW as a share of Muon's. With a tenth of this, the last layer needs hundreds of steps to learn
that most voxels are background, and until then little else is learned."""

STEPS_BETWEEN_LOOKS = 10
"""Steps between two reads of the loss: on a GPU the host waits for the device each time."""


@dataclass
class Progress:
    """The progress of a run.

    Attributes:
        step: optimizer steps so far.
        share: share of the run that is over, in [0, 1].
        seconds: training time so far, including the earlier parts of a resumed run.
        loss: mean loss of the samples when it was last read, by kind of pass: ``"automatic"`` and ``"clicks"``.
        learning_rate: current learning rate.
        timings: seconds spent in data, clicks, forward and backward.
    """

    step: int = 0
    share: float = 0.0
    seconds: float = 0.0
    learning_rate: float = 0.0
    loss: dict[str, float] = field(default_factory=dict)
    timings: dict[str, float] = field(default_factory=dict)


class Trainer:
    """A network in training, with everything that a checkpoint must hold to continue from.

    Args:
        model: the model whose network is trained in place, on its device.
        cases: prepared cases.
        config: how to train.
        workers: number of threads that cut patches.
        ranks: the processes that share the batch. Each trains the network, from the same weights, on its slots.
    """

    def __init__(
        self,
        model: Model,
        cases: Sequence[PreparedCase],
        config: TrainingConfig,
        workers: int = 1,
        ranks: Ranks | None = None,
    ) -> None:
        self.ranks = ranks or Ranks()
        self.model, self.cases, self.config, self.device = model, cases, config, model.device
        self.network = model.network
        self.average = copy.deepcopy(model.network).eval()
        self.optimizers = build_optimizers(self.network, config)
        needs_scaler = autocast_dtype(self.device, config.amp) == torch.float16
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=needs_scaler)
        self.progress = Progress()
        self.batch = RollingBatch(cases, model.plan, config, self.device, workers, self.ranks)
        self.unseen: list[tuple[Tensor, list[int], list[str]]] = []
        self._agree(0.0, False)

    def train(self, on_step: Callable[[Progress], None], stop: Callable[[], bool] = lambda: False) -> None:
        """Train to the end of the run, or until it is stopped; in that case ``progress.share`` is below 1.

        Args:
            on_step: called after every step.
            stop: asked after every step. If it returns True on any rank, all ranks stop.

        Raises:
            TrainingError: if the loss is no longer a number.
        """
        config, network, batch, progress = self.config, self.network.train(), self.batch, self.progress
        forward: Callable[[Tensor], Tensor] = self.ranks.averaged(network)
        plain = self.ranks.size == 1 and config.accumulate == 1 and not config.checkpointing
        if config.record_passes and plain and self.device.type == "cuda":
            forward = RecordedPasses(network, config.amp)
        earlier, start = progress.seconds, time.perf_counter()
        stopped = False
        while progress.share < 1 and not stopped:
            with self.timed("data"):
                sides = patch_sides(progress.share, self.model.plan, network.config.divisor, config)
                batch.fill(click_share(progress.share, config), sides)
            with self.timed("clicks"):
                inputs, nearness = batch.inputs(), batch.nearness()
            progress.learning_rate = learning_rate(progress.share, config)
            for optimizer in self.optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = progress.learning_rate * group["share"]

            logits, losses = self._work(forward, inputs, nearness)
            with self.timed("backward"):
                for optimizer in self.optimizers:
                    self.scaler.unscale_(optimizer)
                    # Independently: if the scaler skips one optimizer after an overflow in float16, the other goes on.
                    nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], LARGEST_GRADIENT)
                    self.scaler.step(optimizer)
                    optimizer.zero_grad(set_to_none=True)
                self.scaler.update()
                move_average(self.average, network, config.ema_decay, progress.step)

            self.unseen.append((losses, list(batch.used), [self.cases[v.case].name for v in batch.visits]))
            if progress.step % STEPS_BETWEEN_LOOKS == 0:
                self.look()
            with self.timed("clicks"):
                batch.answer(logits)
            progress.step += 1
            stopped = self._agree(earlier + time.perf_counter() - start, stop())
            on_step(progress)

    def _work(self, forward: Callable[[Tensor], Tensor], inputs: Tensor, nearness: Tensor) -> tuple[Tensor, Tensor]:
        """Pass the batch forward and backward, in `config.accumulate` parts, and return logits and losses."""
        config, samples = self.config, len(inputs)
        weight = click_weight(self.progress.share, config)
        done = []
        for part in torch.arange(samples).chunk(config.accumulate):
            rows = slice(int(part[0]), int(part[-1]) + 1)
            # Gradients are averaged over the ranks once, with the last part. Whether a backward pass does so is decided
            # in the forward pass before it, so both are inside.
            apart: AbstractContextManager[None] = nullcontext()
            if isinstance(forward, DistributedDataParallel) and rows.stop < samples:
                apart = forward.no_sync()
            with apart:
                with self.timed("forward"):
                    # In the second pass, ranks tell each other how they put their gradients together.
                    with mixed_precision(self.device, config.amp), self.ranks.together():
                        logits = forward(inputs[rows])
                    ignoring = self.model.plan.ignore is not None
                    losses = segmentation_loss(logits, self.batch.label[rows], nearness[rows], weight, ignoring)
                with self.timed("backward"), self.ranks.together():
                    self.scaler.scale(losses.sum() / samples).backward()
            done.append((logits.detach(), losses.detach()))
        all_logits, all_losses = map(torch.cat, zip(*done, strict=True))
        return all_logits, all_losses

    def _agree(self, seconds: float, stop: bool) -> bool:
        """Set the same progress on all ranks, by the clock of the first, and return whether any rank wants to stop."""
        progress, config = self.progress, self.config
        begun, progress.seconds, stops = self.ranks.sum(
            sum(self.batch.begun), seconds if self.ranks.first else 0.0, float(stop)
        )
        minutes = training_minutes(config)
        if minutes is not None:
            progress.share = min(progress.seconds / (60 * minutes), 1.0)
        else:
            progress.share = min(begun / (config.epochs * len(self.cases)), 1.0)
        return stops > 0

    def look(self) -> None:
        """Read the losses of all ranks since the last call, and update ``progress.loss``.

        Raises:
            TrainingError: if a loss is not finite; the message names the cases in the batch of that step.
        """
        if not self.unseen:
            return
        steps, self.unseen = self.unseen, []
        sums, counts = [0.0, 0.0], [0, 0]
        for losses, (_, used, names) in zip(torch.stack([step[0] for step in steps]).tolist(), steps, strict=True):
            if not all(map(math.isfinite, losses)):
                raise TrainingError(
                    f"the loss became {losses} by step {self.progress.step} on {', '.join(sorted(set(names)))}; look "
                    "at these cases, then begin a new run with `init_weights` RUN/last.pt and a lower "
                    "`learning_rate` or `amp` off"
                )
            for value, clicks in zip(losses, used, strict=True):
                sums[clicks > 0] += value
                counts[clicks > 0] += 1
        *sums, automatic, clicked = self.ranks.sum(*sums, *counts)
        for kind, total, count in zip(("automatic", "clicks"), sums, (automatic, clicked), strict=True):
            if count:
                self.progress.loss[kind] = total / count

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add the seconds of a block to ``progress.timings``; on a GPU, only the time that the host takes for it."""
        start = time.perf_counter()
        yield
        timings = self.progress.timings
        timings[name] = timings.get(name, 0.0) + time.perf_counter() - start

    def state(self) -> dict[str, Any]:
        """Everything that a resumed run needs, as tensors and plain values. All ranks must call this, and get the same.

        Raises:
            TrainingError: if weights are no longer finite, so that they do not replace an earlier good state.
        """
        self.look()
        if not all(tensor.isfinite().all() for tensor in self.network.state_dict().values()):
            raise TrainingError(
                f"the weights are no longer finite by step {self.progress.step}; begin a new run with "
                "`init_weights` RUN/last.pt and a lower `learning_rate` or `amp` off"
            )
        slots = self.ranks.gather(self.batch.state())
        return {
            "network": {name: tensor.cpu() for name, tensor in self.network.state_dict().items()},
            "average": {name: tensor.cpu() for name, tensor in self.average.state_dict().items()},
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "scaler": self.scaler.state_dict(),
            "slots": {number: entry for each in slots for number, entry in each.items()},
            "step": self.progress.step,
            "seconds": self.progress.seconds,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from what the `state` of an earlier trainer returned.

        Raises:
            LookupError, TypeError, ValueError: if the state is that of another version.
        """
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            # Whether the optimizer is fused depends on the device, and the run may have begun on another one.
            groups = [
                {**group, **{name: own[name] for name in own.keys() & {"fused"}}}
                for own, group in zip(optimizer.param_groups, saved["param_groups"], strict=True)
            ]
            optimizer.load_state_dict({**saved, "param_groups": groups})
        if state["scaler"]:  # empty if the run began on a device that trains in another precision
            self.scaler.load_state_dict(state["scaler"])
        self.batch.restore(state["slots"])
        self.progress.step = state["step"]
        self._agree(state["seconds"], False)


def build_optimizers(network: ResidualUNet, config: TrainingConfig) -> tuple[torch.optim.Optimizer, ...]:
    """Muon for the convolutions, and AdamW for the last one (as the authors of Muon advise), the norms and the biases.

    In every group of parameters, `share` is its learning rate as a share of ``config.learning_rate``.
    """
    last = {id(parameter) for parameter in network.head.parameters()}
    inner: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for parameter in network.parameters():
        (inner if parameter.ndim > 1 and id(parameter) not in last else others).append(parameter)
    rates: dict[str, Any] = {"lr": config.learning_rate, "weight_decay": config.weight_decay}
    # Fused AdamW skips a step that overflowed in float16 without waiting for the device, as Muon does.
    fused = True if network.head.weight.device.type == "cuda" else None
    return (
        Muon([{"params": inner, "share": 1.0}], **rates),
        torch.optim.AdamW([{"params": others, "share": ADAMW_SHARE}], fused=fused, **rates),
    )


@torch.no_grad()
def move_average(average: nn.Module, network: nn.Module, decay: float, step: int) -> None:
    """Update an exponential moving average of the weights; in the first steps it forgets faster."""
    share = 1 - min(decay, (1 + step) / (10 + step))
    torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), share)
