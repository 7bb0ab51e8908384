"""Whether a small second network can improve the answers of a model to clicks.

    python -m benchmarks.refined_answers --model RUN/model.pt --input DATASET

The annotator of evaluation clicks on cases that the model was trained on. From these clicks the second network learns
which voxels around a click belong to the clicked class, given the image, the logits before the click, the model's
answer, and the clicks. Then the validation cases are clicked twice, with the model's answers as they are, and with
those that the second network has refined. Printed are mean Dice after each number of clicks, and its gain.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.click_effects import opened
from benchmarks.options import add_shared, parser
from deepedit.boxes import Box
from deepedit.clicks import Clicks, render_guidance
from deepedit.defaults import MAX_CLICKS
from deepedit.evaluation import Corruption, evaluate_dataset, summarise
from deepedit.inference import segmentation
from deepedit.inference.annotation import annotate
from deepedit.inference.history import Click
from deepedit.inference.segmentation import Segmentation
from deepedit.inference.session import InteractiveSession
from deepedit.inference.sliding_window import cut
from deepedit.io.msd import find_dataset
from deepedit.io.pairing import Case
from deepedit.network.checkpoint import Model
from deepedit_cli.options import positive_int

RADIUS = 12
"""Answers are refined within so many voxels of a click; beyond, a click changes automatic results no more."""

SIDE = 2 * RADIUS + 1
LARGEST_MARGIN = 8.0
FILTERS = 16
BATCH = 8
EPOCHS = 6
ENTROPY_WEIGHT = 7.0
STARTS = {"automatic": None, "poor": Corruption(0.60, 0.75), "good": Corruption(0.93, 0.96)}
"""What clicks correct: the automatic result, or initial segmentations whose Dice is in a range."""


class Refiner(nn.Module):
    """Maps features around a click ``[B, F, X, Y, Z]`` to the logits of belonging to its class, ``[B, X, Y, Z]``."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.first = nn.Conv3d(features, FILTERS, 3, padding=1)
        self.second = nn.Conv3d(FILTERS, FILTERS, 3, padding=1)
        self.third = nn.Conv3d(FILTERS, FILTERS, 3, padding=2, dilation=2)
        self.last = nn.Conv3d(FILTERS, 1, 1)
        nn.init.zeros_(self.last.weight)

    def forward(self, x: Tensor) -> Tensor:
        y = F.leaky_relu(self.first(x), 0.01)
        y = y + F.leaky_relu(self.second(y), 0.01)
        y = y + F.leaky_relu(self.third(y), 0.01)
        return self.last(y)[:, 0] + LARGEST_MARGIN / 2 * x[:, 0]


def lead(logits: Tensor, label: int) -> Tensor:
    """``[X, Y, Z]``: by how much the logit of a class is above the highest other one; `logits` are ``[C, X, Y, Z]``."""
    others = torch.cat([logits[:label], logits[label + 1 :]]).amax(0)
    return (logits[label] - others).clamp(-LARGEST_MARGIN, LARGEST_MARGIN)


def around(value: Tensor, voxel: Sequence[int]) -> Tensor:
    """``[C, SIDE, SIDE, SIDE]`` of ``[C, X, Y, Z]``, with the voxel in the middle and 0 beyond the volume."""
    return cut(value, [at - RADIUS for at in voxel], (SIDE,) * 3)


def features(before: Tensor, answer: Tensor, image: Tensor, clicks: Clicks) -> Tensor:
    """``[F, SIDE, SIDE, SIDE]`` around the newest click.

    Args:
        before, answer: ``[C, X, Y, Z]`` logits.
        image: ``[K, X, Y, Z]``.
        clicks: on the same grid, the newest one last.
    """
    num_classes, label, voxel = len(before), int(clicks.label[-1]), clicks.position[-1]
    inside = voxel.clamp(min=0).minimum(torch.tensor(image.shape[1:], device=image.device) - 1)
    relative = clicks.position - voxel + RADIUS
    earlier, newest = (
        Clicks(clicks.batch[rows], clicks.label[rows], relative[rows], clicks.valid[rows])
        for rows in (slice(-1), slice(-1, None))
    )
    shape = (SIDE,) * 3
    near, wide = (render_guidance(newest, shape, num_classes, sigma=sigma)[0, label] for sigma in (2.0, 6.0))
    guidance = render_guidance(earlier, shape, num_classes, sigma=3.0)[0]
    others = torch.cat([guidance[:label], guidance[label + 1 :]]).amax(0)
    leads = torch.stack([lead(answer, label), lead(before, label)]) / (LARGEST_MARGIN / 2)
    difference = image - image[(slice(None), *inside)].view(-1, 1, 1, 1)
    cropped = around(torch.cat([leads, image, difference]), voxel.tolist())
    is_label = torch.zeros(num_classes, *shape, device=image.device)
    is_label[label] = 1
    return torch.cat([cropped, torch.stack([near, wide, guidance[label], others]), is_label])


