"""The slices of a DICOM series: found in a folder, held against each other, and put in order on one grid.

A series has no header of its own. What its slices say of themselves is checked here, so that a grid is either right or
refused: slices that are missing, doubled, turned, shifted, of another size or of another series.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median_low

import numpy as np

from deepedit.errors import FileError
from deepedit.files import one_line
from deepedit.io.dicom_header import AGAIN, SliceHeader, is_dicom, read_header
from deepedit.io.dicom_slice import Slice, checked_slice, holds_slice
from deepedit.io.grids import MAX_MISFIT_VOXELS, NOTED_MISFIT_VOXELS
from deepedit.io.nifti_affine import check_affine
from deepedit.io.nifti_header import Geometry
from deepedit.io.suffixes import IMAGES, ending

LOOKED_AT = 32
"""Most files of a folder that are opened to find out whether it holds a series."""

SAME_PLACE_MM = 1e-3
SHOWN = 8
GAP = 1.9
"""Distance of the slices, in their thickness, from which on a note asks whether some are missing."""

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # to RAS


@dataclass(frozen=True)
class Series:
    """A series whose slices fit together.

    Attributes:
        slices: in the order of the last axis.
        geometry: of the whole.
    """

    slices: tuple[SliceHeader, ...]
    geometry: Geometry


def is_series(path: str | os.PathLike) -> bool:
    """Whether a path is a folder of DICOM files, and not one of images in other formats.

    Only the first files are opened, and hidden ones are not.
    """
    try:
        names = _visible(path)
    except (OSError, ValueError):
        return False
    if any(ending(name, IMAGES) for name in names):
        return False
    return any(is_dicom(os.path.join(path, name)) for name in names[:LOOKED_AT])


def find_series(folder: str | os.PathLike, series: str | None = None) -> Series:
    """The series in a folder; only headers are read.

    Args:
        series: SeriesInstanceUID of the one to take, where there are several.

    Raises:
        FileError: if there is none, or are several and none is chosen, or if its slices do not make one grid.
    """
    name = one_line(folder)
    headers, notes = _headers(Path(folder), name)
    chosen = _chosen(headers, series, name)
    slices, more = _without_localizers([checked_slice(header) for header in chosen])
    notes += more
    _check_alike(slices, name)
    slices, more = _in_order(slices, name)
    notes += more
    affine, more = _affine(slices, name)
    notes += more
    if any(each.header.lossy == "01" for each in slices):
        notes.append("its voxels were compressed with loss")
    shape = (slices[0].header.columns, slices[0].header.rows, len(slices))
    affine = LPS @ affine
    check_affine(affine, name)
    return Series(tuple(each.header for each in slices), Geometry(shape, affine, 1, notes=tuple(notes)))


def _visible(folder: str | os.PathLike) -> list[str]:
    """The names of the files of a folder, without hidden ones and folders."""
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if not entry.name.startswith(".") and entry.is_file())


def _headers(folder: Path, name: str) -> tuple[list[SliceHeader], list[str]]:
    """The headers of all files that hold slices, and notes on the others."""
    try:
        paths = [folder / each for each in _visible(folder)]
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise FileError(f"{name}: cannot be listed: {one_line(reason, 80)}") from error
    files = [path for path in paths if is_dicom(path)]
    headers = [header for header in map(read_header, files) if holds_slice(header)]
    if not headers:
        raise FileError(f"{name}: holds no slices of a DICOM series; give the folder that they lie in")
    notes = []
    if others := len(paths) - len(files):
        notes.append(f"{_count(others, 'file')} in it {'is' if others == 1 else 'are'} not DICOM and left out")
    if without := len(files) - len(headers):
        notes.append(f"{_count(without, 'DICOM file')} in it {'holds' if without == 1 else 'hold'} no slice; left out")
    return headers, notes


def _chosen(headers: Sequence[SliceHeader], series: str | None, name: str) -> list[SliceHeader]:
    """The headers of the one series, or of the one that is asked for."""
    found: dict[str | None, list[SliceHeader]] = {}
    for header in headers:
        found.setdefault(header.series, []).append(header)
    if None in found:
        raise FileError(f"{one_line(found[None][0].path)}: does not say which series it is of; {AGAIN}")
    if series is None and len(found) == 1:
        return headers
    if series in found:
        return found[series]
    listed = ", ".join(f"{one_line(uid, 70)} ({_described(each)})" for uid, each in list(found.items())[:SHOWN])
    listed += f" and {len(found) - SHOWN} more" * (len(found) > SHOWN)
    if series is not None:
        raise FileError(f"{name}: has no series {one_line(series, 70)}; it holds {listed}")
    raise FileError(
        f"{name}: holds {len(found)} series: {listed}; choose one by its UID with `series`, or give each a folder"
    )


def _described(headers: Sequence[SliceHeader]) -> str:
    first = headers[0]
    number = f"series {one_line(first.series_number, 12)}, " if first.series_number else ""
    modality = f"{one_line(first.modality, 16)}, " if first.modality else ""
    return f"{number}{modality}{_count(len(headers), 'file')} of {first.columns} x {first.rows}"


def _without_localizers(slices: list[Slice]) -> tuple[list[Slice], list[str]]:
    kept = [each for each in slices if not each.is_localizer]
    if not kept or len(kept) == len(slices):
        return slices, []
    return kept, [f"{_count(len(slices) - len(kept), 'localizer')} among its slices left out"]


def _check_alike(slices: Sequence[Slice], name: str) -> None:
    """Refuse slices of several sizes, orientations, voxel sizes or frames of reference."""
    first = slices[0]
    for what, values in (
        ("sizes", {(each.header.columns, each.header.rows) for each in slices}),
        ("frames of reference", {each.header.frame_of_reference for each in slices}),
    ):
        if len(values) > 1:
            raise FileError(f"{name}: its slices are of {len(values)} {what}; give each kind a folder of its own")
    sides = np.array([first.header.columns - 1, first.header.rows - 1])
    for what, of_slice in (("sizes of pixels", lambda each: each.spacing), ("orientations", lambda each: each.axes)):
        kinds: list[Slice] = []
        for each in slices:
            # How far the last pixel of a slice would be misplaced, in pixels.
            moved = (np.abs((of_slice(each) - of_slice(kind)) * sides).max() / min(first.spacing) for kind in kinds)
            if not any(distance <= MAX_MISFIT_VOXELS for distance in moved):
                kinds.append(each)
            if len(kinds) > 20:
                break
        if len(kinds) > 1:
            several = len(kinds) if len(kinds) <= 20 else "many"
            raise FileError(f"{name}: its slices are of {several} {what}; give each kind a folder of its own")


def _in_order(slices: list[Slice], name: str) -> tuple[list[Slice], list[str]]:
    """The slices along their normal, as ITK orders them, without copies; and a note on these."""
    normal = slices[0].normal
    slices = sorted(slices, key=lambda each: (float(each.origin @ normal), each.header.path.name))
    kept, copies, crowded = [slices[0]], 0, set()
    for each in slices[1:]:
        if (each.origin - kept[-1].origin) @ normal > SAME_PLACE_MM:
            kept.append(each)
        elif each.header.instance is not None and each.header.instance == kept[-1].header.instance:
            _check_copy(kept[-1].header.path, each.header.path)
            copies += 1
        else:
            crowded.add(len(kept))
    if crowded:
        raise FileError(
            f"{name}: several images lie at one place ({len(crowded)} of {len(kept)} places), as of several times, "
            "echoes or reconstructions; give each set of slices a folder of its own"
        )
    return kept, [f"{_count(copies, 'file')} in it {'is a copy' if copies == 1 else 'are copies'}"] if copies else []


def _check_copy(one: Path, other: Path) -> None:
    """Refuse two files that are called the same image and are not."""
    try:
        same = one.read_bytes() == other.read_bytes()
    except OSError as error:
        raise FileError(f"{one_line(other)}: cannot be read: {error.strerror}") from error
    if not same:
        raise FileError(f"{one_line(other)}: is the same image as {one_line(one.name)}, and yet another one; keep one")


def _affine(slices: Sequence[Slice], name: str) -> tuple[np.ndarray, list[str]]:
    """``[4, 4]``, from column, row and slice to LPS mm, and notes.

    Raises:
        FileError: if no affine puts all slices where they say that they are.
    """
    first, count = slices[0], len(slices)
    origins = np.array([each.origin for each in slices])
    affine = np.eye(4)
    affine[:3, :2], affine[:3, 3] = first.axes, first.origin
    if count == 1:
        affine[:3, 2] = first.normal * _thickness(first, name)
        return affine, [f"it is one slice, taken to be {np.linalg.norm(affine[:3, 2]):g} mm thick"]
    affine[:3, 2] = (origins[-1] - origins[0]) / (count - 1)
    places = np.linalg.solve(affine[:3, :3], (origins - origins[0]).T).T
    places[:, 2] -= np.arange(count)
    if not np.abs(places).max() <= MAX_MISFIT_VOXELS:
        raise FileError(f"{name}: {_why_uneven(origins @ first.normal, places)}")
    sides = np.array([first.header.columns - 1, first.header.rows - 1])
    turned = [np.linalg.solve(affine[:3, :3], (each.axes - first.axes) * sides).sum(axis=1) for each in slices]
    away = max(np.abs(places).max(), np.abs(places + turned).max())
    return affine, _notes(first, affine, away)


def _thickness(one: Slice, name: str) -> float:
    for said in (one.header.spacing_between_slices, one.header.slice_thickness):
        thickness = _positive(said)
        if thickness:
            return thickness
    raise FileError(f"{name}: is one slice that does not say how thick it is; give the whole series")


def _why_uneven(heights: np.ndarray, places: np.ndarray) -> str:
    """A message about slices whose distances differ.

    Args:
        heights: ``[N]``, mm along the normal, ascending.
        places: ``[N, 3]``, voxels by which the slices lie off an even grid.
    """
    gaps = np.diff(heights)
    usual = median_low(gaps.tolist())
    missing = np.rint(gaps / usual).astype(int) - 1
    even = np.abs(gaps / usual - missing - 1) <= MAX_MISFIT_VOXELS
    if even.all() and missing.any():
        where = int(np.flatnonzero(missing)[0])
        slices = f"{_count(int(missing.sum()), 'slice')} {'is' if missing.sum() == 1 else 'are'} missing"
        between = f"between {heights[where]:.6g} and {heights[where + 1]:.6g} mm along its axis"
        return f"{slices}, the first {between}, where slices lie {usual:.4g} mm apart; {AGAIN}"
    if np.abs(places[:, :2]).max() > MAX_MISFIT_VOXELS and even.all():
        return "its slices do not lie behind each other but are shifted; give the part that is even, or resample it"
    return (
        f"its slices lie {gaps.min():.4g} to {gaps.max():.4g} mm apart, which no grid has; resample it to an even "
        "distance, or export the series again"
    )


def _notes(first: Slice, affine: np.ndarray, away: float) -> list[str]:
    """What is worth knowing of an even grid from which slices lie at most so many voxels away."""
    notes = []
    step = np.linalg.norm(affine[:3, 2])
    if away > NOTED_MISFIT_VOXELS:
        notes.append(f"its slices lie up to {away:.2g} voxels off an even grid; they are taken as even")
    tilt = np.degrees(np.arccos(np.clip(affine[:3, 2] @ first.normal / step, -1, 1)))
    if tilt > 0.1:
        notes.append(f"its slices are tilted by {tilt:.1f} degrees (gantry tilt), and so its grid is oblique-angled")
    said, thick = _positive(first.header.spacing_between_slices), _positive(first.header.slice_thickness)
    if said and abs(said - step) > 0.01 * step and abs(said - step * np.cos(np.radians(tilt))) > 0.01 * step:
        notes.append(f"its header gives {said:g} mm between slices, and by their positions it is {step:.4g}, as used")
    if thick and step > GAP * thick:
        notes.append(f"its slices are {thick:g} mm thick and lie {step:.4g} mm apart; are some missing?")
    return notes


def _positive(text: str | None) -> float | None:
    """A length; spacings of nuclear medicine may be negative, which tells an order that positions tell better."""
    try:
        value = abs(float(text))
    except (TypeError, ValueError):
        return None
    return value if np.isfinite(value) and value else None


def _count(count: int, thing: str) -> str:
    return f"{count} {thing}{'s' * (count != 1)}"
