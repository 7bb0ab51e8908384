"""The cases to train on in a folder of studies as annotators leave it, whose layout `studies_folder` knows."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from deepedit.errors import DatasetError
from deepedit.files import one_line
from deepedit.io.dataset_checks import CaseReport, check_cases, grouped_notes
from deepedit.io.dataset_json import IGNORE, check_label, read_description
from deepedit.io.left_out import some
from deepedit.io.msd import Dataset
from deepedit.io.pairing import Case
from deepedit.io.segment_names import called_otherwise, contradicting_names
from deepedit.io.studies_folder import DATASET_LABELS, FINAL, LABELS, read_studies_folder
from deepedit.plan import Labels
from deepedit.volume import DEFAULT_READING, Reading


def list_studies(folder: Path, image_channels: int | None = None) -> tuple[tuple[Case, ...], tuple[str, ...]]:
    """All cases of a folder of studies, by the names of its files alone; no file is opened.

    Args:
        image_channels: number of channels of the model, as for `find_images`.

    Returns:
        The cases in the order of their names, `label` None where nobody has approved a label map yet; and one line
        each about what is left out.

    Raises:
        DatasetError: if the folder is missing or cannot be listed.
    """
    found = read_studies_folder(Path(folder), image_channels)
    cases = (replace(case, label=found.label(name, FINAL)) for name, case in found.cases.items())
    return tuple(sorted(cases, key=lambda case: case.name)), found.notes


def find_labelled_studies(
    folder: Path,
    labels: Mapping[str, int],
    reading: Reading = DEFAULT_READING,
    image_channels: int = 1,
    earlier: Sequence[Case] = (),
) -> Dataset:
    """Find and check the cases of a folder of studies that have a label map, to train on them.

    A case that cannot be used costs nothing but that case: it is left out, and a warning of the dataset tells why.

    Args:
        labels: names to file values of the model to train, and of the value to ignore, as for `find_dataset`.
        reading: what is believed of headers that contradict themselves.
        image_channels: number of channels of every image.
        earlier: cases from elsewhere to train on as well, as far as their files are still there.

    Raises:
        DatasetError: if the folder cannot be listed, a label is none, or no case with foreground can be used.
        FileError: if ``dataset.json`` cannot be opened.
    """
    folder = Path(folder)
    if problem := next((problem for item in labels.items() if (problem := check_label(*item))), None):
        raise DatasetError(f"`labels`: {problem}")
    cases, lines = list_studies(folder, image_channels)
    warnings = list(lines)
    foreground = {name: value for name, value in labels.items() if value != 0 and name != IGNORE}
    labelled = _labelled(folder, cases, foreground, warnings)
    found = [*labelled, *_still_there(labelled, earlier, warnings)]
    reports = check_cases(folder, [(case.image, case.label_file) for case in found], reading)
    usable: list[Case] = []
    good: list[CaseReport] = []
    for case, report in zip(found, reports, strict=True):
        names = {value: report.names[value] for value in report.values or () if value in report.names}
        others = [f"{clause}; rename the segment" for clause in called_otherwise(names, foreground)]
        reasons = report.problems + contradicting_names([case], [report], labels) + others
        reason = reasons[0] if reasons else None
        if reason is None and report.values and set(labels.values()).isdisjoint(report.values):
            listed = ", ".join(map(str, sorted(report.values)[:5]))
            reason = f"has {listed}, and none of the values of {', '.join(map(one_line, foreground))}"
        if reason is None and report.channels != image_channels:
            reason = f"its image has {report.channels} channels where the model expects {image_channels}"
        if reason is not None:
            warnings.append(f"{one_line(case.name)} is left out: {reason}")
        else:
            usable.append(case)
            good.append(report)
    values = {value for report in good for value in report.values or ()}
    if values.isdisjoint(foreground.values()):
        why = f"; {'; '.join(warnings[:3])}" if warnings else ""
        raise DatasetError(
            f"{one_line(folder)}: no case with a label map of {', '.join(map(one_line, foreground))} can be used; "
            f"submit some, or put them into {LABELS}/{FINAL}{why}"
        )
    warnings += grouped_notes(good) + _about_values(usable, good, labels, foreground)
    ordered = tuple(sorted(usable, key=lambda case: case.name))
    chosen = Labels.from_mapping(foreground)
    return Dataset(folder, ordered, chosen, None, image_channels, tuple(warnings), labels.get(IGNORE))


def _labelled(folder: Path, cases: Sequence[Case], labels: Mapping[str, int], warnings: list[str]) -> list[Case]:
    """The cases with a label map whose values mean what they mean in the model."""
    described = read_description(folder).labels or {}
    names = {value: name for name, value in labels.items()}
    other = [
        f"{name}={value}"
        for name, value in described.items()
        if labels.get(name, value) != value or names.get(value, name) != name
    ]
    labelled = [case for case in cases if case.label is not None]
    if len(labelled) < len(cases):
        warnings.append(f"{len(cases) - len(labelled)} of {len(cases)} cases have no label map to train on; left out")
    if other:
        trusted = [case for case in labelled if case.label_file.parent != folder / DATASET_LABELS]
        if len(trusted) < len(labelled):
            warnings.append(
                f"{DATASET_LABELS}: left out, as dataset.json says {', '.join(map(one_line, other[:5]))}, and the "
                f"model {', '.join(f'{one_line(name)}={value}' for name, value in list(labels.items())[:5])}"
            )
        labelled = trusted
    return labelled


def _still_there(labelled: Sequence[Case], earlier: Sequence[Case], warnings: list[str]) -> list[Case]:
    """The cases from elsewhere whose files are there, and whose names are not those of cases of the folder."""
    images = {case.name: _real_paths(case) for case in labelled}
    there: list[Case] = []
    namesakes: list[str] = []
    gone: list[Path] = []
    for case in earlier:
        missing = [path for path in (*case.image, case.label_file) if not os.path.exists(path)]
        if case.name not in images:
            gone += missing[:1]
            there += [] if missing else [case]
        elif images[case.name] != _real_paths(case):
            namesakes.append(case.name)
    if namesakes:
        warnings.append(f"left out of the earlier training, as other studies have their names: {some(namesakes)}")
    if gone:
        warnings.append(
            f"{len(gone)} of {len(earlier)} cases of the earlier training are gone, such as {one_line(gone[0])}; "
            "left out"
        )
    return there


def _about_values(
    cases: Sequence[Case], reports: Sequence[CaseReport], labels: Mapping[str, int], foreground: Mapping[str, int]
) -> list[str]:
    """Notes on values that are no label, labels that are in no file, and files without foreground."""
    known = set(labels.values())
    strange = [
        (case, [value for value in report.values or () if value not in known])
        for case, report in zip(cases, reports, strict=True)
        if not known.issuperset(report.values or ())
    ]
    notes = []
    if strange:
        case, values = strange[0]
        more = f" (and {len(strange) - 1} more likewise)" if len(strange) > 1 else ""
        notes.append(
            f"{one_line(case.label_file.name)}: {', '.join(map(str, values[:5]))} is no value of a label; it becomes "
            f"background{more}"
        )
    present = {value for report in reports for value in report.values or ()}
    notes += [
        f"no label map has the value {value} of {name}" for name, value in foreground.items() if value not in present
    ]
    empty = [
        case.name
        for case, report in zip(cases, reports, strict=True)
        if set(foreground.values()).isdisjoint(report.values or ())
    ]
    if empty:
        notes.append(f"{some(empty)}: without foreground")
    return notes


def _real_paths(case: Case) -> list[str]:
    return [os.path.realpath(path) for path in case.image]
