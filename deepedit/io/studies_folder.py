"""The layout of a folder of studies, in which images and label maps are found by name.

x.nii.gz                  images beside each other, as people and MONAI Label have them
x/                        or folders with the files of a DICOM series each; these may be in the next ones, too
imagesTr/, imagesTs/      or as in the Medical Segmentation Decathlon; channels are files x_0000, x_0001, ...
labelsTr/                 labels of imagesTr; they count as final
labels/final/             labels that were submitted
labels/original/          automatic results; other folders beside these are other versions of labels
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepedit.files import one_line
from deepedit.io.dicom_series import is_series
from deepedit.io.left_out import some
from deepedit.io.msd import image_cases
from deepedit.io.pairing import Case, check_folder, series_name
from deepedit.io.suffixes import DICOM, IMAGES, READ, SEGMENTATION, ending, stem

FETCHED = os.path.join(".deepedit", "dicomweb")
"""The folder for the series that a server has fetched from a DICOM store."""

IMAGE_ROOMS = ("imagesTr", "imagesTs", "", FETCHED)
"""Where images lie; of two images of one name, that in the room named first is taken. The empty one is the folder
itself."""

DATASET_LABELS, LABELS = "labelsTr", "labels"
FINAL, ORIGINAL = "final", "original"
LABEL_ENDINGS = (*IMAGES, SEGMENTATION, DICOM)
"""Of two label maps of one name, that whose ending comes first is taken: NIfTI, which is what the server writes."""

REPLACED = "replaced"
"""The folder in `labels` that keeps what was replaced; it is no version of labels."""

TAG = re.compile("[a-z0-9][a-z0-9_-]{0,19}")
"""Names of versions of labels. Small letters, since on some systems ``Final`` would be the same folder as ``final``."""


@dataclass(frozen=True)
class StudiesFolder:
    """What is in a folder of studies.

    Attributes:
        cases: by id, in natural order: ``ct_2`` comes before ``ct_10``. None of them has its label.
        ids: the id of the case that a file belongs to, by the file's name without its ending.
        labels: for each tag the label files in ``labels/<tag>``, by id.
        dataset_labels: the label files in ``labelsTr``, by id.
        notes: a line about each file that is left out and should perhaps not be.
        empty: whether there are empty files or folders, which are left out until they are filled.
    """

    cases: Mapping[str, Case]
    ids: Mapping[str, str]
    labels: Mapping[str, Mapping[str, Path]]
    dataset_labels: Mapping[str, Path]
    notes: tuple[str, ...]
    empty: bool

    def label(self, case_id: str, tag: str) -> Path | None:
        """The label file of a case, if it has one; of the tag ``final`` that in ``labels``, else in ``labelsTr``."""
        found = self.labels.get(tag, {}).get(case_id)
        return self.dataset_labels.get(case_id) if found is None and tag == FINAL else found


def read_studies_folder(folder: Path, image_channels: int | None = None) -> StudiesFolder:
    """Find the images and label maps of a folder of studies.

    Hidden files, files with other endings, empty files and folders are no images, but for folders that hold a DICOM
    series. Where two images have one name, one is taken, with a note.

    Args:
        image_channels: number of channels of the model, as for `find_images`.

    Raises:
        DatasetError: if the folder, or one in it, cannot be listed.
    """
    check_folder(folder)
    listing = _Listing(folder)
    cases: dict[str, Case] = {}
    ids: dict[str, str] = {}
    of_dataset = listing.files(DATASET_LABELS, LABEL_ENDINGS)
    versions = {tag: listing.files(os.path.join(LABELS, tag), LABEL_ENDINGS) for tag in listing.tags()}
    approved = of_dataset.keys() | versions.get(FINAL, {}).keys()
    for room in IMAGE_ROOMS:
        for case in image_cases(listing.files(room, IMAGES), image_channels, apart=approved):
            if case.name in cases:
                listing.leave_out(case.image[0], cases[case.name].image[0])
                continue
            cases[case.name] = case
            for path in case.image:
                ids.setdefault(series_name(path) if path.is_dir() else stem(path.name), case.name)
    ids |= {name: name for name in cases}
    if alone := sorted(approved - ids.keys()):
        listing.notes.append(f"labels of {some(alone)}: left out, as no image has this name")
    in_training = {name for name, case in cases.items() if case.image[0].parent.name == "imagesTr"}
    dataset_labels = {name: path for name, path in _by_id(of_dataset, ids).items() if name in in_training}
    labels = {tag: _by_id(files, ids) for tag, files in versions.items()}
    ordered = {name: cases[name] for name in sorted(cases, key=natural)}
    return StudiesFolder(ordered, ids, labels, dataset_labels, tuple(listing.notes), listing.empty)


def watched(folder: Path, found: StudiesFolder) -> list[Path]:
    """The folders whose time of change tells that `read_studies_folder` would find something else than it found."""
    rooms = [*IMAGE_ROOMS, DATASET_LABELS, LABELS, *(os.path.join(LABELS, tag) for tag in found.labels)]
    return [folder / room for room in rooms]


def natural(name: str) -> tuple[Any, ...]:
    """A key that sorts names as people do, numbers by their size."""
    parts = re.split("([0-9]+)", name)
    numbered = zip(parts[::2], [*parts[1::2], "0"], strict=True)
    return tuple((part.casefold(), int(number)) for part, number in numbered), name


def _by_id(files: Mapping[str, Sequence[Path]], ids: Mapping[str, str]) -> dict[str, Path]:
    """The label files, given by their names without ending, that belong to a case, by its id."""
    # A file that has the very name of its case comes last, and so counts.
    names = sorted((name for name in files if name in ids), key=lambda name: ids[name] == name)
    return {ids[name]: files[name][0] for name in names}


class _Listing:
    """Lists folders, and collects notes on the way."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.notes: list[str] = []
        self.empty = False

    def files(self, room: str, endings: Sequence[str]) -> dict[str, list[Path]]:
        """For each name without its ending the file that is taken, in a list of its own."""
        found = self._series(room) if endings is IMAGES else {}
        folder = self.folder / room
        for entry in sorted(self._entries(room), key=lambda entry: entry.name):
            if entry.name.startswith(".") or not ending(entry.name, endings):
                continue
            path = folder / entry.name
            try:
                regular, size = entry.is_file(), entry.stat().st_size
            except OSError:  # a link to nothing, or a file that is gone by now
                continue
            if not regular:
                continue
            if not size:
                self.empty = True
            elif not _is_text(entry.name):
                self._note(path, "its name is no valid text; rename it")
            else:
                found.setdefault(stem(entry.name), []).append(path)
        for name, paths in found.items():
            if len(paths) > 1:
                taken, *others = sorted(paths, key=lambda path: (_rank(path, endings), path.name))
                for path in others:
                    self.leave_out(path, taken)
                found[name] = [taken]
        return found

    def _series(self, room: str) -> dict[str, list[Path]]:
        """The folders in a room that hold a DICOM series, by their names; the rooms themselves are none."""
        found: dict[str, list[Path]] = {}
        for entry in self._entries(room):
            is_room = not room and entry.name in (*IMAGE_ROOMS, DATASET_LABELS, LABELS)
            if is_room or entry.name.startswith(".") or ending(entry.name, IMAGES) or not entry.is_dir():
                continue
            path = self.folder / room / entry.name
            if is_series(path) and _is_text(entry.name):
                found.setdefault(series_name(path), []).append(path)
            elif not any(self._entries(path)):
                self.empty = True
        return found

    def tags(self) -> list[str]:
        names = sorted(entry.name for entry in self._entries(LABELS) if entry.is_dir())
        return [name for name in names if TAG.fullmatch(name) and name != REPLACED]

    def leave_out(self, path: Path, taken: Path) -> None:
        self._note(path, f"has the same name as {one_line(taken.relative_to(self.folder), 200)}; rename one")

    def _note(self, path: Path, what: str) -> None:
        self.notes.append(f"{one_line(path.relative_to(self.folder), 200)}: left out: {what}")

    def _entries(self, room: str) -> Sequence[os.DirEntry[str]]:
        try:
            with os.scandir(self.folder / room) as entries:
                return list(entries)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            self._note(self.folder / room, f"cannot be listed: {error.strerror}")
            return []


def _rank(path: Path, endings: Sequence[str]) -> int:
    """Of two files of one name the one with the lower rank is taken; a folder has no ending, and comes last."""
    end = ending(path.name, READ)
    return endings.index(end) if end in endings else len(endings)


def _is_text(name: str) -> bool:
    """Whether a name can be sent to anyone: bytes that are no UTF-8 stand in it as surrogates."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
