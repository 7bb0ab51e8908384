"""Checks that the files of each case fit together, made before any training starts."""

import os
import re
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from deepedit.errors import FileError
from deepedit.files import one_line
from deepedit.io.grids import misfit, near_misfit
from deepedit.io.nifti_header import Geometry
from deepedit.io.values import foreground_values
from deepedit.io.volumes import read_geometry, read_label, read_label_on
from deepedit.volume import DEFAULT_READING, Reading, Volume


@dataclass
class CaseReport:
    """What was found in the files of one case.

    Attributes:
        channels: number of channels of the image, over all of its files; 0 if it could not be read.
        values: foreground values in the label file; None if it could not be read.
        names: those that the label file gives to values, as segmentations of 3D Slicer do.
        problems: one line each; files are named relative to the dataset's folder.
        notes: file and line each, about contradictions in a file that can be read.
    """

    channels: int = 0
    values: tuple[int, ...] | None = None
    names: dict[int, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)


def check_cases(
    folder: Path,
    cases: Sequence[tuple[tuple[Path, ...], Path]],
    reading: Reading = DEFAULT_READING,
) -> list[CaseReport]:
    """A report for each pair of image files and label file, in order."""
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        return list(pool.map(lambda pair: _check_case(folder, pair[0], pair[1], reading), cases))


def _check_case(folder: Path, images: tuple[Path, ...], label: Path, reading: Reading) -> CaseReport:
    report = CaseReport()
    grids: list[tuple[Path, Geometry | Volume]] = []
    for path in images:
        try:
            grids.append((path, read_geometry(path, reading.affine, reading.units)))
        except FileError as error:
            report.problems.append(from_folder(folder, str(error)))
    if len(grids) == len(images):
        report.channels = sum(grid.channels for _, grid in grids)
    try:
        volume = (
            read_label_on(grids[0][1], label, reading) if grids else read_label(label, reading.affine, reading.units)
        )
        report.values, report.names = foreground_values(volume.data), dict(volume.names)
        grids.append((label, volume))
    except FileError as error:
        report.problems.append(from_folder(folder, str(error)))
    for path, grid in grids:
        report.notes += [(from_folder(folder, one_line(path)), note) for note in grid.notes]
    for path, grid in grids[1:]:
        if nearly := near_misfit(grids[0][1], grid):
            report.notes.append((from_folder(folder, one_line(path)), nearly))
        difference = misfit(grids[0][1], grid)
        if difference:
            first = from_folder(folder, one_line(grids[0][0]))
            report.problems.append(
                f"{from_folder(folder, one_line(path))} does not lie on the grid of {first}: {difference}; "
                "resample one onto the other or export them again"
            )
    return report


def grouped_notes(reports: Sequence[CaseReport]) -> list[str]:
    """The notes of all cases, those that differ in a number only joined into one line."""
    groups: dict[str, list[str]] = {}
    for report in reports:
        for path, note in report.notes:
            groups.setdefault(re.sub(r"[0-9.]+", "#", note), []).append(f"{path}: {note}")
    return [
        lines[0] + (f" (and {len(lines) - 1} other file{'s' * (len(lines) > 2)} likewise)" if len(lines) > 1 else "")
        for lines in groups.values()
    ]


def from_folder(folder: Path, message: str) -> str:
    """A message, with its file named relative to the dataset's folder."""
    return message.removeprefix(one_line(folder) + os.sep)


def usual_channels(reports: Sequence[CaseReport]) -> int:
    """The number of channels that most of the cases have; 1 if no case could be read."""
    counts = Counter(report.channels for report in reports if report.channels)
    return counts.most_common(1)[0][0] if counts else 1
