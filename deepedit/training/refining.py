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

from deepedit.errors import Cancelled
from deepedit.files import one_line
from deepedit.inference.annotation import annotate
from deepedit.inference.failure import why_it_failed
from deepedit.inference.refine import INSIDE, corner, distances
from deepedit.inference.session import InteractiveSession
from deepedit.inference.sliding_window import cut
from deepedit.io.msd import read_case
from deepedit.io.pairing import Case
from deepedit.io.volumes import read_label_on
from deepedit.network.checkpoint import Model
from deepedit.network.inputs import autocast_dtype, mixed_precision
from deepedit.network.refiner import RADIUS, SIDE, Refiner, build_refiner
from deepedit.ranks import Ranks
from deepedit.training.config import TrainingConfig
from deepedit.training.schedule import generator_for
from deepedit.transforms.geometry import GridMap
from deepedit.transforms.preprocess import Preprocessor

RECORDING = 0.4
"""Share of the time after which no further case is clicked, so that the rest is left for learning."""

STEPS, EPOCHS = 300, 12
"""Steps of learning, and at most how often each click is learned from, which counts if there are few."""

LEAST_STEPS = 30
"""With fewer, as there are few clicks or no time for more, answers are better left as they are."""

STOPPED = "it was stopped"

BATCH = 8
LEARNING_RATE = 3e-3
WARMUP = 0.3
WEIGHT_DECAY = 1e-2
ENTROPY_WEIGHT = 7.0


@dataclass(frozen=True)
class Recorded:
    """A click on a training case.

    Attributes:
        piece: ``[channels - C, SIDE, SIDE, SIDE]`` float16, what the refiner saw, but for the C channels that say which
            class was clicked.
        label: the index of that class.
        belongs: ``[SIDE, SIDE, SIDE]`` bool, what truly belongs to it.
        counts: ``[SIDE, SIDE, SIDE]`` bool, where the refiner decides and the truth is known.
        far: voxels of the image that the answer corrected farther than `RADIUS` from the click, less those it spoilt.
    """

    piece: Tensor
    label: int
    belongs: Tensor
    counts: Tensor
    far: int


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
        model: in evaluation mode. Learning begins with the weights of its own refiner, if it has one; clicks are
            recorded without it.
        cases: training cases; up to ``config.refiner_cases`` of them, evenly chosen, are clicked, in random order.
        config: of the run.
        ranks: the processes among which the cases are divided; the first one teaches.
        stop: asked before every case and every step.
        seconds: how long this may take. The first case of each rank is clicked even if it takes longer.
        say: called with a line about what it learned from, and one about each case that is left out.

    Returns:
        The model's own refiner, or None if it has none, if there was nothing to learn from, or no time for it.

    Raises:
        Cancelled: if it was stopped on any rank.
    """
    ranks, start = ranks or Ranks(), time.monotonic()
    count = min(config.refiner_cases, len(cases))
    refiner = build_refiner(model.plan.image_channels, model.plan.labels.num_classes, config.seed).to(model.device)
    session = InteractiveSession(replace(model, refiner=refiner.eval()), config.amp)
    # Names often tell where cases are from, so that the first ones by name would be too much alike.
    order = torch.randperm(count, generator=generator_for(config.seed, "refiner")).tolist()
    own: dict[int, list[Recorded]] = {}
    failed: dict[str, str] = {}
    stopped = False
    for number in ranks.share(order):
        case = cases[number * len(cases) // count]
        if stopped := stop():
            break
        if own and time.monotonic() >= start + RECORDING * seconds:
            break
        try:
            own[number] = list(record(session, refiner, case, config.max_clicks))
        except Exception as error:  # it is the end of a long run, which one case shall not cost
            failed[case.name] = why_it_failed(error)
    _cancel_if_any(stopped, ranks)
    for failures in ranks.gather(failed):
        for name, reason in failures.items():
            say(f"note: no clicks on {one_line(name)} are learned from: {reason}")
    # In the order of the cases, so that it does not matter how many ranks there are.
    clicked = dict(sorted((number, clicks) for part in ranks.gather(own) for number, clicks in part.items()))
    recorded = [click for clicks in clicked.values() for click in clicks]
    if model.refiner is not None:
        refiner.load_state_dict(model.refiner.state_dict())
    refiner.far.fill_(sum(click.far for click in recorded) > 0)
    problem = "no training case could be clicked" if not clicked else "there were not enough errors to click on"
    if ranks.first and recorded:
        problem = teach(refiner, recorded, config, stop, seconds - (time.monotonic() - start))
    _cancel_if_any(problem == STOPPED, ranks)
    weights = {name: each.cpu() for name, each in refiner.state_dict().items()}
    problem, weights = ranks.gather((problem, weights))[0]
    if problem:
        kept = "not refined" if model.refiner is None else "refined as they were in the model that this one began with"
        say(f"note: answers are {kept}: {problem}, with {len(recorded)} clicks on {len(clicked)} training cases")
        return model.refiner
    refiner.load_state_dict(weights)
    say(f"learned to refine answers from {len(recorded)} clicks on {len(clicked)} training cases")
    return refiner


def _cancel_if_any(stopped: bool, ranks: Ranks) -> None:
    (count,) = ranks.sum(stopped)
    if count:
        raise Cancelled("learning to refine answers was stopped")


def record(session: InteractiveSession, refiner: Refiner, case: Case, clicks: int) -> Iterator[Recorded]:
    """Let the annotator click on a case; each click is recorded, as `refiner`, which is the session's own, sees it."""
    plan = session.model.plan
    labels, num_classes = plan.labels, plan.labels.num_classes
    image = read_case(case, plan.reading)
    label = read_label_on(image, case.label_file, plan.reading)
    truth = labels.to_classes(label.data)
    unknown = None if plan.ignore is None else label.data == plan.ignore
    preprocess = Preprocessor(plan)
    grid = preprocess.grid(image.shape, image.affine)
    on_network = preprocess.label(label, grid)
    ball = distances("cpu") <= RADIUS**2
    seen: list[Tensor] = []
    before: np.ndarray | None = None
    hook = refiner.register_forward_pre_hook(lambda module, given: seen.append(given[0][0].half().cpu()))
    try:
        session.set_image(image)
        for turn in annotate(session, truth, clicks, unknown):
            if before is not None and turn.voxel is not None and turn.label is not None:
                target = preprocess.click(turn.voxel, grid)
                there = cut(on_network[None], corner(target.tolist()), (SIDE,) * 3)[0]
                piece = seen.pop()
                counts = ball & (piece[INSIDE] > 0) & (there < num_classes)
                far = far_gain(before, turn.classes, truth, grid, target)
                yield Recorded(piece[:-num_classes].clone(), turn.label, there == turn.label, counts, far)
            before = turn.classes
    finally:
        hook.remove()


