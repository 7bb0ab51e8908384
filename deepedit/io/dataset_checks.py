"""Checks that the files of each case fit together, made before any training starts."""

import itertools
import os
import re
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from deepedit.errors import FileError
from deepedit.files import one_line
from deepedit.io.nifti import Geometry, read_geometry, read_label
from deepedit.io.nifti_affine import farthest
from deepedit.volume import DEFAULT_READING, Reading, Volume

MAX_MISFIT_VOXELS = 0.1
"""Greatest distance of two grids that count as the same: the nearest neighbours of all voxels are far from changing."""

NOTED_MISFIT_VOXELS = 0.01
"""Distance from which on the user is told about two grids that count as the same."""


@dataclass
class CaseReport:
    """What was found in the files of one case.

    Attributes:
        channels: number of channels of the image, over all of its files; 0 if it could not be read.
        values: foreground values in the label file; None if it could not be read.
        problems: one line each; files are named relative to the dataset's folder.
        notes: file and line each, about contradictions in a file that can be read.
    """

    channels: int = 0
    values: tuple[int, ...] | None = None
    problems: list[str] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)


def misfit(one: Geometry | Volume, other: Geometry | Volume) -> str | None:
    """How two grids differ: in shape, or by more than a tenth of a voxel anywhere; None if they do not.

    If a header states two affines that contradict each other, the grids need to agree by one of them only, since other
    programs may have used the other one.
    """
    if one.shape != other.shape:
        return f"shape {' x '.join(map(str, one.shape))} against {' x '.join(map(str, other.shape))}"
    distance = distance_of_grids(one, other)
    # A negation, so that NaN counts as a misfit too.
    return None if distance <= MAX_MISFIT_VOXELS else f"affines differ by up to {distance:.3g} voxels"


def distance_of_grids(one: Geometry | Volume, other: Geometry | Volume) -> float:
    """Greatest distance in voxels between two grids of one shape, by those of their affines that agree best."""
    pairs = itertools.product((one.affine, *one.other_affines), (other.affine, *other.other_affines))
    return min(farthest(first, second, one.shape) for first, second in pairs)


def near_misfit(one: Geometry | Volume, other: Geometry | Volume) -> str | None:
    """A note on two grids that count as the same but are more than a hundredth of a voxel apart; else None."""
    if one.shape != other.shape:
        return None
    distance = distance_of_grids(one, other)
    return nearly_there(distance) if NOTED_MISFIT_VOXELS < distance <= MAX_MISFIT_VOXELS else None


def nearly_there(distance: float) -> str:
    """A note on a file whose grid is a small distance, in voxels, from that of another file."""
    return f"lies up to {distance:.2g} voxels off its image; it is taken voxel by voxel"


def check_cases(
    folder: Path,
    cases: Sequence[tuple[tuple[Path, ...], Path]],
    reading: Reading = DEFAULT_READING,
) -> list[CaseReport]:
    """A report for each pair of image files and label file, in order."""
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        return list(pool.map(lambda pair: _check_case(folder, *pair, reading), cases))


def _check_case(folder: Path, images: tuple[Path, ...], label: Path, reading: Reading) -> CaseReport:
    report = CaseReport()
    grids = []
    for path in images:
        try:
            grids.append((path, read_geometry(path, reading.affine, reading.units)))
        except FileError as error:
            report.problems.append(from_folder(folder, str(error)))
    if len(grids) == len(images):
        report.channels = sum(grid.channels for _, grid in grids)
    try:
        volume = read_label(label, reading.affine, reading.units)
        report.values = _foreground_values(volume.data)
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


def _foreground_values(labels: np.ndarray) -> tuple[int, ...]:
    """The distinct values above 0."""
    largest = int(labels.max())
    if largest > 2**16:
        return tuple(int(value) for value in np.unique(labels) if value)
    present = np.zeros(largest + 1, dtype=bool)
    for index in range(labels.shape[-1]):  # by slices: numpy widens an index to eight bytes a voxel
        present[labels[..., index]] = True
    return tuple(int(value) for value in np.flatnonzero(present) if value)


def usual_channels(reports: Sequence[CaseReport]) -> int:
    """The number of channels that most of the cases have; 1 if no case could be read."""
    counts = Counter(report.channels for report in reports if report.channels)
    return counts.most_common(1)[0][0] if counts else 1
