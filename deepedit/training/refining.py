"""Teaching a refiner, once the network is trained: the annotator clicks on training cases, and it learns from that.

The network of a run sees patches, its own mistakes on them and many kinds of clicks; the refiner sees what a session
will show it, the answers of the finished network to the annotator of evaluation.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from deepedit.inference.annotation import annotate
from deepedit.inference.refine import INSIDE, corner, distances
from deepedit.inference.session import InteractiveSession
from deepedit.inference.sliding_window import cut
from deepedit.io.msd import read_case
from deepedit.io.pairing import Case
from deepedit.io.volumes import read_label_on
from deepedit.network.checkpoint import Model
from deepedit.network.inputs import mixed_precision
from deepedit.network.refiner import RADIUS, SIDE, Refiner, build_refiner
from deepedit.ranks import Ranks
from deepedit.training.config import TrainingConfig
from deepedit.transforms.decide import class_type
from deepedit.transforms.preprocess import Preprocessor

RECORDING = 0.4
"""Share of the time after which no further case is clicked, so that the rest is left for learning."""

STEPS, EPOCHS = 300, 12
"""It learns for so many steps, but with few clicks from each no more often than this."""

BATCH = 8
LEARNING_RATE = 3e-3
WARMUP = 0.3
WEIGHT_DECAY = 1e-2
ENTROPY_WEIGHT = 7.0


@dataclass(frozen=True)
class Recorded:
    """A click on a training case.

    Attributes:
        piece: ``[channels, SIDE, SIDE, SIDE]`` float16, what the refiner saw.
        belongs: ``[SIDE, SIDE, SIDE]`` bool, what truly belongs to the clicked class.
        counts: ``[SIDE, SIDE, SIDE]`` bool, where the refiner decides and the truth is known.
    """

    piece: Tensor
    belongs: Tensor
    counts: Tensor


def learn_refiner(
    model: Model,
    cases: Sequence[Case],
    config: TrainingConfig,
    ranks: Ranks | None = None,
    stop: Callable[[], bool] = lambda: False,
    seconds: float = math.inf,
    say: Callable[[str], None] = lambda line: None,
) -> Refiner | None:
    """A refiner for a model, on its device and in evaluation mode, the same on all ranks.

    Args:
        model: in evaluation mode, with its own refiner or without.
        cases: training cases; ``config.refiner_cases`` of them, evenly chosen, are clicked.
        config: of the run.
        ranks: the processes among which the cases are divided; the first one teaches.
        stop: asked before every case.
        seconds: how long this may take; but for the first case of each rank, which is clicked in any case.
        say: called with a line about what it learned from.

    Returns:
        None if it was stopped on any rank, or if nothing was wrong that could have been clicked.
    """
    ranks, start = ranks or Ranks(), time.monotonic()
    count, plan = min(config.refiner_cases, len(cases)), model.plan
    chosen = [cases[number * len(cases) // count] for number in range(count)]
    refiner = build_refiner(plan.image_channels, plan.labels.num_classes, config.seed).to(model.device).eval()
    session = InteractiveSession(replace(model, refiner=refiner), config.amp)
    own: list[list[Recorded]] = []
    stopped = False
    for case in ranks.share(chosen):
        if stopped := stop():
            break
        if own and time.monotonic() >= start + RECORDING * seconds:
            break
        own.append(list(record(session, refiner, case, config.max_clicks)))
    (any_stopped,) = ranks.sum(stopped)
    if any_stopped:
        return None
    done = [case for part in ranks.gather(own) for case in part]
    recorded = [each for case in done for each in case]
    if not recorded:
        say("note: nothing is wrong in the training cases that clicks could correct, so answers are not refined")
        return None
    say(f"answers are refined as learned from {len(recorded)} clicks on {len(done)} training cases")
    if ranks.first:
        teach(refiner, recorded, config, seconds=seconds - (time.monotonic() - start))
    weights = ranks.gather({name: tensor.cpu() for name, tensor in refiner.state_dict().items()})
    refiner.load_state_dict(weights[0])
    return refiner


def record(session: InteractiveSession, refiner: Refiner, case: Case, clicks: int) -> Iterator[Recorded]:
    """Let the annotator click on a case; each click is recorded, as `refiner`, which is the session's own, sees it."""
    plan = session.model.plan
    labels, reading, num_classes = plan.labels, plan.reading, plan.labels.num_classes
    image = read_case(case, reading)
    label = read_label_on(image, case.label_file, reading)
    truth = labels.to_classes(label.data)
    unknown = None if plan.ignore is None else label.data == plan.ignore
    preprocess = Preprocessor(plan)
    grid = preprocess.grid(image.shape, image.affine)
    # As in prepared cases, what is not known has the number of classes as its index.
    known = truth if unknown is None else np.where(unknown, num_classes, truth)
    on_network = grid.labels_to_network(torch.from_numpy(known).to(class_type(num_classes + 1)), num_classes + 1)
    ball = distances(torch.device("cpu")) <= RADIUS**2
    seen: list[Tensor] = []
    hook = refiner.register_forward_pre_hook(lambda module, given: seen.append(given[0][0].half().cpu()))
    try:
        session.set_image(image)
        for turn in annotate(session, truth, clicks, unknown):
            if turn.voxel is None or turn.label is None:
                continue
            place = corner(preprocess.click(turn.voxel, grid).tolist())
            there = cut(on_network[None], place, (SIDE,) * 3)[0]
            counts = ball & (seen[-1][INSIDE] > 0) & (there < num_classes)
            yield Recorded(seen.pop(), there == turn.label, counts)
    finally:
        hook.remove()


