"""The training loop."""

import copy
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from deepedit.network.checkpoint import Model
from deepedit.network.inputs import assemble_input, autocast_dtype, mixed_precision
from deepedit.training.config import TrainingConfig
from deepedit.training.data import PreparedCase, cut_patch
from deepedit.training.interaction import Interaction
from deepedit.training.losses import segmentation_loss
from deepedit.training.schedule import Sample, visits
from deepedit.transforms.augment import augment
from deepedit.transforms.corrupt import corrupt_segmentation


@dataclass
class State:
    """All that changes while training, besides the samples in the batch."""

    step: int = 0
    begun: int = 0
    seconds: float = 0.0
    best: float = -1.0
    timings: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, name: str, device: torch.device) -> Iterator[None]:
        start = time.perf_counter()
        yield
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        self.timings[name] = self.timings.get(name, 0.0) + time.perf_counter() - start


def train(model: Model, cases: Sequence[PreparedCase], config: TrainingConfig, on_progress: Callable) -> None:
    device = model.device
    network, plan = model.network.train(), model.plan
    average = copy.deepcopy(network).eval()
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    scaler = torch.amp.GradScaler(device.type, enabled=autocast_dtype(device, config.amp) == torch.float16)
    state = State()
    stream = SampleStream(cases, plan.patch_size, config.seed)
    slots = [stream.take() for _ in range(config.batch_size)]
    interaction = None
    passes_left = [0] * config.batch_size
    generators: list[torch.Generator] = [None] * config.batch_size
    classes = plan.labels.num_classes
    start = time.perf_counter()
    progress = 0.0
    while progress < 1:
        with state.timed("data", device):
            for slot in range(config.batch_size):
                if passes_left[slot]:
                    continue
                sample, image, label = slots[slot] if interaction is None else stream.take()
                generator = generators[slot] = sample.generator(config.seed)
                image, label = augment(
                    image[None].to(device), label[None].to(device), plan.patch_size, config.augmentation, [generator]
                )
                if interaction is None:
                    interaction = Interaction(
                        image.new_zeros(config.batch_size, *image.shape[1:]),
                        label.new_zeros(config.batch_size, *label.shape[1:]),
                        classes,
                        config.max_clicks,
                        plan.sigma,
                        config.annotator,
                    )
                interaction.begin(slot, image[0], label[0])
                passes_left[slot], edits = draw_passes(generator, click_share(progress, config), config)
                if edits:
                    severity = torch.rand((), generator=generator).item()
                    given = corrupt_segmentation(label[0], classes, severity, generator)
                    interaction.answer([slot], given[None], [generator])
        with state.timed("clicks", device):
            guidance = interaction.guidance()
            nearness = interaction.nearness(config.click_loss_sigma)
            inputs = assemble_input(interaction.image, guidance, interaction.previous)
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * min(1, progress / config.warmup) * (1 - progress) ** 0.9
        with state.timed("forward", device):
            with mixed_precision(device, config.amp):
                logits = network(inputs)
            losses = segmentation_loss(logits, interaction.label, nearness, config.click_loss)
        with state.timed("backward", device):
            scaler.scale(losses.mean()).backward()
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(network.parameters(), 12.0)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad(set_to_none=True)
            update_average(average, network, config.ema_decay, state.step)
        with state.timed("clicks", device):
            passes_left = [left - 1 for left in passes_left]
            stay = [slot for slot, left in enumerate(passes_left) if left]
            prediction = logits.detach()[stay].argmax(1) if stay else None
            interaction.answer(stay, prediction, [generators[slot] for slot in stay])
        state.step += 1
        progress = (
            (time.perf_counter() - start) / (60 * config.max_minutes)
            if config.max_minutes
            else stream.begun / (config.epochs * len(cases))
        )
        on_progress(state, progress, losses.detach(), average)


def click_share(progress: float, config: TrainingConfig) -> float:
    """Share of passes with clicks at a point of the run."""
    if not config.clicks_from:
        return config.click_probability
    return config.click_probability * min(max(progress / config.clicks_from - 1, 0.0), 1.0)


def draw_passes(generator: torch.Generator, share: float, config: TrainingConfig) -> tuple[int, bool]:
    """How many passes a new sample stays, and whether it begins with a segmentation from elsewhere.

    A sample that goes on with probability `share` after every pass spends that share of its passes with clicks.
    """
    draws = torch.rand(2, generator=generator).tolist()
    more = int(math.log(max(draws[0], 1e-9)) / math.log(share)) if share > 0 else 0
    more = min(more, config.max_clicks)
    edits = more > 0 and draws[1] < config.edit_probability
    return (more if edits else more + 1), edits


class SampleStream:
    """Pieces of the training cases in the order of their visits, cut ahead of time by threads."""

    def __init__(self, cases: Sequence[PreparedCase], patch_size: Sequence[int], seed: int, workers: int = 1) -> None:
        self.cases, self.patch_size, self.seed = cases, patch_size, seed
        self.visits = visits(len(cases), seed)
        self.pool = ThreadPoolExecutor(workers)
        self.ahead: deque[tuple[Sample, Future]] = deque()
        self.begun = 0

    def take(self) -> tuple[Sample, Tensor, Tensor]:
        while len(self.ahead) < 8:
            sample = next(self.visits)
            self.ahead.append((sample, self.pool.submit(self._cut, sample)))
        sample, future = self.ahead.popleft()
        self.begun += 1
        return sample, *future.result()

    def _cut(self, sample: Sample) -> tuple[Tensor, Tensor]:
        return cut_patch(self.cases[sample.case], self.patch_size, sample.generator(self.seed, "cut"))


@torch.no_grad()
def update_average(average: torch.nn.Module, network: torch.nn.Module, decay: float, step: int) -> None:
    """Move the moving average of the weights one step on; young averages forget faster."""
    weight = 1 - min(decay, (1 + step) / (10 + step))
    torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), weight)
