"""The folder of images and label maps that a server works on: what is there, by ids, and all that is written to it."""

import os
import shutil
import threading
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deepedit.errors import DeepEditError, FileError
from deepedit.files import one_line
from deepedit.io.msd import read_case
from deepedit.io.pairing import Case
from deepedit.io.studies_folder import (
    DATASET_LABELS,
    FINAL,
    LABELS,
    ORIGINAL,
    REPLACED,
    StudiesFolder,
)
from deepedit.io.suffixes import DICOM, ending
from deepedit.io.volumes import read_grid, read_label, read_label_on, read_volume, write_label, write_volume
from deepedit.plan import Labels
from deepedit.server.checksums import Checksums, file_state
from deepedit.server.dicomweb import DicomStore, is_uid
from deepedit.server.durable import keep, remove_left_behind, replace_and_keep, sync_file, sync_folder, unfinished
from deepedit.server.errors import NotFound, Unavailable
from deepedit.server.facts import Facts
from deepedit.server.listing import SENT_SERIES, described, facts_key, listing
from deepedit.server.names import MAX_BYTES, checked_tag, safe_id
from deepedit.server.submits import submitted, write_ranks
from deepedit.server.uploaded import same_image, sent_image, true_ending
from deepedit.server.watching import WatchedFolder
from deepedit.volume import DEFAULT_READING, Reading

OWN = ".deepedit"
"""The folder for what the server keeps for itself."""