def teach(refiner: Refiner, recorded: Sequence[Recorded], config: TrainingConfig, seconds: float = math.inf) -> None:
    """Train a refiner in place on recorded clicks, in random order; the learning rate falls to 0 at the end.

    Args:
        seconds: the end, if it comes before all steps are done.
    """
    device, generator = refiner.last.weight.device, torch.Generator().manual_seed(config.seed)
    optimizer = torch.optim.AdamW(refiner.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    steps, start = min(STEPS, EPOCHS * math.ceil(len(recorded) / BATCH)), time.monotonic()
    order: list[int] = []
    refiner.train()
    for step in range(steps):
        passed = (time.monotonic() - start) / seconds if seconds > 0 else 1.0
        if (progress := max(step / steps, passed)) >= 1:
            break
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * one_cycle(progress)
        if not order:
            order = torch.randperm(len(recorded), generator=generator).tolist()
        some, order = [recorded[row] for row in order[:BATCH]], order[BATCH:]
        pieces, belongs, counts = (
            torch.stack([getattr(each, name) for each in some]).to(device) for name in ("piece", "belongs", "counts")
        )
        with mixed_precision(device, config.amp):
            leads = refiner(pieces.float())
        refining_loss(leads.float(), belongs, counts).backward()
        optimizer.step()
        optimizer.zero_grad()
    refiner.eval()


def one_cycle(progress: float) -> float:
    """The learning rate as a share of the highest: it rises linearly, then falls along a cosine to 0."""
    if progress < WARMUP:
        return (progress + 1e-3) / WARMUP
    return 0.5 + 0.5 * math.cos(math.pi * (progress - WARMUP) / (1 - WARMUP))


def refining_loss(leads: Tensor, belongs: Tensor, counts: Tensor) -> Tensor:
    """Dice and cross-entropy over what counts, the mean over pieces; all are ``[B, SIDE, SIDE, SIDE]``."""
    known = counts.float()
    entropy = F.binary_cross_entropy_with_logits(leads, belongs.float(), weight=known, reduction="none")
    found, truth = leads.sigmoid() * known, belongs * known
    both, all_found, all_true = ((each).sum((1, 2, 3)) for each in (found * truth, found, truth))
    dice = (2 * both + 1) / (all_found + all_true + 1)
    return (1 - dice + ENTROPY_WEIGHT * entropy.sum((1, 2, 3)) / known.sum((1, 2, 3)).clamp(min=1)).mean()
