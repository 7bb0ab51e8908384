"""``deepedit-evaluate``: Dice and surface distance against the number of clicks, over the cases of a dataset."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepedit import __version__
from deepedit.defaults import MAX_CLICKS, TOLERANCE
from deepedit.errors import DeepEditError
from deepedit.files import make_folder, one_line
from deepedit_cli.common import (
    PATIENCE,
    Parser,
    complain,
    in_options,
    parser,
    progress,
    refuse_existing,
    run,
    say,
    untold,
)
from deepedit_cli.options import add_reading, add_shared, chosen_mapping, chosen_reading, count, positive

if TYPE_CHECKING:  # importing it for good would make --help wait for torch
    from deepedit.evaluation import Row

PROGRAM = "deepedit-evaluate"
DESCRIPTION = """\
Segment the cases of a dataset, let a simulated annotator click the deepest
voxel of the largest error, one click at a time, and measure how much each click
improves the result. Everything is measured on the files' own grids.
"""
EXAMPLES = """\
examples:
  deepedit-evaluate --model run/model.pt --input DATASET --output report
  deepedit-evaluate --model run/model.pt --input DATASET --output report \\
      --initial-segmentation OTHER_TOOLS_RESULTS
  deepedit-evaluate --model run/model.pt --input DATASET --output report \\
      --corrupt 0.60,0.75
    start from the truth with errors added until its mean Dice is in that range;
    with 1,1 the truth stays perfect, and the first click is a redundant one
  deepedit-evaluate --model run/model.pt --input DATASET --output report \\
      --oracle --max-clicks-per-label 2
    tell how much of what two clicks for each label could repair they do repair
  torchrun --nproc-per-node 2 -m deepedit_cli.evaluate --model run/model.pt \\
      --input DATASET --output report
    two processes share the cases; each uses as many threads as OMP_NUM_THREADS
    says, or one
