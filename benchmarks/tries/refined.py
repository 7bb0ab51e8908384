"""Answers that a second network refines, which is trained within the run; see `benchmarks.refined_answers`."""

from typing import Any

import torch
from torch import Tensor

from benchmarks.refined_answers import Answers, Refiner, around, counted, features, loss_of, refine
from deepedit.clicks import Clicks
from deepedit.training import batch
from deepedit.training.batch import RollingBatch

RATE = 2e-3


class OnlineRefiner:
    """Learns from each click of the samples, and refines the answer to it, in training as in sessions.

    Attributes:
        answers: of the sessions that evaluate the run.
        samples: the batch of the run, while the annotator looks at its results.
    """

    def __init__(self) -> None:
        self.answers = Answers()
        self.samples: RollingBatch | None = None
        self.optimizer: torch.optim.Optimizer | None = None
        self.merge = batch.merge

    def refined(self, before: Tensor, answer: Tensor, *rest: Any, **editing: Any) -> Tensor:
        """In place of `merge` in training: `before` and `answer` are ``[B, C, X, Y, Z]`` logits."""
        samples = self.samples
        assert samples is not None
        rows, clicked = [], []
        for slot, used in enumerate(samples.used):
            if used and samples.valid[slot, used - 1]:
                rows.append(slot)
                numbers = torch.zeros(used, dtype=torch.int64, device=answer.device)
                known = samples.wanted[slot, :used], samples.position[slot, :used], samples.valid[slot, :used]
                clicked.append(Clicks(numbers, *known))
        if rows:
            logits = self._learn(before, answer, rows, clicked)
            answer = answer.clone()
            for wanted, row, clicks in zip(logits, rows, clicked, strict=True):
                beyond = answer[row] if samples.edited[row] else before[row].float()
                voxel = clicks.position[-1].tolist()
                answer[row] = refine(beyond, answer[row], wanted, int(clicks.label[-1]), voxel)
        return self.merge(before, answer, *rest, **editing)

    def _learn(self, before: Tensor, answer: Tensor, rows: list[int], clicked: list[Clicks]) -> Tensor:
        """The logits of belonging to the clicked class around each click, after a step of training on them."""
        samples = self.samples
        assert samples is not None
        given, belongs, counts = [], [], []
        for row, clicks in zip(rows, clicked, strict=True):
            voxel = clicks.position[-1].tolist()
            given.append(features(before[row].float(), answer[row], samples.image[row], clicks))
            belongs.append(around(samples.label[row][None], voxel)[0] == clicks.label[-1])
            counts.append(counted(answer.shape[2:], voxel).to(answer.device))
        if self.answers.refiner is None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(samples.config.seed)
                self.answers.refiner = Refiner(given[0].shape[0]).to(answer.device)
            self.optimizer = torch.optim.AdamW(self.answers.refiner.parameters(), RATE, weight_decay=1e-2)
        assert self.optimizer is not None
        logits = self.answers.refiner(torch.stack(given))
        self.optimizer.zero_grad()
        loss_of(logits, torch.stack(belongs), torch.stack(counts)).backward()
        self.optimizer.step()
        return logits.detach()


def refined_answers() -> None:
    """A second network refines the answers; it is trained on every click of the run."""
    online, plain = OnlineRefiner(), RollingBatch.answer

    def answer(self: RollingBatch, logits: Tensor) -> None:
        online.samples = self
        plain(self, logits)

    RollingBatch.answer, batch.merge = answer, online.refined
    online.answers.listen()
