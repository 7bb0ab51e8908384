"""A run as the files in its folder tell of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from deepedit.errors import TrainingError
from deepedit.network.checkpoint import Model, model_from_entries, read_entries
from deepedit.ranks import Ranks


@dataclass(frozen=True)
class SavedRun:
    """What a run goes on from.

    Attributes:
        model: with the newest network.
        trainer: see `deepedit.training.loop.Trainer.state`.
        best: the score of ``model.pt``.
        validated: how many validations were made.
        cases_validated: how many of the validation cases they are made on; None: all.
        refining_done: whether a refiner has learned, if the run has one.
    """

    model: Model
    trainer: dict[str, Any]
    best: float
    validated: int
    cases_validated: int | None
    refining_done: bool


def read_run(folder: Path, device: torch.device, ranks: Ranks) -> SavedRun:
    """The state of the run in a folder.

    Raises:
        ModelError: if ``last.pt`` cannot be read.
        TrainingError: if it holds no state of training.
    """
    path = folder / "last.pt"
    entries = read_entries(path)
    model = model_from_entries(entries, path, device)
    try:
        training = entries["training"]
        trainer, best, validated = training["trainer"], float(training["best"]), int(training["validated"])
        # Earlier versions validated all, and had no refiner before they learned one.
        cases_validated = training.get("cases_validated")
        refining_done = bool(training.get("refined", model.refiner is not None))
    except (KeyError, TypeError, ValueError) as error:
        raise TrainingError(f"{path}: holds no state of training; resume needs the last.pt of a run") from error
    # A run may be killed after it has written one file and before the other.
    kept = ranks.gather(_kept(folder) if ranks.first else {})[0]
    best, refining_done = max(best, float(kept.get("best", -1.0))), refining_done or bool(kept.get("refined"))
    return SavedRun(model, trainer, best, validated, cases_validated, refining_done)


def _kept(folder: Path) -> dict[str, Any]:
    """What ``model.pt`` tells about itself as the best model so far."""
    path = folder / "model.pt"
    kept: dict[str, Any] = read_entries(path).get("training", {}) if path.exists() else {}
    return kept