def far_gain(before: np.ndarray, after: np.ndarray, truth: np.ndarray, grid: GridMap, target: np.ndarray) -> int:
    """How many voxels of the image became right, less those that became wrong, farther than `RADIUS` from a click.

    Args:
        before, after, truth: ``[X, Y, Z]`` class indices.
        grid: the map to the network's grid, on which the distance is measured.
        target: ``[3]``, the click on the network's grid.
    """
    changed = np.argwhere(before != after)
    changed = changed[((grid.points_to_network(changed) - target) ** 2).sum(1) > RADIUS**2]
    voxels = tuple(changed.T)
    return int((after[voxels] == truth[voxels]).sum()) - int((before[voxels] == truth[voxels]).sum())


def teach(
    refiner: Refiner,
    recorded: Sequence[Recorded],
    config: TrainingConfig,
    stop: Callable[[], bool] = lambda: False,
    seconds: float = math.inf,
) -> str:
    """Train a refiner in place on recorded clicks, in random order; the learning rate falls to 0 at the end.

    Args:
        stop: asked before every step.
        seconds: the end, if it comes before all steps are done.

    Returns:
        Why it should not be used, `STOPPED` if it was stopped; empty if all is well.
    """
    device, generator = refiner.last.weight.device, torch.Generator().manual_seed(config.seed)
    # Float16 would need its losses scaled, and a network of this size takes little time in float32.
    amp = "off" if autocast_dtype(device, config.amp) == torch.float16 else config.amp
    optimizer = torch.optim.AdamW(refiner.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    steps, start = min(STEPS, EPOCHS * math.ceil(len(recorded) / BATCH)), time.monotonic()
    order: list[int] = []
    done = 0
    if steps < LEAST_STEPS:
        return "there were not enough errors to click on"
    refiner.train()
    while done < steps:
        if stop():
            return STOPPED
        passed = (time.monotonic() - start) / seconds if seconds > 0 else 1.0
        if (progress := max(done / steps, passed)) >= 1:
            break
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * one_cycle(progress)
        if not order:
            order = torch.randperm(len(recorded), generator=generator).tolist()
        pieces, belongs, counts = _batch([recorded[row] for row in order[:BATCH]], refiner.first.in_channels, device)
        order = order[BATCH:]
        with mixed_precision(device, amp):
            leads = refiner(pieces)
        refining_loss(leads.float(), belongs, counts).backward()
        optimizer.step()
        optimizer.zero_grad()
        done += 1
    refiner.eval()
    if done < LEAST_STEPS:
        return "there was not enough time to learn"
    if not all(weight.isfinite().all() for weight in refiner.parameters()):
        return "its weights became infinite"
    return ""


def _batch(clicks: Sequence[Recorded], channels: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """The whole pieces, which have so many channels, what belongs to the clicked classes, and what counts."""
    pieces, belongs, counts = (
        torch.stack([getattr(click, name) for click in clicks]).to(device) for name in ("piece", "belongs", "counts")
    )
    is_label = torch.zeros(len(clicks), channels - pieces.shape[1], *belongs.shape[1:], device=device)
    for row, click in zip(is_label, clicks, strict=True):
        row[click.label] = 1
    return torch.cat([pieces.float(), is_label], dim=1), belongs, counts


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
    both, all_found, all_true = (each.sum((1, 2, 3)) for each in (found * truth, found, truth))
    dice = (2 * both + 1) / (all_found + all_true + 1)
    return (1 - dice + ENTROPY_WEIGHT * entropy.sum((1, 2, 3)) / known.sum((1, 2, 3)).clamp(min=1)).mean()
