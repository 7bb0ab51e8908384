"""Clicks in files of this package, of MONAI Label, and of 3D Slicer (markups). The content tells the formats apart.

this package  {"space": "voxel" | "ras" | "lps", "clicks": [{"label": "spleen", "position": [120, 85, 40]}]}
MONAI Label   {"spleen": [[120, 85, 40]], "background": []}     voxels; also with "foreground"
3D Slicer     {"markups": [{"coordinateSystem": "LPS", "controlPoints": [{"label": "spleen-1", ...}]}]}
              or a table, .fcsv or .csv, see `click_tables`
"""

import difflib
import json
import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from deepedit.boxes import three
from deepedit.errors import ClickError, FileError
from deepedit.files import brief, one_line, parse_json, read_small, replace_atomically
from deepedit.io.click_tables import SLICER_SPACES, read_points
from deepedit.plan import BACKGROUND

SPACES = ("voxel", "ras", "lps")
MAX_COORDINATE = 1e7
MAX_NAME = 100
MONAI_FOREGROUND = "foreground"


@dataclass(frozen=True)
class PointClick:
    """A click as it stands in a file, before any image is known.

    Attributes:
        label: the label's name, or ``"background"``.
        position: voxel indices of the image's own grid, or millimetres.
        space: ``"voxel"``, ``"ras"`` or ``"lps"``.
    """

    label: str
    position: tuple[float, float, float]
    space: str


def read_clicks(path: str | os.PathLike[str], labels: Sequence[str] | None = None) -> list[PointClick]:
    """The clicks in a file of any of these formats, in the order of the file.

    Args:
        labels: names that the model knows; the background is always known. If they are given, MONAI Label's
            ``foreground`` means the first of them, and a point of 3D Slicer may be called ``spleen-1``, or get its
            label from the name of its list or file.

    Raises:
        FileError: if the file cannot be read, or has none of the formats.
        ClickError: if a click is malformed, or its label is not among `labels`; the message suggests the nearest.
    """
    name = one_line(path)
    known = None if labels is None else [label for label in labels if label != BACKGROUND]
    raw = read_small(path)
    if raw.lstrip().startswith(b"#") or name.lower().endswith((".fcsv", ".csv", ".tsv")):
        return _table_clicks(raw, known, name)
    content = parse_json(raw, name)
    if "markups" in content:
        return _slicer_clicks(content, known, name)
    if isinstance(content.get("points"), list) and "points" not in (known or ()):
        raise FileError(
            f"{name}: its points do not say in which space they are; write them as "
            '{"space": "voxel", "ras" or "lps", "clicks": [{"label": NAME, "position": [I, J, K]}]}'
        )
    clicks = content.get("clicks")
    if "space" in content or (isinstance(clicks, list) and all(isinstance(click, dict) for click in clicks)):
        return _own_clicks(content, known, name)
    return _monai_clicks(content, known, name)


def write_clicks(path: str | os.PathLike[str], clicks: Iterable[PointClick]) -> None:
    """Write clicks in the format of this package, atomically.

    The space of the first click is written at the top of the file; a click in another space has a space of its own.

    Raises:
        FileError: if the file cannot be written.
    """
    clicks = list(clicks)
    space = clicks[0].space if clicks else "voxel"
    entries = [
        {"label": click.label, "position": [float(number) for number in click.position]}
        | ({"space": click.space} if click.space != space else {})
        for click in clicks
    ]
    lines = ",\n  ".join(json.dumps(entry, allow_nan=False) for entry in entries)
    text = f'{{"space": {json.dumps(space)}, "clicks": [\n  {lines}\n]}}\n'
    with replace_atomically(path) as stream:
        stream.write(text.encode("ascii"))


def _own_clicks(content: dict[str, Any], known: list[str] | None, name: str) -> list[PointClick]:
    space = _space(content.get("space", "voxel"), name)
    entries = content.get("clicks")
    if not isinstance(entries, list):
        raise FileError(f"{name}: clicks should be a list, is {brief(entries)}")
    clicks = []
    for number, entry in enumerate(entries, 1):
        where = f"{name}: click {number}"
        if not isinstance(entry, dict):
            raise ClickError(f"{where} should be an object with label and position, is {brief(entry)}")
        label = _label(entry.get("label"), known, where)
        own_space = _space(entry["space"], where) if "space" in entry else space
        clicks.append(PointClick(label, _position(entry.get("position"), where), own_space))
    return clicks


def _monai_clicks(content: dict[str, Any], known: list[str] | None, name: str) -> list[PointClick]:
    clicks = []
    of_labels = any(isinstance(positions, list) for positions in content.values())
    for key, positions in content.items():
        if of_labels and not isinstance(positions, list) and key not in (known or ()):
            continue  # MONAI Label keeps the request beside the clicks: model, image, label, device, ...
        if not isinstance(positions, list):
            raise FileError(
                f"{name}: not a file of clicks: {one_line(key, 60)} should be a list of positions; "
                "write clicks as docs/segmenting.md shows, or export them from 3D Slicer"
            )
        label = key
        if key == MONAI_FOREGROUND and known and key not in known:
            label = known[0]
        for number, position in enumerate(positions, 1):
            where = f"{name}: click {number} of {one_line(key, 60)}"
            clicks.append(PointClick(_label(label, known, where), _position(position, where), "voxel"))
    return clicks


