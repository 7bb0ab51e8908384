"""What is in the folder of images and label maps that a server works on, by ids."""

import os
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deepedit.files import one_line
from deepedit.io.pairing import Case
from deepedit.io.studies_folder import FINAL, ORIGINAL, StudiesFolder
from deepedit.io.suffixes import DICOM, ending
from deepedit.io.volumes import read_grid, read_label, read_label_on, write_label
from deepedit.plan import Labels
from deepedit.server.checksums import Checksums
from deepedit.server.copies import Copies, write_image
from deepedit.server.dicomweb import DicomStore, is_uid
from deepedit.server.errors import NotFound
from deepedit.server.facts import Facts
from deepedit.server.listing import described, facts_key, listing
from deepedit.server.names import checked_tag, safe_id, short
from deepedit.server.submits import write_ranks
from deepedit.server.watching import WatchedFolder
from deepedit.volume import DEFAULT_READING, Reading

OWN = ".deepedit"
"""The folder for what the server keeps for itself."""


class Catalogue:
    """What is in a folder of studies, laid out as `deepedit.io.studies_folder` says. All methods may be called by any
    thread.

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
        self._checksums = Checksums()
        self._folder = WatchedFolder(self.folder, image_channels, say)
        self._facts = Facts(self.folder / OWN / "facts.json", say)
        self._copies = Copies(self.folder / OWN / "copies", say)

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
        source = case.image[0]
        if not source.is_dir():
            return source
        return self._copies.of(source, "series", short(case.name), lambda new: write_image(source, new))

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
        path = there(found.label(each, tag), each, tag)
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

        return self._copies.of(path, f"label-{tag}", short(each), write)

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

    def image_info(self, name: str) -> dict[str, Any]:
        """Facts about an image: when its file was changed, what it is called, and what `set_image_info` was given."""
        return self._facts.get(facts_key(self.id_of(name))) | described(self.image_file(name))

    def label_info(self, name: str, tag: str) -> dict[str, Any]:
        """Facts about a label map, as `image_info`.

        Raises:
            NotFound: if there is none.
        """
        each = self.id_of(name)
        return self._facts.get(facts_key(each, tag)) | described(there(self.label(each, tag), each, tag))

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


def _id_in(found: StudiesFolder, name: str) -> str:
    """The id of an image that is called by whatever name."""
    for called in (unicodedata.normalize("NFC", name), safe_id(name) if name.strip() else name):
        if called in found.ids:
            return found.ids[called]
    raise NotFound(f"there is no image {one_line(name, 100)!r} in the folder of studies; fetch the list again")


def there(path: Path | None, case_id: str, tag: str) -> Path:
    """A label file, if there is one."""
    if path is None:
        raise NotFound(f"{one_line(case_id, 100)} has no label of the tag {tag}; fetch the list again")
    return path