"""


def main(argv: Sequence[str] | None = None) -> int:
    return run(PROGRAM, evaluate, argv)


def evaluate(argv: Sequence[str] | None) -> None:
    """Evaluate the model that the arguments name, print a table and write the report."""
    options = command_line().parse_args(argv)
    # Late, so that --help does not wait for torch.
    from deepedit.ranks import joined_ranks

    with joined_ranks("start all of them again", PATIENCE) as ranks:
        report(options, ranks)


def report(options: argparse.Namespace, ranks: Any) -> None:
    """Evaluate what the arguments say; the first rank tells of it and writes the report."""
    from deepedit.evaluation import evaluate_shared
    from deepedit.io.dataset_json import read_description
    from deepedit.network.checkpoint import load_model
    from deepedit.network.inputs import pick_device
    from deepedit_cli.evaluate_cases import check_starts, choose_cases
    from deepedit_cli.evaluation_report import FILES

    for name in FILES:
        refuse_existing(options.output / name, options.overwrite)
    model = load_model(options.model, pick_device(options.device))
    model.plan = replace(model.plan, reading=chosen_reading(options, model.plan.reading))
    mapping = chosen_mapping(options, model.plan.labels)
    tell = partial(complain, PROGRAM) if ranks.first else untold
    cases = choose_cases(options, model, tell, say if ranks.first else untold)
    ignore = read_description(options.input).ignore
    check_starts(options.initial_segmentation, cases, tell)
    if ranks.first:
        make_folder(options.output)
    # One list for all, whatever happens in the folder meanwhile: ranks with other lists would wait for ever.
    cases = ranks.gather(cases)[0]
    outcomes = evaluate_shared(
        model,
        cases,
        ranks,
        max_clicks=options.max_clicks,
        max_clicks_per_label=options.max_clicks_per_label,
        oracle=options.oracle,
        initial=options.corrupt or options.initial_segmentation,
        seed=options.seed,
        tolerance=options.tolerance,
        amp=options.amp,
        overlap=options.overlap,
        skip_air=options.skip_air,
        tta=options.tta,
        ignore=ignore,
        mapping=mapping,
        same_grid=options.same_grid,
    )
    rows: list[Row] = []
    failures: dict[str, str] = {}
    for outcome in progress(outcomes, PROGRAM, len(cases)) if ranks.first else outcomes:
        rows += outcome.rows
        if outcome.failure is not None:
            failures[outcome.case] = in_options(outcome.failure)
        if ranks.first:
            _tell_of(outcome)
    # The first one tells of failures: torchrun ends all processes as soon as one of them fails.
    if ranks.first:
        _conclude(options, rows, failures, len(cases))


def _conclude(options: argparse.Namespace, rows: Sequence[Any], failures: dict[str, str], count: int) -> None:
    """Print a table and write the report of so many cases.

    Raises:
        DeepEditError: if some of them failed, after the others are reported.
    """
    from deepedit.evaluation import summarise
    from deepedit_cli.evaluation_report import table, write_report

    if not rows:
        raise DeepEditError(f"none of the {count} cases could be evaluated, as said above")
    summary = summarise(rows)
    say(f"\n{table(summary, options.tolerance)}\n")
    settings = {**_settings(options), "failures": failures}
    written, undrawn = write_report(options.output, rows, summary, settings)
    say(f"wrote {', '.join(written)} to {one_line(options.output)}")
    if undrawn is not None:
        say(f"no report.png: {undrawn}")
    if failures:
        raise DeepEditError(f"{len(failures)} of {count} cases are left out, as said above")


def _tell_of(outcome: Any) -> None:
    from deepedit.evaluation import summarise

    for note in outcome.notes:
        complain(PROGRAM, f"note: {note}")
    if outcome.failure is not None:
        complain(PROGRAM, f"{one_line(outcome.case)} is left out: {outcome.failure}")
    else:
        say(f"{one_line(outcome.case)}: {_in_brief(summarise(outcome.rows).mean)}")


def command_line() -> Parser:
    made = parser(PROGRAM, DESCRIPTION, EXAMPLES)
    files = made.add_argument_group("input and output")
    add_shared(files, "--model")
    files.add_argument("--input", type=Path, required=True, metavar="FOLDER", help="dataset: imagesTr and labelsTr")
    files.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="for the report; made if needed")
    add_shared(files, "--overwrite")

    add_reading(made.add_argument_group("reading of images"))

    cases = made.add_argument_group("cases")
    cases.add_argument(
        "--cases",
        choices=("validation", "all"),
        default="validation",
        help="validation: cases that the model was not trained on; all: training cases, too (default: %(default)s)",
    )
    add_shared(cases, "--limit", help="use only the first N of these cases")

    clicks = made.add_argument_group("clicks")
    add_shared(
        clicks,
        "--max-clicks",
        help=f"clicks for each case (default: {MAX_CLICKS}, or as many as --max-clicks-per-label allows)",
    )
    clicks.add_argument(
        "--max-clicks-per-label",
        type=count,
        metavar="N",
        help="of them at most N for each label; a click for background counts for the label that it removes",
    )

    initial = made.add_argument_group("initial segmentation")
    start = initial.add_mutually_exclusive_group()
    start.add_argument(
        "--initial-segmentation", type=_folder, metavar="FOLDER", help="segmentations to correct, named as the cases"
    )
    start.add_argument(
        "--corrupt", type=_corruption, metavar="LOW,HIGH", help="correct the truth with errors, at such a mean Dice"
    )
    add_shared(initial, "--map", "--same-grid")
    add_shared(initial, "--seed", default=0, help="seed of --corrupt (default: %(default)s)")

    measures = made.add_argument_group("measures")
    measures.add_argument(
        "--tolerance",
        type=positive,
        default=TOLERANCE,
        metavar="MM",
        help="tolerance of the surface distance (default: %(default)g)",
    )
    measures.add_argument(
        "--oracle",
        action="store_true",
        help="compare with clicks that each repair the whole error that they stand in: which share of what these gain "
        "in Dice do the model's clicks gain?",
    )

    add_shared(made.add_argument_group("speed and memory"), "--device", "--amp", "--overlap", "--skip-air", "--tta")
    return made


def _folder(text: str) -> Path:
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is not a folder")
    return Path(text)


def _corruption(text: str) -> Any:
    from deepedit.evaluation import Corruption

    try:
        lowest, highest = (float(part) for part in text.split(","))
        return Corruption(lowest, highest)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a range of Dice within 0 to 1, as 0.60,0.75") from error


def _in_brief(curve: Any) -> str:
    last = len(curve.dice) - 1
    parts = [f"Dice {curve.dice[0]:.3f}"]
    if last:
        parts.append(f"after {last} clicks {curve.dice[last]:.3f}")
    if last and curve.repaired is not None:
        share = curve.repaired[last]
        parts.append("nothing to repair" if share is None else f"repaired share {share:.0%}")
    return ", ".join(parts)


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    """The settings of the evaluation, fit for JSON."""
    corrupt = options.corrupt
    return {
        "version": __version__,
        "model": str(options.model),
        "dataset": str(options.input),
        "chosen_cases": options.cases,
        "limit": options.limit,
        "initial_segmentation": str(options.initial_segmentation) if options.initial_segmentation else None,
        "corrupt": [corrupt.lowest, corrupt.highest] if corrupt else None,
        "seed": options.seed,
        "max_clicks_per_label": options.max_clicks_per_label,
        "oracle": options.oracle,
        "tolerance": options.tolerance,
        "device": options.device,
        "amp": options.amp,
        "overlap": options.overlap,
        "skip_air": options.skip_air,
        "tta": options.tta,
        "map": dict(options.map),
        "same_grid": options.same_grid,
        "affine": options.affine,
        "units": options.units,
    }


if __name__ == "__main__":
    sys.exit(main())
