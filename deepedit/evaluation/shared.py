"""The cases of an evaluation shared out among the processes that ``torchrun`` started."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from deepedit.evaluation.protocol import evaluate_dataset
from deepedit.evaluation.rows import Row
from deepedit.io.pairing import Case
from deepedit.network.checkpoint import Model
from deepedit.ranks import Ranks


@dataclass(frozen=True)
class Outcome:
    """What became of one case.

    Attributes:
        case: its name.
        rows: as of `evaluate_dataset`; empty where it failed.
        notes: a line on each thing worth knowing of its files.
        failure: why it could not be evaluated, or None.
    """

    case: str
    rows: list[Row]
    notes: list[str]
    failure: str | None


def evaluate_shared(
    model: Model, cases: Sequence[Case], ranks: Ranks | None = None, **options: Any
) -> Iterator[Outcome]:
    """Evaluate cases one by one, as many at a time as there are ranks.

    Args:
        model: in evaluation mode, on the device to use.
        cases: with label files; the same on all ranks.
        ranks: the processes that share the cases.
        options: as of `evaluate_dataset`, but `on_failure` and `on_note`.

    Yields:
        The outcome of each case, in the order of the cases, on all ranks.

    Raises:
        DeepEditError: if a disk is full, or another rank is gone.
    """
    ranks = ranks or Ranks()
    for first in range(0, len(cases), ranks.size):
        # Exchanged after each case, and not at the end, so that whoever watches hears of every case in its turn.
        own = [_outcome(model, case, options) for case in ranks.share(cases[first : first + ranks.size])]
        for outcomes in ranks.gather(own):
            yield from outcomes


def _outcome(model: Model, case: Case, options: dict[str, Any]) -> Outcome:
    notes: list[str] = []
    failures: list[str] = []
    rows = evaluate_dataset(
        model, [case], on_failure=lambda case, reason: failures.append(reason), on_note=notes.append, **options
    )
    return Outcome(case.name, rows, notes, failures[0] if failures else None)