def ball() -> Tensor:
    """``[SIDE, SIDE, SIDE]`` bool: what is within `RADIUS` of the middle."""
    steps = torch.arange(SIDE) - RADIUS
    return steps[:, None, None] ** 2 + steps[:, None] ** 2 + steps**2 <= RADIUS**2


def refine(beyond: Tensor, answer: Tensor, wanted: Tensor, label: int, voxel: Sequence[int]) -> Tensor:
    """An answer in which the class of a click is decided anew around it.

    Args:
        beyond: ``[C, X, Y, Z]`` logits of the result where it is not near the click.
        answer: ``[C, X, Y, Z]``, which orders the other classes near the click.
        wanted: ``[SIDE, SIDE, SIDE]`` logits of belonging to the clicked class, with the click in the middle.
        label, voxel: of the click.
    """
    window, piece = [], []
    for at, side in zip(voxel, answer.shape[1:], strict=True):
        low, high = max(at - RADIUS, 0), min(at + RADIUS + 1, side)
        window.append(slice(low, high))
        piece.append(slice(low - at + RADIUS, high - at + RADIUS))
    own = answer[(slice(None), *window)].clone()
    own[label] = torch.cat([own[:label], own[label + 1 :]]).amax(0) + wanted[tuple(piece)]
    refined = beyond.clone()
    near = refined[(slice(None), *window)]
    near.copy_(torch.where(ball().to(near.device)[tuple(piece)], own, near))
    return refined


def counted(shape: Sequence[int], voxel: Sequence[int]) -> Tensor:
    """``[SIDE, SIDE, SIDE]`` bool: what of the ball around a voxel lies in the volume."""
    return ball() & (around(torch.ones(1, *shape), voxel)[0] > 0)


def loss_of(logits: Tensor, belongs: Tensor, counts: Tensor) -> Tensor:
    """Dice and cross-entropy of what counts; all are ``[B, SIDE, SIDE, SIDE]``."""
    known = counts.float()
    entropy = F.binary_cross_entropy_with_logits(logits, belongs.float(), weight=known, reduction="none")
    found, truth = logits.sigmoid() * known, belongs * known
    both = (found * truth).sum((1, 2, 3))
    dice = (2 * both + 1) / (found.sum((1, 2, 3)) + truth.sum((1, 2, 3)) + 1)
    return (1 - dice + ENTROPY_WEIGHT * entropy.sum((1, 2, 3)) / known.sum((1, 2, 3))).mean()


