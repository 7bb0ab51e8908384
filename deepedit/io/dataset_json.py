"""What a ``dataset.json`` says, in the Decathlon's words or nnU-Net's; nothing in it is trusted."""

import math
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deepedit.errors import DatasetError
from deepedit.files import brief, one_line, read_json
from deepedit.plan import BACKGROUND, MAX_VALUE

MAX_LABELS = 1000
NIFTI_ENDINGS = (".nii.gz", ".nii")


@dataclass
class Description:
    """A parsed ``dataset.json``; None where it is silent.

    Attributes:
        labels: foreground names to file values.
        modality: of the image; of several channels, the distinct ones joined by commas.
        pairs: image files (one a channel) and label file of each case, inside of the folder.
        num_training: how many cases it says there are.
        problems: one line for each entry that makes no sense.
        label_problems: the same for the labels, which do no harm where the user names the labels.
    """

    labels: dict[str, int] | None = None
    modality: str | None = None
    pairs: list[tuple[tuple[Path, ...], Path]] | None = None
    num_training: int | None = None
    problems: list[str] = field(default_factory=list)
    label_problems: list[str] = field(default_factory=list)


def read_description(folder: Path) -> Description:
    """The ``dataset.json`` of a folder; an empty description where there is none.

    Raises:
        DatasetError: if the file is not JSON at all; what is wrong inside of it is in ``problems``.
        FileError: if it cannot be opened.
    """
    path = folder / "dataset.json"
    description = Description()
    if not os.path.lexists(path):
        return description
    content = read_json(path, DatasetError)
    description.labels = _labels(content.get("labels"), description.label_problems)
    description.modality = _modality(content.get("channel_names", content.get("modality")), description.problems)
    description.pairs = _pairs(folder, content, description.problems)
    if isinstance(content.get("numTraining"), int):
        description.num_training = content["numTraining"]
    ending = content.get("file_ending", ".nii.gz")
    if ending not in NIFTI_ENDINGS:
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
    """Foreground names to values, from ``{"1": "liver"}`` (Decathlon) or ``{"liver": 1}`` (nnU-Net)."""
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
    for key, entry in entries.items():
        decathlon = isinstance(entry, str) and _whole_number(key) is not None
        name, value = (entry.strip(), _whole_number(key)) if decathlon else (key.strip(), _whole_number(entry))
        if isinstance(entry, list) or name == "ignore":
            problems.append(
                f"dataset.json: label {one_line(key, 60)} is a region or a value to ignore, which are not supported"
            )
            continue
        name = BACKGROUND if value == 0 else name
        problem = check_label(name, entry if value is None else value)
        if problem is None and (name in labels or value in labels.values()):
            problem = f"label {name} with value {value} is there twice"
        if problem:
            problems.append(f"dataset.json: {problem}")
        else:
            labels[name] = value
    labels.pop(BACKGROUND, None)
    if not labels and len(problems) == before:
        problems.append("dataset.json: labels names nothing but the background")
    return labels or None


def _whole_number(entry: Any) -> int | None:
    """An integer, a float or a text that is one; None for anything else."""
    if isinstance(entry, float) and math.isfinite(entry) and entry == int(entry):
        return int(entry)
    if isinstance(entry, str) and re.fullmatch(r"-?[0-9]{1,18}", entry.strip()):
        return int(entry)
    return entry if isinstance(entry, int) and not isinstance(entry, bool) else None


def _modality(entry: Any, problems: list[str]) -> str | None:
    if entry is None:
        return None
    channels = list(entry.values()) if isinstance(entry, dict) else entry if isinstance(entry, list) else [entry]
    if not all(isinstance(channel, str) and len(channel) <= 100 for channel in channels):
        problems.append(f"dataset.json: modality should name each channel, is {brief(entry)}")
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
            pairs.append((tuple(paths[:-1]), paths[-1]))
    return pairs or None


def _inside(folder: Path, text: str) -> Path | None:
    """The path that `text` means from `folder`; None if it leads out of it, by its spelling."""
    if not text.isprintable():
        return None
    relative = os.path.normpath(text)
    leads_out = os.path.isabs(relative) or relative.split(os.sep)[0] == os.pardir or relative == os.curdir
    return None if leads_out else folder / relative
