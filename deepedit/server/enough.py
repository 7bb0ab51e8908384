"""Whether the submitted cases suffice to train a model further, and to compare it with the old one."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deepedit.errors import TrainingError
from deepedit.io.studies import list_studies
from deepedit.network.checkpoint import model_from_entries, read_entries

FEWEST_CASES = 5
"""Submitted cases from which on some can be held back to compare the new model with the old one."""


def refuse_too_few(current: Path, studies: Path, unproven: bool, best: float) -> float:
    """Refuse a training whose model could not be compared.

    Args:
        current: file of the model that is to be trained further.
        studies: folder of studies.
        unproven: whether the new model is adopted without a comparison, for which one case suffices.
        best: Dice of the model, as far as it was measured; 0 if it was not.

    Returns:
        That, or else the one that the model's run recorded.

    Raises:
        TrainingError: if there are too few submitted cases, or the model was trained on all of them.
        DeepEditError: if the model's file or the folder cannot be read.
    """
    entries = read_entries(current)
    model = model_from_entries(entries, current)
    submitted = [case for case in list_studies(studies, model.plan.image_channels)[0] if case.label]
    if not submitted:
        raise TrainingError("no case has a submitted label map to train on; submit one first")
    if not unproven and len(submitted) < FEWEST_CASES:
        missing = FEWEST_CASES - len(submitted)
        raise TrainingError(
            f"training needs {FEWEST_CASES} submitted cases, some of them to compare the new model with the old "
            f"one, and {len(submitted)} {'is' if len(submitted) == 1 else 'are'} there; submit {missing} more"
        )
    if not unproven and all(case.name in model.seen_cases for case in submitted):
        raise TrainingError(
            f"the model was trained on all {len(submitted)} submitted cases, and none is left to compare a new one "
            "with it; submit another"
        )
    return best or recorded_best(entries)


def recorded_best(entries: Mapping[str, Any]) -> float:
    """The best validation Dice of the run that a model is from; 0 if it is not known."""
    training = entries.get("training")
    best = training.get("best") if isinstance(training, dict) else None
    return float(best) if isinstance(best, int | float) and math.isfinite(best) and best >= 0 else 0.0
