"""Compares two models on submitted cases that neither was trained on.

    python -m deepedit.server.comparison OLD NEW STUDIES OUTPUT [DEVICE]

runs it in a process of its own, and writes the result to a JSON file.
"""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from deepedit.errors import DeepEditError, TrainingError
from deepedit.evaluation import Row, evaluate_dataset, summarise
from deepedit.files import one_line, read_json, replace_atomically
from deepedit.io.pairing import Case
from deepedit.io.studies import list_studies
from deepedit.network.checkpoint import Model, load_model
from deepedit.network.inputs import pick_device

CLICKS = 3
"""Clicks in each case: after them most of what a network does with clicks is seen."""

MOST_CASES = 20
DECIMALS = 4
"""Figures are compared as they are told: a difference that is not shown decides nothing."""


@dataclass(frozen=True)
class Comparison:
    """Mean Dice of two models on the same cases.

    Attributes:
        cases: names of the cases.
        old, new: mean Dice over cases and labels after 0, 1, ... clicks.
    """

    cases: tuple[str, ...]
    old: tuple[float, ...]
    new: tuple[float, ...]

    @property
    def scores(self) -> tuple[float, float]:
        """The figures that decide: the mean over all numbers of clicks, of the old and of the new model."""
        old, new = (round(sum(curve) / len(curve), DECIMALS) for curve in (self.old, self.new))
        return old, new

    @property
    def not_worse(self) -> bool:
        """Whether the new model is at least as good as the old one."""
        old, new = self.scores
        return new >= old

    def __str__(self) -> str:
        old, new = self.scores
        count = f"{len(self.cases)} case{'s' * (len(self.cases) > 1)}"
        return (
            f"mean Dice {new:.4f} of the new model, {old:.4f} of the old one, on {count} that neither was trained on "
            f"(automatic {self.new[0]:.4f} and {self.old[0]:.4f}, with {len(self.new) - 1} clicks {self.new[-1]:.4f} "
            f"and {self.old[-1]:.4f})"
        )


def compare(old: Model, new: Model, studies: Path, say: Callable[[str], None]) -> Comparison:
    """Evaluate two models on the submitted cases that were held back from both.

    Args:
        old, new: in evaluation mode, on the device to use; the new one was trained on `studies`.
        say: is told about each case that is left out.

    Raises:
        TrainingError: if there is no such case.
    """
    cases = held_back(old, new, list_studies(studies, new.plan.image_channels)[0])
    if len(cases) > MOST_CASES:
        say(f"compared on the first {MOST_CASES} of the {len(cases)} cases that neither model was trained on")
    failed: set[str] = set()

    def fail(case: Case, reason: str) -> None:
        if case.name not in failed:
            say(f"{one_line(case.name)} is left out: {reason}")
        failed.add(case.name)

    rows = [
        evaluate_dataset(model, cases[:MOST_CASES], CLICKS, on_failure=fail, on_note=lambda note: None)
        for model in (old, new)
    ]
    curves = [[row for row in each if row.case not in failed] for each in rows]
    if not curves[0]:
        raise TrainingError(
            "no submitted case can be found that neither the old nor the new model was trained on, to compare them; "
            "submit some more"
        )
    return Comparison(tuple(dict.fromkeys(row.case for row in curves[0])), *map(_curve, curves))


def held_back(old: Model, new: Model, cases: Sequence[Case]) -> list[Case]:
    """The labelled ones of some cases that the new model was validated on, and that neither model was trained on."""
    seen = old.seen_cases | new.seen_cases
    return [
        case for case in cases if case.label is not None and case.name in new.validation_cases and case.name not in seen
    ]


def _curve(rows: Sequence[Row]) -> tuple[float, ...]:
    return summarise(rows).mean.dice


def read_comparison(path: Path) -> Comparison:
    """What `main` wrote."""
    entries = read_json(path, TrainingError)
    return Comparison(*(tuple(entries[name]) for name in ("cases", "old", "new")))


def main(arguments: Sequence[str]) -> int:
    old, new, studies, output, device = map(str, (*arguments, "auto")[:5])
    try:
        before, after = (load_model(path, pick_device(device)) for path in (old, new))
        result = compare(before, after, Path(studies), lambda line: print(line, flush=True))
        with replace_atomically(output) as stream:
            stream.write(json.dumps(asdict(result)).encode())
    except DeepEditError as error:
        print(f"comparison: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
