"""``deepedit-evaluate``: Dice and surface distance against the number of clicks, over the cases of a dataset."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from deepedit.errors import DatasetError, DeepEditError
from deepedit.files import make_folder, one_line
from deepedit_cli.common import (
    add_common,
    add_reading,
    add_start,
    add_tta,
    chosen_mapping,
    chosen_reading,
    complain,
    count,
    parser,
    positive,
    positive_int,
    progress,
    refuse_existing,
    run,
    say,
)

PROGRAM = "deepedit-evaluate"
DESCRIPTION = """\
Segment the cases of a dataset, let a simulated annotator click the deepest voxel of the largest error, one click at a
time, and measure how much each click improves the result. Everything is measured on the files' own grids.
"""
EXAMPLES = """\
examples:
  deepedit-evaluate --model RUN/model.pt --input DATASET --output report
  deepedit-evaluate --model RUN/model.pt --input DATASET --output report --initial-segmentation OTHER_TOOLS_RESULTS
  deepedit-evaluate --model RUN/model.pt --input DATASET --output report --corrupt 0.60,0.75
      start from the truth with errors added until its mean Dice is in that range; with 1,1 the truth stays perfect,
      and the first click is a redundant one
"""


def main(argv: Sequence[str] | None = None) -> int:
    return run(PROGRAM, evaluate, argv)


def evaluate(argv: Sequence[str] | None) -> None:
    """Evaluate the model that the arguments name, print a table and write the report."""
    options = _parse(argv)
    # Late, so that --help does not wait for torch.
    from deepedit.evaluation import evaluate_dataset, summarise
    from deepedit.io.dataset_json import read_description
    from deepedit.network.checkpoint import load_model
    from deepedit.network.inputs import pick_device
    from deepedit_cli.evaluation_report import FILES, table, write_report

    for name in FILES:
        refuse_existing(options.output / name, options.overwrite)
    model = load_model(options.model, pick_device(options.device))
    model.plan = replace(model.plan, reading=chosen_reading(options, model.plan.reading))
    mapping = chosen_mapping(options, model.plan.labels)
    cases, ignore = choose_cases(options, model), read_description(options.input).ignore
    check_starts(options.initial_segmentation, cases)
    make_folder(options.output)

    rows, failures = [], {}

    def on_failure(case: Any, reason: str) -> None:
        failures[case.name] = reason
        complain(PROGRAM, f"{case.name} is left out: {reason}")

    for case in progress(cases, PROGRAM):
        found = evaluate_dataset(
            model,
            [case],
            options.max_clicks,
            options.corrupt or options.initial_segmentation,
            options.seed,
            tolerance=options.tolerance,
            amp=options.amp,
            tta=options.tta,
            on_failure=on_failure,
            ignore=ignore,
            mapping=mapping,
            same_grid=options.same_grid,
            on_note=lambda note: complain(PROGRAM, f"note: {note}"),
        )
        rows += found
        if found:
            say(f"{case.name}: {_in_brief(summarise(found).mean.dice)}")
    if not rows:
        raise DeepEditError(f"none of the {len(cases)} cases could be evaluated, as said above")
    summary = summarise(rows)
    written = write_report(options.output, rows, summary, {**_settings(options), "failures": failures})
    say(f"\n{table(summary, options.tolerance)}\n")
    say(f"wrote {', '.join(written)} to {options.output}")
    if "report.png" not in written:
        say("no report.png: matplotlib is not installed; pip install deepedit[plot]")
    if failures:
        raise DeepEditError(f"{len(failures)} of {len(cases)} cases are left out, as said above")


def choose_cases(options: argparse.Namespace, model: Any) -> Sequence[Any]:
    """The cases of the dataset to evaluate; messages are printed about cases that are left out.

    Raises:
        DatasetError: if there is no case, or if the dataset's labels are not those of the model.
    """
    from deepedit.io.dataset_json import read_description
    from deepedit.io.left_out import left_out_of_dataset
    from deepedit.io.pairing import check_folder, pair_files, why_no_cases

    check_folder(options.input)
    description = read_description(options.input)
    problems: list[str] = []
    # The files are opened one by one, later: a bad one must not keep the others from being evaluated.
    cases = pair_files(options.input, description, problems, problems)
    problems = [*description.problems, *problems, *left_out_of_dataset(options.input)]
    for problem in problems:
        complain(PROGRAM, problem)
    if not cases:
        reason = "no case is left to evaluate, as said above" if problems else why_no_cases(options.input)
        raise DatasetError(f"{one_line(options.input)}: {reason}")
    check_labels(options.input, description.labels, model.plan.labels)
    chosen = [case for case in cases if options.cases == "all" or case.name not in model.training_cases]
    if not chosen:
        raise DatasetError(
            f"{options.input}: the model was trained on all {len(cases)} cases; evaluate it on others, or, knowing "
            "that it has seen them, with --cases all"
        )
    return chosen[: options.limit]


def check_starts(folder: Path | None, cases: Sequence[Any]) -> None:
    """Print which files in the folder of initial segmentations are not read.

    Raises:
        DatasetError: if the folder has no segmentation of any of the cases.
    """
    from deepedit.io.left_out import left_out
    from deepedit.io.pairing import nifti_files

    if folder is None:
        return
    others = left_out(folder)
    if nifti_files(folder).keys().isdisjoint(case.name for case in cases):
        first = f"{one_line(cases[0].name)}.nii.gz"
        raise DatasetError(
            f"{one_line(folder)}: has no segmentation of any case; name them as the cases, such as {first}"
            + (f"; {others}" if others else "")
        )
    if others:
        complain(PROGRAM, f"note: {one_line(folder)}: {others}")


def check_labels(folder: Path, described: dict[str, int] | None, labels: Any) -> None:
    """Refuse a dataset whose file values have another meaning than those of the model.

    Args:
        described: foreground names and values of the dataset; None if they are not known.
        labels: labels of the model.

    Raises:
        DatasetError: if a label has another value in the dataset, or if the dataset has none of the model's values.
    """
    if described is None:
        return
    ours = dict(zip(labels.names, labels.values, strict=True))
    for name, value in ours.items():
        if described.get(name, value) != value:
            raise DatasetError(
                f"{folder / 'dataset.json'}: {name} is {described[name]}, for the model it is {value}; "
                "give the label files the model's values"
            )
    if not set(ours.values()) & set(described.values()):
        known, theirs = (", ".join(f"{value} {name}" for name, value in each.items()) for each in (ours, described))
        raise DatasetError(f"{folder}: has labels {theirs}, and the model knows {known}; evaluate it on its own labels")


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    options = parser(PROGRAM, DESCRIPTION, EXAMPLES)
    options.add_argument("--model", type=Path, required=True, help="model.pt, as deepedit-train writes it")
    options.add_argument("--input", type=Path, required=True, metavar="DATASET", help="folder: imagesTr and labelsTr")
    options.add_argument(
        "--output", type=Path, required=True, metavar="FOLDER", help="folder for the report; made if needed"
    )
    options.add_argument("--max-clicks", type=count, default=10, metavar="N", help="clicks for each case (default: 10)")
    options.add_argument(
        "--cases",
        choices=("validation", "all"),
        default="validation",
        help="validation (default): cases that the model was not trained on; all: training cases, too",
    )
    options.add_argument("--limit", type=positive_int, metavar="N", help="only the first N of these cases")
    start = options.add_mutually_exclusive_group()
    start.add_argument(
        "--initial-segmentation",
        type=_folder,
        metavar="FOLDER",
        help="start from these, named as the cases",
    )
    start.add_argument(
        "--corrupt",
        type=_corruption,
        metavar="LOW,HIGH",
        help="start from the truth with errors, at such a mean Dice",
    )
    add_start(options)
    options.add_argument(
        "--tolerance",
        type=positive,
        default=2.0,
        metavar="MM",
        help="tolerance of the surface distance (default: 2 mm)",
    )
    options.add_argument("--seed", type=count, default=0, help="seed of --corrupt (default: 0)")
    add_tta(options)
    add_reading(options, "as the model was trained")
    add_common(options)
    return options.parse_args(argv)


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


def _in_brief(dice: Sequence[float]) -> str:
    last = len(dice) - 1
    return f"Dice {dice[0]:.3f}" + (f", after {last} clicks {dice[last]:.3f}" if last else "")


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    """The settings of the evaluation, fit for JSON."""
    corrupt = options.corrupt
    return {
        "version": version("deepedit"),
        "model": str(options.model),
        "dataset": str(options.input),
        "chosen_cases": options.cases,
        "initial_segmentation": str(options.initial_segmentation) if options.initial_segmentation else None,
        "corrupt": [corrupt.lowest, corrupt.highest] if corrupt else None,
        "seed": options.seed,
        "tolerance": options.tolerance,
        "device": options.device,
        "amp": options.amp,
        "tta": options.tta,
        "map": dict(options.map),
        "same_grid": options.same_grid,
        "affine": options.affine,
        "units": options.units,
    }


if __name__ == "__main__":
    sys.exit(main())
