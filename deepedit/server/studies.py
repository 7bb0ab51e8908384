"""The folder of images and label maps that a server works on, and all that is written to it."""

import os
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deepedit.errors import DeepEditError, FileError
from deepedit.files import one_line
from deepedit.io.msd import read_case
from deepedit.io.pairing import Case
from deepedit.io.studies_folder import DATASET_LABELS, FINAL, LABELS, REPLACED
from deepedit.io.volumes import read_grid, read_volume, write_label
from deepedit.plan import Labels
from deepedit.server.catalogue import OWN, Catalogue, there
from deepedit.server.dicomweb import DicomStore
from deepedit.server.durable import keep, remove_left_behind, replace_and_keep, sync_file, sync_folder, unfinished
from deepedit.server.errors import NotFound, Unavailable
from deepedit.server.listing import facts_key
from deepedit.server.names import checked_tag, safe_id, short
from deepedit.server.submits import submitted
from deepedit.server.uploaded import same_image, sent_image, true_ending
from deepedit.volume import DEFAULT_READING, Reading


class Studies(Catalogue):
    """A folder of studies that takes images and label maps; arguments and errors as of `Catalogue`.

    All methods may be called by any thread. What was acknowledged is on the disk.
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
        super().__init__(folder, labels, say, image_channels, reading, store)
        self._writing = threading.Lock()
        written = ("", OWN, f"{LABELS}/{REPLACED}", *(f"{LABELS}/{tag}" for tag in self._folder.look().labels))
        for room in written:
            remove_left_behind(self.folder / room)

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
            path = there(path, each, tag)
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

    def set_image_info(self, name: str, info: Mapping[str, Any]) -> None:
        """Remember facts about an image in place of those before.

        Raises:
            DeepEditError: if they are no JSON object, or too many.
        """
        self._facts.set(facts_key(self.id_of(name)), info)

    def set_label_info(self, name: str, tag: str, info: Mapping[str, Any]) -> None:
        """Remember facts about a label map until it is replaced, as `set_image_info`."""
        each = self.id_of(name)
        there(self.label(each, tag), each, tag)
        self._facts.set(facts_key(each, tag), info)

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
        stem = short(case_id)
        return self.folder / LABELS / REPLACED, stem if tag == FINAL else f"{stem}.{tag}"

    def _store(self, file: Path, target: Path) -> None:
        """Copy a file into its place."""
        with unfinished(target.parent, "", one_line(target.relative_to(self.folder), 300)) as new:
            shutil.copyfile(file, new)
            sync_file(new)
            new.replace(target)
            sync_folder(target.parent)
