"""Points in text tables, as 3D Slicer writes them: ``.fcsv``, and ``.csv`` with named columns."""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from deepedit.errors import FileError
from deepedit.files import brief

# 3D Slicer's numbers are those of its own code; IJK it never wrote with a meaning.
SLICER_SPACES = {"RAS": "ras", "LPS": "lps", "0": "ras", "1": "lps"}
FCSV_COLUMNS = "id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID"
NOT_PLACED = ("0", "1", "3")
"""Undefined, preview and missing: what 3D Slicer 5 writes after the named columns of a point without a position."""

CSV_SPACES = {("r", "a", "s"): "ras", ("l", "p", "s"): "lps", ("i", "j", "k"): "voxel"}
NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")
AS_JSON = "save the points from 3D Slicer as .mrk.json"


@dataclass(frozen=True)
class Point:
    """A line of a table.

    Attributes:
        label: the name of the point; None if the table has no names.
        position: three numbers; a cell that holds no number is kept as text.
        space: ``"voxel"``, ``"ras"`` or ``"lps"``.
        line: its number in the file, counted from 1.
    """

    label: str | None
    position: list[Any]
    space: str
    line: int


def read_points(text: str, name: str) -> list[Point]:
    """The points of a table that have a position, in the order of the table.

    Args:
        text: the whole content of the file; an ``.fcsv`` begins with a comment.
        name: the name of the file, for messages.

    Raises:
        FileError: if the file is no such table, or does not say in which space its coordinates are.
    """
    try:
        return list(_fcsv(text, name) if text.lstrip().startswith("#") else _csv(text, name))
    except csv.Error as error:
        raise FileError(f"{name}: not a table of points ({error}); {AS_JSON}") from error


def _fcsv(text: str, name: str) -> Iterator[Point]:
    """3D Slicer's own table, in which comments name the coordinate system and the columns."""
    comments = (line[1:].partition("=") for line in text.splitlines() if line.startswith("#"))
    head = {key.strip(): value.strip() for key, _, value in comments}
    system = head.get("CoordinateSystem", "")
    if not system:
        raise FileError(f"{name}: does not say its CoordinateSystem in a comment; {AS_JSON}")
    if system.upper() not in SLICER_SPACES:
        raise FileError(f"{name}: unknown coordinate system {brief(system)}; save it as LPS or RAS")
    columns = [column.strip() for column in head.get("columns", FCSV_COLUMNS).split(",")]
    missing = {"x", "y", "z"} - set(columns)
    if missing:
        raise FileError(f"{name}: has no column {min(missing)}; {AS_JSON}")
    for line, cells in _rows(text, ","):
        if cells[0].startswith("#") or cells[len(columns) : len(columns) + 1] in [[status] for status in NOT_PLACED]:
            continue
        entries = dict(zip(columns, cells, strict=False))
        position = [_number(entries.get(axis, "")) for axis in "xyz"]
        yield Point(entries.get("label"), position, SLICER_SPACES[system.upper()], line)


def _csv(text: str, name: str) -> Iterator[Point]:
    """A table as 3D Slicer exports it, whose first line names the columns: ``label,r,a,s``, ``l,p,s`` or ``i,j,k``."""
    first = text.strip().partition("\n")[0]
    delimiter = next((each for each in (",", ";", "\t") if each in first), ",")
    rows = _rows(text, delimiter)
    columns = [cell.strip().lower() for cell in next(rows, (0, []))[1]]
    axes = next((axes for axes in CSV_SPACES if set(axes) <= set(columns)), None)
    if axes is None:
        raise FileError(
            f"{name}: its first line {brief(first)} should name the columns, as label,r,a,s or label,l,p,s (mm) or "
            "label,i,j,k (voxels); name them, or save the points from 3D Slicer as .mrk.json"
        )
    for line, cells in rows:
        entries = dict(zip(columns, (cell.strip() for cell in cells), strict=False))
        if entries.get("defined", "1") == "0":
            continue
        position = [_number(entries.get(axis, ""), comma=delimiter != ",") for axis in axes]
        yield Point(entries.get("label", entries.get("name")), position, CSV_SPACES[axes], line)


def _rows(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The number and the cells of each line that is not empty."""
    reader = csv.reader(text.splitlines(), delimiter=delimiter, skipinitialspace=True)
    for cells in reader:
        if any(cell.strip() for cell in cells):
            yield reader.line_num, cells


def _number(cell: str, comma: bool = False) -> float | str:
    """The number in a cell, which may have a decimal comma; the text itself if it is no number."""
    text = cell.strip().replace(",", ".") if comma else cell.strip()
    return float(text) if len(text) < 100 and NUMBER.fullmatch(text) else cell
