"""Whether the files of a case fit together: read once, side by side, before any training starts."""

import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from deepedit.errors import FileError
from deepedit.files import one_line
from deepedit.io.nifti import Geometry, read_geometry, read_label

MAX_MISFIT_VOXELS = 0.01


@dataclass
class CaseReport:
    """What was found in the files of one case.

    Attributes:
        channels: of the image, over all of its files; 0 if it could not be read.
        values: foreground values in the label file; None if it could not be read.
        problems: one line each, files named from the dataset's folder on.
    """

    channels: int = 0
    values: tuple[int, ...] | None = None
    problems: list[str] = field(default_factory=list)


def misfit(one: Geometry, other: Geometry) -> str | None:
    """How two grids differ: in shape, or by more than a hundredth of a voxel anywhere; None if they do not."""
    if one.shape != other.shape:
        return f"shape {' x '.join(map(str, one.shape))} against {' x '.join(map(str, other.shape))}"
    # The difference of two affine maps is largest at a corner of the volume.
    corners = np.array(np.meshgrid(*[(0, side - 1) for side in one.shape], [1.0])).reshape(4, -1)
    moved = np.linalg.solve(one.affine, other.affine @ corners)
    distance = float(np.abs(moved - corners)[:3].max())
    # A negation, so that NaN counts as a misfit too.
    return None if distance <= MAX_MISFIT_VOXELS else f"affines differ by up to {distance:.3g} voxels"


def check_cases(folder: Path, cases: Sequence[tuple[tuple[Path, ...], Path]]) -> list[CaseReport]:
    """A report for each pair of image files and label file, in order."""
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        return list(pool.map(lambda pair: _check_case(folder, *pair), cases))


def _check_case(folder: Path, images: tuple[Path, ...], label: Path) -> CaseReport:
    report = CaseReport()
    grids = []
    for path in images:
        try:
            grids.append((path, read_geometry(path)))
        except FileError as error:
            report.problems.append(_from_folder(folder, str(error)))
    if len(grids) == len(images):
        report.channels = sum(grid.channels for _, grid in grids)
    try:
        volume = read_label(label)
        report.values = _foreground_values(volume.data)
        grids.append((label, Geometry(volume.shape, volume.affine, 1)))
    except FileError as error:
        report.problems.append(_from_folder(folder, str(error)))
    for path, grid in grids[1:]:
        difference = misfit(grids[0][1], grid)
        if difference:
            first = _from_folder(folder, one_line(grids[0][0]))
            report.problems.append(
                f"{_from_folder(folder, one_line(path))} does not lie on the grid of {first}: {difference}; "
                "resample one onto the other or export them again"
            )
    return report


def _from_folder(folder: Path, message: str) -> str:
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
    """The number of channels that most of the cases have; 1 where none could be read."""
    counts = Counter(report.channels for report in reports if report.channels)
    return counts.most_common(1)[0][0] if counts else 1
