"""Reading a ``dataset.json`` of the Decathlon or of nnU-Net, without trusting anything in it."""

import math
import os
import re
import unicodedata
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deepedit.errors import DatasetError
from deepedit.files import brief, one_line, pasted, read_json
from deepedit.io.suffixes import LABELS
from deepedit.plan import BACKGROUND, MAX_VALUE

MAX_LABELS = 1000
MAX_NAMED = 10
"""Most labels that a hint lists: nobody types more, and labels that are left out would become background."""

IGNORE = "ignore"
"""nnU-Net's name for the value of voxels whose class is not known."""


@dataclass
class Description:
    """A parsed ``dataset.json``; None stands for an entry that it lacks.

    Attributes:
        labels: foreground names to file values.
        ignore: the value of voxels whose class is not known.
        modality: modality of the image; for several channels, the distinct ones joined by commas.
        pairs: image files (one for each channel) and label file of each case, inside of the folder.
        num_training: the number of cases that it states.
        problems: one line for each entry that makes no sense.
        label_problems: the same for the labels; these do no harm if the user names the labels.
    """

    labels: dict[str, int] | None = None
    ignore: int | None = None
    modality: str | None = None
    pairs: list[tuple[tuple[Path, ...], Path]] | None = None
    num_training: int | None = None
    problems: list[str] = field(default_factory=list)
    label_problems: list[str] = field(default_factory=list)


def read_description(folder: Path) -> Description:
    """The ``dataset.json`` of a folder; an empty description if there is none.

    Raises:
        DatasetError: if the file is not JSON at all; what is wrong in its entries is listed in ``problems``.
        FileError: if it cannot be opened.
    """
    path = folder / "dataset.json"
    description = Description()
    if not os.path.lexists(path):
        return description
    content = read_json(path, DatasetError)
    labels = _labels(content.get("labels"), description.label_problems)
    if labels is not None:
        description.ignore = labels.pop(IGNORE, None)
        description.labels = labels or None
    key = "channel_names" if "channel_names" in content else "modality"
    description.modality = _modality(content.get(key), key, description.problems)
    description.pairs = _pairs(folder, content, description.problems)
    if isinstance(content.get("numTraining"), int):
        description.num_training = content["numTraining"]
    ending = content.get("file_ending", ".nii.gz")
    if not isinstance(ending, str) or "." + ending.lower().lstrip(".") not in LABELS:
        description.problems.append(f"dataset.json: files end in {brief(ending, 40)}; convert them to .nii.gz")
    return description


def check_label(name: Any, value: Any) -> str | None:
    """What is wrong with a label's name and its value in the files; None if nothing is."""
    if not isinstance(name, str) or not name.strip() or not name.isprintable() or len(name) > 100:
        return f"label name {brief(name)} is not a short text"
    if isinstance(value, bool) or not isinstance(value, int):
        return f"label {name}: its value {brief(value)} is not a whole number"
    if not 0 <= value <= MAX_VALUE:
        return f"label {name}: its value {one_line(value, 40)} is not between 0 and {MAX_VALUE}"
    if (name == BACKGROUND) != (value == 0):
        return f"label {name}: value 0 is the {BACKGROUND} and nothing else is"
    return None


def _labels(entries: Any, problems: list[str]) -> dict[str, int] | None:
    """Foreground names to values, from ``{"1": "liver"}`` (Decathlon) or ``{"liver": 1}`` (nnU-Net).

    A value to ignore is among them, under the name ``ignore``.
    """
    if entries is None:
        return None
    if not isinstance(entries, dict):
        problems.append(f"dataset.json: labels should be an object in braces, is {brief(entries)}")
        return None
    if len(entries) > MAX_LABELS + 1:
        problems.append(f"dataset.json: names {len(entries)} labels; at most {MAX_LABELS} are supported")
        return None
    labels: dict[str, int] = {}
    before = len(problems)
    regions = [key for key, entry in entries.items() if isinstance(entry, list) and len(entry) != 1]
    if regions:
        are = "is a region" if len(regions) == 1 else "are regions"
        problems.append(
            f"dataset.json: {one_line(', '.join(regions), 100)} {are} of several values, and a voxel has one label; "
            f"name the values instead: {_labels_instead(entries)}"
        )
        return None
    for key, entry in entries.items():
        entry = entry[0] if isinstance(entry, list) else entry  # nnU-Net's region of a single value
        decathlon = isinstance(entry, str) and _whole_number(key) is not None
        name, value = (entry, _whole_number(key)) if decathlon else (key, _whole_number(entry))
        name = BACKGROUND if value == 0 else unicodedata.normalize("NFC", name.strip())
        problem = check_label(name, entry if value is None else value)
        if problem is None and (name in labels or value in labels.values()):
            problem = f"label {name} with value {value} is there twice"
        if problem:
            problems.append(f"dataset.json: {problem}")
        elif value is not None:
            labels[name] = value
    labels.pop(BACKGROUND, None)
    if not set(labels) - {IGNORE} and len(problems) == before:
        problems.append("dataset.json: labels names nothing but the background")
    return labels or None


