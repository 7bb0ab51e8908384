"""Coded terms of labels, which DICOM wants beside their names: from SNOMED CT, or another coding scheme."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deepedit.errors import FileError
from deepedit.files import brief, one_line, read_json

MAX_VALUE, MAX_MEANING = 16, 64  # characters, by DICOM PS3.5, section 6.2: SH and LO


@dataclass(frozen=True)
class Code:
    """A term of a coding scheme, such as 78961009 of SNOMED CT (``SCT``), which means spleen."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True)
class Term:
    """What a segment is, and of which category that is."""

    type: Code
    category: Code


ANATOMY = Code("123037004", "SCT", "Anatomical Structure")
"""Category of a label whose code has none of its own."""

TISSUE = Term(Code("85756007", "SCT", "Tissue"), Code("85756007", "SCT", "Tissue"))
"""Term of a label without a code."""


def read_codes(path: str | os.PathLike) -> dict[str, Term]:
    """Terms by the names of labels.

    Args:
        path: JSON such as ``{"spleen": {"value": "78961009", "scheme": "SCT", "meaning": "Spleen"}}``, with
            ``"category"``, which has the same three, where it is no anatomical structure. A ``dataset.json``, or any
            other file, has this object as its ``"codes"``.

    Raises:
        FileError: if the file cannot be read, or holds something else.
    """
    name = one_line(path)
    content = read_json(path)
    if "codes" not in content and "labels" in content:
        raise FileError(f"{name}: names no codes; add them under the key codes")
    codes = content.get("codes", content)
    if not isinstance(codes, Mapping) or not codes:
        raise FileError(f"{name}: its codes are {brief(codes)}; an object with an entry for each label is needed")
    return {label: _term(entry, f"{name}: the code of {one_line(label, 60)}") for label, entry in codes.items()}


def _term(entry: Any, what: str) -> Term:
    category = entry.get("category") if isinstance(entry, Mapping) else None
    return Term(_code(entry, what), ANATOMY if category is None else _code(category, f"{what}, in its category,"))


def _code(entry: Any, what: str) -> Code:
    if not isinstance(entry, Mapping):
        raise FileError(f"{what} is {brief(entry)}; it needs a value, a scheme and a meaning")
    for key, most in (("value", MAX_VALUE), ("scheme", MAX_VALUE), ("meaning", MAX_MEANING)):
        text = entry.get(key)
        fits = isinstance(text, str) and 0 < len(text.strip()) <= most and text.isprintable() and "\\" not in text
        if not fits:
            raise FileError(f"{what} has the {key} {brief(text)}; a text of at most {most} characters is needed")
    return Code(*(entry[key].strip() for key in ("value", "scheme", "meaning")))
