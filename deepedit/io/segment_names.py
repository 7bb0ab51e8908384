"""What the segments of label files are called, held against each other and against the labels of the dataset.

3D Slicer numbers the segments of each file by itself, so that one value may stand for two structures in two files.
"""

from collections.abc import Mapping, Sequence

from deepedit.files import one_line
from deepedit.io.dataset_checks import CaseReport
from deepedit.io.dataset_json import check_label
from deepedit.io.pairing import Case

MEND = "give each segment the same value in all files"


def shared_names(reports: Sequence[CaseReport]) -> dict[int, str]:
    """The names of the values that some label files name, and none otherwise."""
    names: dict[int, str] = {}
    for report in reports:
        for value in report.values or ():
            if value in report.names and check_label(report.names[value], value) is None:
                names.setdefault(value, report.names[value])
    twice = {name for name in names.values() if list(names.values()).count(name) > 1}
    return {value: name for value, name in names.items() if name not in twice}


def called_otherwise(names: Mapping[int, str], labels: Mapping[str, int]) -> list[str]:
    """For each value of a label that a file calls by another name, a clause that says so.

    Args:
        names: names of values in the file.
        labels: names and values of the labels.
    """
    return [
        f"{value} is {one_line(names[value], 60)}, and here it is {one_line(label, 60)}"
        for label, value in labels.items()
        if value in names and names[value].casefold() != label.casefold()
    ]


def contradicting_names(cases: Sequence[Case], reports: Sequence[CaseReport], labels: Mapping[str, int]) -> list[str]:
    """A problem for each segment that has a label's name and not its value, or the value of another segment's name."""
    problems = []
    first: dict[int, tuple[str, str]] = {}
    for case, report in zip(cases, reports, strict=True):
        place = f"{one_line(case.label_file.parent.name)}/{one_line(case.label_file.name)}"
        for value in report.values or ():
            name = report.names.get(value)
            if name is None:
                continue
            called = f"{place}: its segment {one_line(name, 60)} has the value {value}"
            known, where = first.setdefault(value, (name, place))
            if labels.get(name, value) != value:
                problems.append(f"{called}, and {one_line(name, 60)} is {labels[name]}; {MEND}")
            elif known.casefold() != name.casefold():
                problems.append(f"{called}, which {where} calls {one_line(known, 60)}; {MEND}")
    return problems