def _slicer_clicks(content: dict[str, Any], known: list[str] | None, name: str) -> list[PointClick]:
    markups = content["markups"]
    if not isinstance(markups, list) or not all(isinstance(node, dict) for node in markups):
        raise FileError(f"{name}: markups should be a list of objects; save the points from 3D Slicer again")
    clicks, unplaced = [], 0
    for node in markups:
        if node.get("type", "Fiducial") not in ("Fiducial", "PointList"):
            raise FileError(f"{name}: holds a markup of type {brief(node['type'])}; only point lists are clicks")
        space = _slicer_space(node, name)
        points = node.get("controlPoints", [])
        if not isinstance(points, list) or not all(isinstance(point, dict) for point in points):
            raise FileError(f"{name}: controlPoints should be a list of objects; save the points from 3D Slicer again")
        for number, point in enumerate(points, 1):
            if point.get("positionStatus") not in (None, "", "defined"):
                unplaced += 1  # being placed, or deleted but for its entry
                continue
            where = f"{name}: control point {number}"
            label = _slicer_label(point.get("label"), node.get("name"), name, known)
            clicks.append(PointClick(_label(label, known, where), _position(point.get("position"), where), space))
    if unplaced and not clicks:
        raise FileError(
            f"{name}: none of its {unplaced} points has a place; place them in 3D Slicer and save them again"
        )
    return clicks


def _table_clicks(raw: bytes, known: list[str] | None, name: str) -> list[PointClick]:
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileError(f"{name}: not a table of points in UTF-8; export it again") from error
    clicks = []
    for point in read_points(text, name):
        where = f"{name}: line {point.line}"
        label = _slicer_label(point.label, None, name, known)
        clicks.append(PointClick(_label(label, known, where), _position(point.position, where), point.space))
    return clicks


def _slicer_space(node: dict[str, Any], name: str) -> str:
    system, units = node.get("coordinateSystem", "LPS"), node.get("coordinateUnits", "mm")
    if brief(system).strip("'").upper() not in SLICER_SPACES:
        raise FileError(f"{name}: unknown coordinate system {brief(system)}; save it as LPS or RAS")
    if (units[:1] if isinstance(units, list) else [units]) != ["mm"]:
        raise FileError(f"{name}: coordinates in {brief(units)}; save them in mm")
    return SLICER_SPACES[brief(system).strip("'").upper()]


def _slicer_label(point: Any, node: Any, file_name: str, known: list[str] | None) -> Any:
    """The label of a control point: its own name, that of its list or that of the file, without a number at the end.

    The first of these that is a known label counts. If none is known, the point's own name counts, unless it is
    Slicer's default name, F-1.
    """
    file = re.sub(r"(\.mrk)?\.(json|fcsv|csv|tsv)$", "", os.path.basename(file_name), flags=re.IGNORECASE)
    # No longer than a name may be: the patterns below take quadratic time.
    names = [text[: MAX_NAME + 1] for text in (point, node, file) if isinstance(text, str) and text.strip()]
    candidates = [form for text in names for form in (text.strip(), re.sub(r"[-_ ]?[0-9]+$", "", text.strip())) if form]
    if known is None:
        bare = [re.sub(r"[-_ ][0-9]+$", "", text.strip()) for text in names]
        return next((text for text in bare if text not in ("", "F", "P", "MarkupsFiducial")), "F")
    return next((form for form in candidates if form in (*known, BACKGROUND)), candidates[0] if candidates else None)


def _label(label: Any, known: list[str] | None, where: str) -> str:
    if not isinstance(label, str) or not label.strip() or not label.isprintable() or len(label) > MAX_NAME:
        raise ClickError(f"{where}: its label {brief(label)} is not a name; give it that of a label")
    if known is None:
        return label
    for name in (*known, BACKGROUND):
        if unicodedata.normalize("NFC", name) == unicodedata.normalize("NFC", label):
            return name
    near = difflib.get_close_matches(label, (*known, BACKGROUND), n=1, cutoff=0.4)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise ClickError(f"{where}: label {label!r} is not one of {BACKGROUND}, {one_line(', '.join(known))}{hint}")


def _position(position: Any, where: str) -> tuple[float, float, float]:
    numbers = isinstance(position, list) and all(
        isinstance(number, int | float) and not isinstance(number, bool) for number in position
    )
    # Compared before it becomes a float: an integer of a thousand digits does not.
    if not numbers or len(position) != 3 or not all(abs(number) <= MAX_COORDINATE for number in position):
        raise ClickError(f"{where}: its position {brief(position)} is not three numbers (within 10 million)")
    return three(float(number) for number in position)


def _space(space: Any, where: str) -> str:
    if not isinstance(space, str) or space.lower() not in SPACES:
        raise FileError(f"{where}: space {brief(space)} is not voxel, ras or lps")
    return space.lower()
