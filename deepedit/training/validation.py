"""Validation of a network in training: Dice at native resolution, without and with clicks."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from deepedit.inference.annotation import annotate
from deepedit.inference.preview import upright
from deepedit.inference.session import InteractiveSession
from deepedit.io.msd import read_case
from deepedit.io.pairing import Case
from deepedit.io.volumes import read_label_on
from deepedit.metrics import dice
from deepedit.network.checkpoint import Model
from deepedit.ranks import Ranks

CLICKS_REPORTED = (0, 1, 3, 5, 10)
LEAST_CASES = 5
"""Cases that are validated even if the time for them is over."""

Answer = tuple[dict[int, dict[str, float]], np.ndarray | None]
"""The result of one case: Dice by number of clicks and label, and the picture if one was asked for."""


@dataclass(frozen=True)
class Validation:
    """Mean Dice over the cases.

    Attributes:
        dice: Dice by number of clicks, then by label name.
        pictures: by case name, ``[H, W, 3]`` uint8: truth, automatic result and result with clicks.
        cases: number of the cases, the first of those that were to be validated.
    """

    dice: dict[int, dict[str, float]]
    pictures: dict[str, np.ndarray]
    cases: int

    def mean(self, clicks: int) -> float:
        """Mean Dice over the labels after that many clicks."""
        return float(np.mean(list(self.dice[clicks].values())))

    @property
    def score(self) -> float:
        """The score by which the best model is chosen: the mean over all reported numbers of clicks."""
        return float(np.mean([self.mean(clicks) for clicks in self.dice]))


def validate(
    model: Model,
    cases: Sequence[Case],
    amp: str = "auto",
    pictures: int = 2,
    ranks: Ranks | None = None,
    stop: Callable[[], bool] = lambda: False,
    seconds: float = math.inf,
) -> Validation | None:
    """Dice of every label after 0, 1, 3, 5 and 10 clicks of the annotator of evaluation.

    Args:
        model: in evaluation mode.
        cases: cases with labels.
        pictures: number of cases to draw.
        ranks: the processes among which the cases are divided; all get the same result.
        stop: asked before every case. If it returns True on any rank, there is no result.
        seconds: after this time no further case is begun, but for the first `LEAST_CASES`.

    Returns:
        The result, the same on all ranks; None if it was stopped.
    """
    ranks = ranks or Ranks()
    session, until = InteractiveSession(model, amp), time.monotonic() + seconds
    own: dict[int, Answer] = {}
    stopped = False
    for number, case in ranks.share(list(enumerate(cases))):
        if stop():
            stopped = True
            break
        if number >= LEAST_CASES and time.monotonic() >= until:
            break
        own[number] = _answer(session, case, draw=number < pictures)
    gathered = ranks.gather(None if stopped else own)
    parts = [part for part in gathered if part is not None]
    if len(parts) < len(gathered):
        return None
    found = {number: entry for part in parts for number, entry in part.items()}
    # Some ranks may have had the time for more.
    count = next(number for number in range(len(cases) + 1) if number not in found)
    cases, answers = cases[:count], [found[number] for number in range(count)]
    means = {
        clicks: {name: float(np.mean([dice[clicks][name] for dice, _ in answers])) for name in model.plan.labels.names}
        for clicks in CLICKS_REPORTED
    }
    drawn = {case.name: picture for case, (_, picture) in zip(cases, answers, strict=True) if picture is not None}
    return Validation(means, drawn, count)


def _answer(session: InteractiveSession, case: Case, draw: bool) -> Answer:
    labels, reading = session.model.plan.labels, session.model.plan.reading
    image = read_case(case, reading)
    label = read_label_on(image, case.label_file, reading)
    truth = labels.to_classes(label.data)
    ignore = session.model.plan.ignore
    unknown = None if ignore is None else label.data == ignore
    session.set_image(image)
    rounds = list(annotate(session, truth, CLICKS_REPORTED[-1], unknown))
    shown = {clicks: rounds[min(clicks, len(rounds) - 1)].classes for clicks in CLICKS_REPORTED}
    scores = {
        clicks: {name: dice(classes == index, truth == index) for index, name in enumerate(labels.names, start=1)}
        for clicks, classes in shown.items()
    }
    if not draw:
        return scores, None
    voxels = [(turn.voxel, turn.label) for turn in rounds if turn.voxel is not None and turn.label is not None]
    return scores, upright(image, [truth, rounds[0].classes, rounds[-1].classes], voxels)
