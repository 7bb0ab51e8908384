"""Pairs of image files and label file, as they are listed or matched by name."""

import os
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deepedit.errors import DatasetError
from deepedit.files import one_line
from deepedit.io.dataset_json import Description
from deepedit.io.dicom_series import is_series
from deepedit.io.suffixes import FORMATS, IMAGES, LABELS, ending, stem


@dataclass(frozen=True)
class Case:
    """One image and, in training, its label map.

    Attributes:
        name: unique in its dataset; the name of the file without its ending and channel number.
        image: one file, or one file for each channel; a DICOM series is the folder of its files.
        label: the label file; None if there is none.
        series: the SeriesInstanceUID of the one to read of a folder that holds several DICOM series.
    """

    name: str
    image: tuple[Path, ...]
    label: Path | None = None
    series: str | None = None

    @property
    def label_file(self) -> Path:
        """The label file of a case that has to have one."""
        if self.label is None:
            raise DatasetError(f"{one_line(self.name)}: has no label file")
        return self.label


def check_folder(folder: Path) -> None:
    """Raise a DatasetError with the reason if `folder` cannot be listed."""
    name = one_line(folder)
    try:
        os.listdir(folder)
    except FileNotFoundError as error:
        raise DatasetError(f"{name}: no such folder; check the path") from error
    except NotADirectoryError as error:
        raise DatasetError(f"{name}: this is not a folder; a dataset is one, with imagesTr and labelsTr") from error
    except PermissionError as error:
        raise DatasetError(f"{name}: this folder may not be read; check its permissions") from error
    except (OSError, ValueError) as error:
        raise DatasetError(f"{name}: cannot be listed: {one_line(error, 80)}") from error


def volume_files(folder: Path, endings: Sequence[str] = IMAGES) -> dict[str, list[Path]]:
    """The images, or label maps, of a folder by their names without ending, except hidden files. A name may have
    several files, one for each ending. A folder in it that holds a DICOM series is an image of its own name."""
    files: dict[str, list[Path]] = {}
    try:
        entries = sorted(os.listdir(folder))
    except FileNotFoundError:
        return files
    except OSError as error:
        raise DatasetError(f"{one_line(folder)}: cannot be listed: {error.strerror}") from error
    for entry in entries:
        if entry.startswith("."):
            continue
        if ending(entry, endings):
            files.setdefault(stem(entry), []).append(folder / entry)
        elif endings is IMAGES and is_series(folder / entry):
            files.setdefault(series_name(folder / entry), []).append(folder / entry)
    return files


def series_name(folder: Path) -> str:
    """The name of the case that a folder with a DICOM series is, in composed Unicode: that of the folder."""
    return unicodedata.normalize("NFC", Path(os.path.abspath(folder)).name)


def twice(paths: Sequence[Path]) -> str:
    """A message about files whose names differ in their endings only."""
    name = stem(paths[0].name)
    endings = [path.name[len(stem(path.name)) :] or "a folder of DICOM files" for path in paths]
    return f"{one_line(name)} is there as {' and as '.join(endings)}; keep one"


def channel_groups(names: list[str]) -> dict[str, list[str]]:
    """Names without ending, grouped into cases: ``case_0000, case_0001, ...`` without a gap are one case.

    If there is also a ``case``, each of them is a case of its own.
    """
    whole = set(names)
    numbered: dict[str, list[str]] = {}
    for name in sorted(names):
        match = re.fullmatch(r"(.+)_([0-9]{4})", name)
        if match and match[1] not in whole:
            numbered.setdefault(match[1], []).append(name)
    groups = {
        case: members
        for case, members in numbered.items()
        if [member[-4:] for member in members] == [f"{channel:04d}" for channel in range(len(members))]
    }
    grouped = {member for members in groups.values() for member in members}
    return groups | {name: [name] for name in names if name not in grouped}


def pair_files(folder: Path, description: Description, problems: list[str], warnings: list[str]) -> list[Case]:
    """The cases of a dataset folder in the order of their names; what does not fit is added to `problems`."""
    if description.pairs is None:
        cases = _pairs_by_name(folder, problems)
    else:
        cases = _pairs_as_listed(folder, description.pairs, problems, warnings)
    count = description.num_training
    if count is not None and count != len(cases) and not problems:
        warnings.append(f"dataset.json: numTraining is {one_line(count, 30)}, {len(cases)} cases are there")
    return sorted(cases, key=lambda case: case.name)


def _pairs_by_name(folder: Path, problems: list[str]) -> list[Case]:
    images, labels = volume_files(folder / "imagesTr"), volume_files(folder / "labelsTr", LABELS)
    for room, files in (("imagesTr", images), ("labelsTr", labels)):
        problems += [f"{room}/{twice(paths)}" for paths in files.values() if len(paths) > 1]
    groups = channel_groups(list(images))
    cases, used = [], set()
    for name, (label, *_) in labels.items():
        members = [name] if name in images else groups.get(name, [])
        # An image with a label of the same name is no channel of another case.
        if not members or (name not in images and not labels.keys().isdisjoint(members)):
            problems.append(
                f"labelsTr/{one_line(label.name)}: has no image of its name in imagesTr, nor one with channels from "
                "_0000 on"
            )
            continue
        used.update(members)
        cases.append(Case(name, tuple(images[member][0] for member in members), label))
    problems += [
        f"imagesTr/{one_line(paths[0].name)}: has no label of its name in labelsTr"
        for name, paths in images.items()
        if name not in used
    ]
    return cases


def _pairs_as_listed(
    folder: Path, pairs: list[tuple[tuple[Path, ...], Path]], problems: list[str], warnings: list[str]
) -> list[Case]:
    unlisted = {path for paths in volume_files(folder / "imagesTr").values() for path in paths}
    groups = channel_groups([stem(path.name) for path in unlisted])
    cases: dict[str, Case] = {}
    for images, label in pairs:
        if len(images) == 1 and not os.path.exists(images[0]):  # older nnU-Net lists case.nii.gz for the channel files
            ending = images[0].name.removeprefix(stem(images[0].name))
            members = groups.get(stem(images[0].name), [])
            images = tuple(images[0].with_name(member + ending) for member in members) or images
        case = Case(stem(label.name), images, label)
        if case.name in cases:
            problems.append(
                f"dataset.json: lists two cases of the name {one_line(case.name, 100)}; remove or rename one"
            )
        cases[case.name] = case
        unlisted.difference_update(images)
    if unlisted:
        first = one_line(min(unlisted).name, 100)
        warnings.append(
            f"dataset.json: does not list {len(unlisted)} of the files in imagesTr, such as {first}; left out"
        )
    return list(cases.values())


def why_no_cases(folder: Path) -> str:
    """A message for a folder that holds no case."""
    missing = [room for room in ("imagesTr", "labelsTr") if not (folder / room).is_dir()]
    if missing:
        return f"no folder {' and no folder '.join(missing)} in it: images belong in imagesTr, labels in labelsTr"
    nothing = "no image in imagesTr and no label map in labelsTr of a format that is read"
    return f"{nothing} ({FORMATS}): convert them to .nii.gz"
