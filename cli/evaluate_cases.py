"""Which cases ``deepedit-evaluate`` evaluates, and whether what the arguments name fits together."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from deepedit.errors import DatasetError
from deepedit.files import one_line
from deepedit.io.dataset_json import read_description
from deepedit.io.left_out import left_out, left_out_of_dataset
from deepedit.io.pairing import Case, check_folder, pair_files, volume_files, why_no_cases
from deepedit.io.suffixes import LABELS
from deepedit.network.checkpoint import Model
from deepedit.plan import Labels


def choose_cases(
    options: argparse.Namespace, model: Model, tell: Callable[[str], None], note: Callable[[str], None]
) -> Sequence[Case]:
    """The cases of the dataset to evaluate; messages are told about cases that are left out.

    Raises:
        DatasetError: if there is no case, or if the dataset's labels are not those of the model.
    """
    check_folder(options.input)
    description = read_description(options.input)
    problems: list[str] = []
    # The files are opened one by one, later: a bad one must not keep the others from being evaluated.
    cases = pair_files(options.input, description, problems, problems)
    unread = [problem.partition("; ")[0] for problem in description.label_problems]  # how to train on it is left out
    problems = [
        *description.problems,
        *(f"{problem}; its labels are not compared with the model's" for problem in unread),
        *problems,
        *left_out_of_dataset(options.input),
    ]
    for problem in problems:
        tell(problem)
    if not cases:
        reason = "no case is left to evaluate, as said above" if problems else why_no_cases(options.input)
        raise DatasetError(f"{one_line(options.input)}: {reason}")
    check_labels(options.input, description.labels, model.plan.labels, tell)
    if description.ignore is None and model.plan.ignore in (description.labels or {}).values():
        tell(
            f"note: {one_line(options.input / 'dataset.json')}: voxels of the value {model.plan.ignore} are left out "
            "of Dice, as in the training of the model"
        )
    chosen = [case for case in cases if options.cases == "all" or case.name not in model.seen_cases]
    if not chosen:
        raise DatasetError(
            f"{options.input}: the model was trained on all {len(cases)} cases; evaluate it on others, or, knowing "
            "that it has seen them, with --cases all"
        )
    if seen := len(cases) - len(chosen):
        note(
            f"note: {one_line(options.input)}: left out {seen} of {len(cases)} cases, which have the names of cases "
            "that the model was trained on; --cases all evaluates them, too"
        )
    return chosen[: options.limit]


def check_starts(folder: Path | None, cases: Sequence[Case], tell: Callable[[str], None]) -> None:
    """Tell which files in the folder of initial segmentations are not read.

    Raises:
        DatasetError: if the folder has no segmentation of any of the cases.
    """
    if folder is None:
        return
    others = left_out(folder, LABELS)
    if volume_files(folder, LABELS).keys().isdisjoint(case.name for case in cases):
        first = f"{one_line(cases[0].name)}.nii.gz"
        raise DatasetError(
            f"{one_line(folder)}: has no segmentation of any case; name them as the cases, such as {first}"
            + (f"; {others}" if others else "")
        )
    if others:
        tell(f"note: {one_line(folder)}: {others}")


def check_labels(folder: Path, described: dict[str, int] | None, labels: Labels, tell: Callable[[str], None]) -> None:
    """Refuse a dataset whose file values have another meaning than those of the model.

    Args:
        described: foreground names and values of the dataset; None if they are not known.
        labels: labels of the model.
        tell: called with a line about values that only have another name.

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
    called = {value: name for name, value in described.items()}
    for name, value in ours.items():
        if called.get(value, name) != name:
            tell(
                f"note: {one_line(folder / 'dataset.json')}: {value} is {one_line(called[value], 60)}, for the model "
                f"it is {one_line(name, 60)}; both are taken for the same"
            )
