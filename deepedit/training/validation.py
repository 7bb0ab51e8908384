"""How good a network in training is: Dice at native resolution, without clicks and with."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deepedit.inference.annotation import annotate
from deepedit.inference.preview import overlay
from deepedit.inference.session import InteractiveSession
from deepedit.io.msd import Case, read_case
from deepedit.io.nifti import read_label
from deepedit.network.checkpoint import Model
from deepedit.training.metrics import dice

CLICKS_REPORTED = (0, 1, 3, 5)


@dataclass(frozen=True)
class Validation:
    """Mean Dice over the cases.

    Attributes:
        dice: by number of clicks, then by label name.
        pictures: by case name, ``[H, W, 3]`` uint8: truth, automatic result and result with clicks.
    """

    dice: dict[int, dict[str, float]]
    pictures: dict[str, np.ndarray]

    def mean(self, clicks: int) -> float:
        """Mean over the labels after that many clicks."""
        return float(np.mean(list(self.dice[clicks].values())))

    @property
    def score(self) -> float:
        """What the best model is chosen by: the mean over all numbers of clicks reported."""
        return float(np.mean([self.mean(clicks) for clicks in self.dice]))


def validate(model: Model, cases: Sequence[Case], amp: str = "auto", pictures: int = 2) -> Validation:
    """Dice of every label after 0, 1, 3 and 5 clicks of the evaluation's annotator.

    Args:
        model: in evaluation mode.
        cases: with labels.
        pictures: how many cases to draw.
    """
    names = model.plan.labels.names
    scores = {clicks: {name: [] for name in names} for clicks in CLICKS_REPORTED}
    drawn = {}
    session = InteractiveSession(model, amp)
    for case in cases:
        image, truth = read_case(case), model.plan.labels.to_classes(read_label(case.label).data)
        session.set_image(image)
        rounds = list(annotate(session, truth, CLICKS_REPORTED[-1]))
        for clicks in CLICKS_REPORTED:
            classes = rounds[min(clicks, len(rounds) - 1)].classes
            for index, name in enumerate(names, start=1):
                scores[clicks][name].append(dice(classes == index, truth == index))
        if len(drawn) < pictures:
            slices = image.data if image.data.ndim == 3 else image.data[0]
            voxels = [(turn.voxel, turn.label) for turn in rounds[1:]]
            drawn[case.name] = overlay(slices, [truth, rounds[0].classes, rounds[-1].classes], voxels, image.spacing)
    means = {clicks: {name: float(np.mean(found)) for name, found in row.items()} for clicks, row in scores.items()}
    return Validation(means, drawn)