class Studies:
    """A folder of studies, laid out as `deepedit.io.studies_folder` says. All methods may be called by any thread.

    An id is the name of an image without its ending and channel number. Methods take as an id also the name that an
    image was sent under, whatever text that was. A folder that is changed by others is followed.

    Args:
        folder: it has to exist.
        labels: names and file values of the model.
        say: is told, in a line and once, what is left out of the folder.
        image_channels: of the model; tells which files are the channels of one case.
        reading: what is believed of headers that contradict themselves, as the model was trained.
        store: a DICOM store, whose series are cases, too, by their UIDs.

    Raises:
        DeepEditError: if the folder cannot be listed.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        labels: Labels,
        say: Callable[[str], None] = lambda line: None,
        image_channels: int | None = None,
        reading: Reading = DEFAULT_READING,
        store: DicomStore | None = None,
    ) -> None:
        self.folder = Path(folder).absolute()
        self.store = store
        self.labels = labels
        self._reading = reading
        self._writing = threading.Lock()
        self._checksums = Checksums()
        self._copies: dict[Path, tuple[Path, tuple[int, int]]] = {}
        self._folder = WatchedFolder(self.folder, image_channels, say)
        self._facts = Facts(self.folder / OWN / "facts.json", say)
        written = ("", OWN, f"{LABELS}/{REPLACED}", *(f"{LABELS}/{tag}" for tag in self._folder.look().labels))
        for room in written:
            remove_left_behind(self.folder / room)

    # What is there

    def ids(self) -> list[str]:
        """All ids in natural order."""
        return list(self._folder.look().cases)

    def id_of(self, name: str) -> str:
        """The id of an image that is called by its id, by its file, or by the name that it was sent under.

        Raises:
            NotFound: if there is none.
        """
        return self._found(name)[1]

    def images(self, name: str) -> tuple[Path, ...]:
        """The image files of a case: one, or one for each channel."""
        return self._case(name).image

    def image_file(self, name: str) -> Path:
        """The image file of a case that a viewer loads: where each channel has a file, the first.

        Of a DICOM series it is a NIfTI file with its voxels, written once, which says nothing of the patient.

        Raises:
            FileError: if a series cannot be read.
        """
        case = self._case(name)
        if not case.image[0].is_dir():
            return case.image[0]

        def write(new: Path) -> None:
            volume = read_volume(case.image[0])
            whole = (volume.data == np.rint(volume.data)).all() and np.abs(volume.data).max() < 2**15
            write_volume(new, volume.data, volume, np.int16 if whole else np.float32)

        return self._copy_of(case.image[0], self.folder / OWN / "series" / f"{_short(case.name)}{SENT_SERIES}", write)

    def label(self, name: str, tag: str = FINAL) -> Path | None:
        """The label file of a case: of ``final`` the submitted one, else that of the dataset."""
        checked_tag(tag)
        found, each = self._found(name)
        return found.label(each, tag)

    def unlabelled(self) -> dict[str, tuple[Path, ...]]:
        """The ids of the cases without a final label, in natural order, and their image files."""
        found = self._folder.look()
        return {each: case.image for each, case in found.cases.items() if found.label(each, FINAL) is None}

    def label_file(self, name: str, tag: str = FINAL) -> Path:
        """The label file of a case as it is sent to a viewer.

        Slicer imports an ``original`` label by the ``label_names`` of `listing`, so that this one is a copy that has
        1..n in the order of the model's labels. Others have the values that the model has in files. Of a DICOM SEG,
        which may be a part of its image, it is a copy on the grid of the image.

        Raises:
            NotFound: if there is none.
            FileError: if it cannot be read.
        """
        checked_tag(tag)
        found, each = self._found(name)
        path = _there(found.label(each, tag), each, tag)
        is_dicom = bool(ending(path.name, (DICOM,)))
        if tag != ORIGINAL and not is_dicom:
            return path

        def write(new: Path) -> None:
            if is_dicom:
                image = read_grid(found.cases[each].image[0], self._reading.affine, self._reading.units)
                label = read_label_on(image, path, self._reading)
            else:
                label = read_label(path, self._reading.affine, self._reading.units)
            if tag == ORIGINAL:
                write_ranks(label, new, self.labels)
            else:
                write_label(new, label.data, label)

        room = "ranks" if tag == ORIGINAL else f"labels-{tag}"
        return self._copy_of(path, self.folder / OWN / room / f"{_short(each)}.nii.gz", write)

    def _copy_of(self, source: Path, copy: Path, write: Callable[[Path], None]) -> Path:
        """A NIfTI file made of another file or a folder, once, and again when that has changed."""
        state = file_state(source)
        if self._copies.get(copy) != (source, state) or not copy.exists():
            with unfinished(copy.parent, ".nii.gz", one_line(source.relative_to(self.folder))) as new:
                write(new)
                new.replace(copy)
            self._copies[copy] = source, state
        return copy

    def samples(self) -> dict[str, tuple[Path, ...]]:
        """As `unlabelled`, and also the series of the DICOM store that were not fetched yet.

        Raises:
            Unavailable: if the store does not answer.
        """
        found = self.unlabelled()
        if self.store is not None:
            done = self._folder.look().labels.get(FINAL, {})
            found |= {uid: (self.store.folder / uid,) for uid in self.store.series() if uid not in done}
        return found

    def info(self) -> dict[str, Any]:
        """How many cases there are, how many of them have a final label, and how many a label of each tag."""
        found = self._folder.look()
        counts = {tag: len(files) for tag, files in found.labels.items() if files and tag != FINAL}
        completed = len(found.labels.get(FINAL, {}).keys() | found.dataset_labels.keys())
        return {
            "total": len(found.cases),
            "completed": completed,
            "label_tags": ({FINAL: completed} if completed else {}) | counts,
        }

    def listing(self) -> dict[str, Any]:
        """Everything that is there, as MONAI Label describes a datastore."""
        return listing(self._folder.look(), self.labels, self._facts, self.folder.resolve().name)

    def train_pairs(self) -> list[dict[str, Any]]:
        """Image and final label of each case that has one; the image is a list of paths if each channel has a file."""
        found = self._folder.look()
        pairs = [(case, found.label(each, FINAL)) for each, case in found.cases.items()]
        return [
            {"image": str(case.image[0]) if len(case.image) == 1 else [*map(str, case.image)], "label": str(label)}
            for case, label in pairs
            if label is not None
        ]

    def checksum(self, name: str) -> str:
        """``SHA256:`` and the digest of the file that a viewer loads; read once, and again when the file has changed.

        Raises:
            FileError: if it cannot be read.
        """
        return self._checksums.of(self.image_file(name))

    def content_key(self, images: tuple[Path, ...]) -> str:
        """A text that stays the same as long as the content of some image files does."""
        return "+".join(self._checksums.of(path).removeprefix("SHA256:") for path in images)

    # What is written

    def submit(
        self, name: str, file: Path, suffix: str, label_info: Sequence[Mapping[str, Any]] | None, tag: str = FINAL
    ) -> str:
        """Take a label map from a viewer, and return the id of its case.

        It becomes ``labels/<tag>/<id>.nii.gz``, in file values and with the image's header. What it replaces is kept in
        ``labels/replaced``. When this returns it is on the disk. Submits are done one after the other. A final label of
        a series of the DICOM store is also stored there, as DICOM SEG.

        Args:
            name: of the image.
            file: what was sent, under a name that has the suffix.
            suffix: of its format.
            label_info: as for `deepedit.server.submits.submitted`.

        Raises:
            Unavailable: if the DICOM store, from which the image is, does not take it; it is kept here.
            DeepEditError: if the map does not fit the image or the model, or cannot be written; all stays as it was.
        """
        checked_tag(tag)
        with self._writing:
            case = self._case(name)
            image = read_grid(case.image[0], self._reading.affine, self._reading.units)
            values = submitted(file, suffix, label_info, self.labels, image, self._reading, case.name)
            folder = self._label_folder(tag)
            target = folder / f"{case.name}.nii.gz"
            with unfinished(folder, ".nii.gz", one_line(target.relative_to(self.folder), 300)) as new:
                write_label(new, values, image)
                others = [path for path in (target, self._submitted(case.name, tag)) if path and path.exists()]
                replace_and_keep(new, target, list(dict.fromkeys(others)), *self._kept(case.name, tag))
            self._facts.set(facts_key(case.name, tag), {})  # they were about the label that is replaced
            self._folder.forget()
            if self.store is not None and tag == FINAL and case.image[0].parent == self.store.folder:
                self._send(self.store, case, values)
        return case.name

    def _send(self, store: DicomStore, case: Case, values: np.ndarray) -> None:
        """Store a label map in the DICOM store, from which its image is.

        With the ranks of the labels it is a binary segmentation, which all viewers know; there, names count.
        """
        try:
            names = dict(enumerate(self.labels.names, 1))
            store.send(case.name, self.labels.to_classes(values), read_volume(case.image[0]), names)
        except DeepEditError as error:
            raise Unavailable(
                f"the label is kept in the folder of studies, and not stored with its series: {error}"
            ) from error

    def remove_label(self, name: str, tag: str) -> None:
        """Take a label file out of ``labels``; it is kept in ``labels/replaced``.

        Raises:
            NotFound: if there is none.
            DeepEditError: if it belongs to the dataset.
        """
        checked_tag(tag)
        with self._writing:
            each = self.id_of(name)
            path = self._submitted(each, tag)
            if path is None and self.label(each, tag) is not None:
                raise DeepEditError(
                    f"the label of {one_line(each, 100)} lies in {DATASET_LABELS}, which the server leaves alone; "
                    "remove the file there"
                )
            path = _there(path, each, tag)
            try:
                keep(path, *self._kept(each, tag))
                path.unlink()
                sync_folder(path.parent)
            except OSError as error:
                raise FileError(f"{one_line(path)}: cannot be removed: {error.strerror}; check the folder") from error
            self._facts.set(facts_key(each, tag), {})
            self._folder.forget()

    def add_image(self, name: str, file: Path, suffix: str) -> str:
        """Take an image from a viewer into the folder, and return the id that it got.

        An image that is there already under this name is the same one, or the new one is refused: labels may belong to
        it. A DICOM file, which Slicer sends beside an image, is stored in ``.deepedit/dicom`` and is no case.

        Args:
            name: any text.
            file: what was sent, under a name that has the suffix.
            suffix: of its format.

        Raises:
            DeepEditError: if it is no image that can be read, if another one has the name, or if it cannot be written.
        """
        new_id = safe_id(name)
        if suffix.lower() == ".dcm":
            with self._writing:
                self._store(file, self.folder / OWN / "dicom" / f"{new_id}.dcm")
            return new_id
        called = f"the image {one_line(name, 100)}"
        image = sent_image(file, suffix, self._reading, called)
        with self._writing:
            try:
                old_id = self.id_of(name)
            except NotFound:
                pass
            else:
                if not same_image(image, read_case(self._case(old_id), self._reading)):
                    raise DeepEditError(
                        f"{called}: another image of this name is in the folder of studies; rename yours in the "
                        "viewer, and send it again"
                    )
                return old_id
            target = self.folder / f"{new_id}{true_ending(file)}"
            if os.path.lexists(target):
                raise DeepEditError(f"{called}: a file of this name is there already; rename yours in the viewer")
            self._store(file, target)
            self._folder.forget()
        return new_id

    # What clients want to be remembered

    def image_info(self, name: str) -> dict[str, Any]:
        """Facts about an image: when its file was changed, what it is called, and what `set_image_info` was given."""
        return self._facts.get(facts_key(self.id_of(name))) | described(self.image_file(name))

    def set_image_info(self, name: str, info: Mapping[str, Any]) -> None:
        """Remember facts about an image in place of those before.

        Raises:
            DeepEditError: if they are no JSON object, or too many.
        """
        self._facts.set(facts_key(self.id_of(name)), info)

    def label_info(self, name: str, tag: str) -> dict[str, Any]:
        """Facts about a label map, as `image_info`.

        Raises:
            NotFound: if there is none.
        """
        each = self.id_of(name)
        return self._facts.get(facts_key(each, tag)) | described(_there(self.label(each, tag), each, tag))

    def set_label_info(self, name: str, tag: str, info: Mapping[str, Any]) -> None:
        """Remember facts about a label map until it is replaced, as `set_image_info`."""
        each = self.id_of(name)
        _there(self.label(each, tag), each, tag)
        self._facts.set(facts_key(each, tag), info)

    def _case(self, name: str) -> Case:
        found, each = self._found(name)
        return found.cases[each]

    def _found(self, name: str) -> tuple[StudiesFolder, str]:
        """What is in the folder, and the id of an image; a series of the DICOM store is fetched where it is not there.

        Raises:
            NotFound: if there is none.
            DeepEditError: if the store does not give it.
        """
        found = self._folder.look()
        if self.store is not None and is_uid(name):
            try:
                fetched = found.cases[_id_in(found, name)].image[0].parent == self.store.folder
            except NotFound:
                fetched = True
            if fetched:
                # Labels count on their images, in training too.
                self.store.fetch(name, kept=found.labels.get(FINAL, {}))
                if name not in found.cases:
                    self._folder.forget()
                    found = self._folder.look()
        return found, _id_in(found, name)

    def _submitted(self, case_id: str, tag: str) -> Path | None:
        """The label file of a case in ``labels``."""
        return self._folder.look().labels.get(tag, {}).get(case_id)

    def _label_folder(self, tag: str) -> Path:
        """The folder of a tag, which is not the dataset's by way of a link."""
        folder = self.folder / LABELS / tag
        if os.path.realpath(folder) == os.path.realpath(self.folder / DATASET_LABELS):
            raise FileError(
                f"{LABELS}/{tag} is a link to {DATASET_LABELS}, which the server leaves alone; make it a folder"
            )
        return folder

    def _kept(self, case_id: str, tag: str) -> tuple[Path, str]:
        """The folder for what is replaced, and the beginning of a file's name there."""
        stem = _short(case_id)
        return self.folder / LABELS / REPLACED, stem if tag == FINAL else f"{stem}.{tag}"

    def _store(self, file: Path, target: Path) -> None:
        """Copy a file into its place."""
        with unfinished(target.parent, "", one_line(target.relative_to(self.folder), 300)) as new:
            shutil.copyfile(file, new)
            sync_file(new)
            new.replace(target)
            sync_folder(target.parent)


def _id_in(found: StudiesFolder, name: str) -> str:
    """The id of an image that is called by whatever name."""
    for called in (unicodedata.normalize("NFC", name), safe_id(name) if name.strip() else name):
        if called in found.ids:
            return found.ids[called]
    raise NotFound(f"there is no image {one_line(name, 100)!r} in the folder of studies; fetch the list again")


def _there(path: Path | None, case_id: str, tag: str) -> Path:
    """A label file, if there is one."""
    if path is None:
        raise NotFound(f"{one_line(case_id, 100)} has no label of the tag {tag}; fetch the list again")
    return path


def _short(case_id: str) -> str:
    """An id that leaves room for more in a file's name."""
    return case_id if len(case_id.encode()) <= MAX_BYTES else safe_id(case_id)