@dataclass
class Answers:
    """What happens to the answers of sessions: they are refined, and recorded to learn from.

    Attributes:
        refiner: None: answers stay as they are.
        truth: ``[X, Y, Z]`` class indices on the network's grid, while clicks are recorded, else None.
        recorded: features, whether voxels belong to the clicked class, and whether they count, of each click.
    """

    refiner: Refiner | None = None
    truth: Tensor | None = None
    recorded: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)

    def listen(self) -> None:
        """Take part in all sessions from now on."""
        plain_merged, plain_merge = Segmentation._merged, segmentation.merge
        at: dict[str, Any] = {}

        def merged(self_: Segmentation, start: Sequence[int], place: Box, clicks: Sequence[Click], own: Any) -> Any:
            at.update(place=place, image=self_.scene.image[(slice(None), *place)])
            return plain_merged(self_, start, place, clicks, own)

        def merge(before: Tensor, answer: Tensor, clicks: Clicks, newest: Tensor, policy: Any, **rest: Any) -> Tensor:
            answer = self._refined(before[0].float(), answer[0], clicks, at["place"], at["image"], rest.get("initial"))
            return plain_merge(before, answer[None], clicks, newest, policy, **rest)

        Segmentation._merged, segmentation.merge = merged, merge

    def _refined(
        self, before: Tensor, answer: Tensor, clicks: Clicks, place: Box, image: Tensor, initial: Tensor | None
    ) -> Tensor:
        if self.refiner is None and self.truth is None:
            return answer
        given = features(before, answer, image, clicks)
        label, voxel = int(clicks.label[-1]), clicks.position[-1].tolist()
        if self.truth is not None:
            belongs = around(self.truth[place][None], voxel)[0] == label
            self.recorded.append((given.half(), belongs, counted(answer.shape[1:], voxel)))
        if self.refiner is None:
            return answer
        with torch.inference_mode():
            wanted = self.refiner(given[None])[0]
        return refine(before if initial is None else answer, answer, wanted, label, voxel)


def record(answers: Answers, model: Model, cases: Sequence[Case], clicks: int) -> None:
    """Click on cases, and record it."""
    session = InteractiveSession(model)
    labels = model.plan.labels
    for case in cases:
        image, truth = opened(case, labels)
        session.set_image(image)
        grid = session._require_timeline().scene.grid
        answers.truth = grid.labels_to_network(torch.from_numpy(truth.astype(np.uint8)), labels.num_classes)
        for _ in annotate(session, truth, clicks):
            pass
    answers.truth = None


def learned(recorded: Sequence[tuple[Tensor, Tensor, Tensor]], epochs: int, seed: int) -> Refiner:
    """A refiner that was trained on recorded clicks, by Dice and cross-entropy."""
    given, belongs, counts = (torch.stack(each) for each in zip(*recorded, strict=True))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        refiner = Refiner(given.shape[1])
    steps = epochs * math.ceil(len(given) / BATCH)
    optimizer = torch.optim.AdamW(refiner.parameters(), weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for rows in torch.randperm(len(given), generator=generator).split(BATCH):
            loss = loss_of(refiner(given[rows].float()), belongs[rows], counts[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return refiner.eval()


def main() -> None:
    options = parser(__doc__)
    add_shared(options, "--model", "--input")
    options.add_argument(
        "--cases", type=positive_int, default=40, metavar="N", help="training cases to click on (default: %(default)s)"
    )
    add_shared(options, "--seed")
    add_shared(options, "--max-clicks", default=MAX_CLICKS, help="clicks for each case (default: %(default)s)")
    options.add_argument(
        "--starts",
        nargs="+",
        choices=STARTS,
        default=list(STARTS),
        help="what clicks correct (default: automatic poor good)",
    )
    arguments = options.parse_args()
    answers = Answers()
    answers.listen()
    model = InteractiveSession.from_checkpoint(arguments.model, "cpu").model
    by_name = {case.name: case for case in find_dataset(arguments.input).cases}
    trained = [by_name[name] for name in model.training_cases]
    held_back = [by_name[name] for name in model.validation_cases]
    start = time.perf_counter()
    record(answers, model, trained[:: max(len(trained) // arguments.cases, 1)][: arguments.cases], arguments.max_clicks)
    print(f"{len(answers.recorded)} clicks recorded in {time.perf_counter() - start:.0f} s", flush=True)
    start = time.perf_counter()
    refiner = learned(answers.recorded, EPOCHS, arguments.seed)
    print(f"learned from in {time.perf_counter() - start:.0f} s", flush=True)
    for origin in arguments.starts:
        curves = []
        for answers.refiner in (None, refiner):
            rows = evaluate_dataset(model, held_back, arguments.max_clicks, STARTS[origin])
            curves.append(summarise(rows).mean.dice)
            name = f"{origin}{', refined' if answers.refiner else ''}"
            print(f"{name:<24}" + "".join(f"{value:8.4f}" for value in curves[-1]), flush=True)
        gains = [refined - plain for plain, refined in zip(*curves, strict=True)]
        print(f"{'gain':<24}" + "".join(f"{gain:+8.4f}" for gain in gains), flush=True)


if __name__ == "__main__":
    main()