def _labels_instead(entries: dict[str, Any]) -> str:
    """`labels` with a name for each whole number among the values of the regions and labels."""
    flat = [
        (key if not isinstance(entry, list) or len(entry) == 1 else None, _whole_number(value))
        for key, entry in entries.items()
        for value in (entry if isinstance(entry, list) else [entry])[:MAX_LABELS]
    ]
    names = {value: f"label_{value}" for _, value in flat if value is not None and 0 < value <= MAX_VALUE}
    own = {value: key for key, value in flat if key is not None and value in names}
    labels = {name: value for value, name in sorted({**names, **own}.items())}
    return labels_option(labels) or "`labels` NAME=VALUE,..."


def labels_option(labels: Mapping[str, int]) -> str | None:
    """`labels` with these names and values, quoted for a shell; None if they would be read differently."""
    text = ",".join(f"{name}={value}" for name, value in labels.items())
    try:
        understood = parse_labels(text) == dict(labels)
    except DatasetError:
        return None
    return pasted("`labels`", text) if understood and len(labels) <= MAX_NAMED else None


def parse_labels(text: str) -> dict[str, int]:
    """Names and values from ``"spleen=1,liver=6"``.

    Raises:
        DatasetError: if the text has another form, or a name or a value appears twice.
    """
    labels: dict[str, int] = {}
    for item in text.split(","):
        name, separator, number = (part.strip() for part in item.partition("="))
        if not separator or not re.fullmatch(r"[0-9]{1,10}", number):
            raise DatasetError(f"`labels`: {brief(item)} should be a name and a value, as in spleen=1")
        name = unicodedata.normalize("NFC", name)
        problem = check_label(name, int(number))
        if problem is None and (name in labels or int(number) in labels.values()):
            problem = f"{item.strip()}: this name or value is there already"
        if problem:
            raise DatasetError(f"`labels`: {problem}")
        labels[name] = int(number)
    if not any(value for name, value in labels.items() if name != IGNORE):
        raise DatasetError("`labels`: names nothing but the background; add a label, as in spleen=1")
    return labels


def _whole_number(entry: Any) -> int | None:
    """The whole number that an integer, a float or a text stands for; None for anything else."""
    if isinstance(entry, float) and math.isfinite(entry) and entry == int(entry):
        return int(entry)
    if isinstance(entry, str) and re.fullmatch(r"-?[0-9]{1,18}", entry.strip()):
        return int(entry)
    return entry if isinstance(entry, int) and not isinstance(entry, bool) else None


def _modality(entry: Any, key: str, problems: list[str]) -> str | None:
    if entry is None:
        return None
    channels = list(entry.values()) if isinstance(entry, dict) else entry if isinstance(entry, list) else [entry]
    if not all(isinstance(channel, str) and len(channel) <= 100 for channel in channels):
        problems.append(f"dataset.json: {key} should name each channel, is {brief(entry)}")
        return None
    return one_line(",".join(dict.fromkeys(channel.strip() for channel in channels))) or None


def _pairs(folder: Path, content: dict[str, Any], problems: list[str]) -> list[tuple[tuple[Path, ...], Path]] | None:
    """The pairs listed under ``training`` (Decathlon) or ``dataset`` (nnU-Net), as far as they make sense."""
    listed = content.get("training")
    if listed is None and isinstance(content.get("dataset"), dict):
        listed = list(content["dataset"].values())
    if listed is None:
        return None
    if not isinstance(listed, list):
        problems.append(f"dataset.json: training should be a list, is {brief(listed)}")
        return []
    pairs = []
    for number, entry in enumerate(listed):
        images = entry.get("image", entry.get("images")) if isinstance(entry, dict) else None
        images = [images] if isinstance(images, str) else images
        label = entry.get("label") if isinstance(entry, dict) else None
        if not isinstance(images, list) or not images or not all(isinstance(text, str) for text in (*images, label)):
            problems.append(f"dataset.json: training entry {number + 1} does not name an image and a label")
            continue
        paths = [_inside(folder, text) for text in (*images, label)]
        outside = [text for text, path in zip((*images, label), paths, strict=True) if path is None]
        if outside:
            problems.append(f"dataset.json: {one_line(outside[0], 100)} is not a path inside of the dataset's folder")
        else:
            *inside, last = [path for path in paths if path is not None]
            pairs.append((tuple(inside), last))
    return pairs or None


def _inside(folder: Path, text: str) -> Path | None:
    """The path `text` relative to `folder`; None if, as it is spelled, it leads out of the folder."""
    if not text.isprintable():
        return None
    if "\\" in text and not os.path.lexists(folder / text):  # written on Windows
        text = text.replace("\\", "/")
    for root in (os.path.abspath(folder), os.path.realpath(folder)):
        if os.path.isabs(text) and os.path.normpath(text).startswith(root + os.sep):
            text = os.path.relpath(os.path.normpath(text), root)
    relative = os.path.normpath(text)
    leads_out = os.path.isabs(relative) or relative.split(os.sep)[0] == os.pardir or relative == os.curdir
    return None if leads_out else _as_spelled(folder / relative)


def _as_spelled(path: Path) -> Path:
    """The path as it is spelled on disk: of two equal names, Unicode may have one composed and the other decomposed."""
    if path.name.isascii() or os.path.lexists(path):
        return path
    with suppress(OSError):
        wanted = unicodedata.normalize("NFC", path.name)
        return next(
            (other for other in path.parent.iterdir() if unicodedata.normalize("NFC", other.name) == wanted), path
        )
    return path
