"""A DICOM store that is spoken to by DICOMweb: its series are fetched as images, and segmentations of them stored.

Of a series that is fetched, the disk gets what makes the image, and nothing of what is said of the patient.
Source: DICOM PS3.18, https://dicom.nema.org/medical/dicom/current/output/html/part18.html.
"""

import logging
import re
import shutil
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from deepedit.errors import DeepEditError
from deepedit.files import make_folder, one_line
from deepedit.io.dicom_header import MODALITY_LUT, NUMBERS, TEXTS, VOXELS, read_header
from deepedit.io.dicom_seg import by_highdicom, segmentation_of
from deepedit.server.errors import NotFound, Unavailable
from deepedit.server.store_login import REFUSED, StoreLogin
from deepedit.volume import Volume

UID = re.compile(r"[0-9]{1,30}(\.[0-9]{1,40}){1,20}")
STUDY_UID = 0x0020000D
KEPT = (*TEXTS, *NUMBERS, MODALITY_LUT, VOXELS, STUDY_UID)
"""The elements of a slice that are written to the disk."""

TOLD = ("Modality", "StudyDate", "StudyTime", "PatientID", "StudyInstanceUID", "SeriesInstanceUID", "RetrieveURL")
"""What viewers are told of a series, by keyword."""

IMAGES = ("CT", "MR", "PT", "NM")
"""Modalities of which series are offered to be segmented."""

LISTED_SECONDS = 30.0
"""How long the list of series counts as new."""

UNFINISHED = ".deepedit-*.tmp"
"""Names of the folders of series that are being fetched."""

# Used by the client, and would print a traceback for each try that fails.
logging.getLogger("retrying").addHandler(logging.NullHandler())


def is_uid(text: str) -> bool:
    """Whether a text could be the SeriesInstanceUID of a series."""
    return len(text) <= 64 and UID.fullmatch(text) is not None


class DicomStore:
    """The series of a store. All methods may be called by any thread.

    Args:
        url: of its DICOMweb service, such as ``http://localhost:8042/dicom-web``.
        folder: for the series that are fetched, a folder for each, by its UID.
        limit: bytes that those may take together.
        say: is told, in a line, what was removed to keep within the limit.
        login: a file with what the store asks for, as for `StoreLogin`; None where it asks for nothing.

    Raises:
        DeepEditError: if the extra ``dicom`` is not installed, or the file does not log in.
    """

    def __init__(
        self,
        url: str,
        folder: Path,
        limit: int,
        say: Callable[[str], None] = lambda line: None,
        login: Path | None = None,
    ) -> None:
        try:
            import dicomweb_client  # noqa: F401
            import highdicom  # noqa: F401
        except ImportError as error:
            raise DeepEditError(f"{error.name} is not installed; pip install 'deepedit[dicom]' brings it") from error
        self.url, self.folder = url.rstrip("/"), folder.absolute()
        self.login = None if login is None else StoreLogin(login, url)
        self._limit, self._say = limit, say
        self._lock = threading.Lock()
        self._used: dict[str, float] = {}
        self._listed: tuple[float, dict[str, dict[str, str]]] = (-LISTED_SECONDS, {})

    def remove_left_behind(self) -> None:
        """Remove what servers that were killed had fetched in part; no other one may be at work in the folder."""
        for left in self.folder.glob(UNFINISHED):
            shutil.rmtree(left, ignore_errors=True)

    def series(self) -> dict[str, dict[str, str]]:
        """What viewers are told of each series of images, by its UID, in the order of studies and series.

        Raises:
            Unavailable: if the store does not answer.
        """
        then, found = self._listed
        if time.monotonic() - then < LISTED_SECONDS:
            return found
        with self._asked() as client:
            listed = [_facts(each) for each in client.search_for_series(fields=["StudyDate", "StudyTime", "PatientID"])]
        images = [each for each in listed if each["Modality"] in IMAGES and is_uid(each["SeriesInstanceUID"])]
        images.sort(key=lambda each: (each["StudyDate"], each["StudyInstanceUID"], each["SeriesInstanceUID"]))
        found = {each["SeriesInstanceUID"]: each for each in images}
        self._listed = time.monotonic(), found
        return found

    def fetch(self, uid: str, kept: Collection[str] = ()) -> Path:
        """The folder with the slices of a series, fetched unless it is there.

        Args:
            uid: SeriesInstanceUID.
            kept: those of series that are not removed to keep within the limit.

        Raises:
            NotFound: if the store has no such series.
            Unavailable: if it does not answer.
        """
        if not is_uid(uid):
            raise NotFound(f"{one_line(uid, 80)!r} is not the UID of a series")
        target = self.folder / uid
        # Whoever asks for what is there need not wait until another series has been fetched.
        if not target.is_dir():
            with self._lock:
                if not target.is_dir():
                    self._fetch(uid, target)
                    self._make_room({uid, *kept})
        self._used[uid] = time.monotonic()
        return target

    def send(self, uid: str, labels: np.ndarray, like: Volume, names: Mapping[int, str]) -> None:
        """Store a DICOM SEG of a series, whose patient is that of the series.

        Args:
            uid: SeriesInstanceUID.
            labels: ``[X, Y, Z]``, file values.
            like: the image, as it was read of the folder that `fetch` gave.
            names: of values.

        Raises:
            NotFound: if the store does not have the series any more.
            Unavailable: if it does not answer, or does not take the segmentation.
        """
        import pydicom

        with self._asked() as client, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            listed = client.retrieve_series_metadata(self._study_of(client, uid), uid)
            by_uid = {}
            for each in listed:
                source = pydicom.Dataset.from_json({key: value for key, value in each.items() if key != "7FE00010"})
                source.file_meta = pydicom.dataset.FileMetaDataset()
                source.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
                by_uid[str(source.SOPInstanceUID)] = source
            order = [read_header(path).instance or "" for path in like.slices]
            if not by_uid.keys() >= set(order):
                raise Unavailable("the DICOM store has another series of this name by now; open it again")
            with by_highdicom("the segmentation", "cannot be made a DICOM SEG of its series"):
                sources = [by_uid[instance] for instance in order]
                segmentation = segmentation_of(sources, labels, like, names, automatic=False)
            client.store_instances([segmentation])

    def refusal(self) -> Unavailable:
        """The error to raise where the store lets this server not in."""
        mend = "start it with --dicomweb-login" if self.login is None else "renew the file of --dicomweb-login"
        return Unavailable(f"the DICOM store does not let this server in; {mend}")

    def _fetch(self, uid: str, target: Path) -> None:
        import pydicom

        make_folder(self.folder)
        # Hidden, so that it is no image before it is whole.
        prefix, _, suffix = UNFINISHED.partition("*")
        unfinished = Path(tempfile.mkdtemp(prefix=prefix, suffix=suffix, dir=self.folder))
        try:
            with self._asked() as client, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                for number, given in enumerate(client.iter_series(self._study_of(client, uid), uid)):
                    file = pydicom.dataset.FileDataset("", {}, preamble=bytes(128))
                    file.update({given[tag].tag: given[tag] for tag in KEPT if tag in given})
                    file.file_meta = pydicom.dataset.FileMetaDataset()
                    file.file_meta.TransferSyntaxUID = given.file_meta.TransferSyntaxUID
                    file.file_meta.MediaStorageSOPClassUID = given.SOPClassUID
                    file.file_meta.MediaStorageSOPInstanceUID = given.SOPInstanceUID
                    file.save_as(unfinished / f"{number:05d}.dcm", enforce_file_format=True)
            unfinished.rename(target)
        except OSError as error:
            raise Unavailable(f"{one_line(target.name)}: cannot be kept: {error.strerror}; free some space") from error
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)

    def _make_room(self, kept: Collection[str]) -> None:
        """Remove the series that were not asked for for the longest time, until the others are within the limit."""
        sizes = {
            each.name: sum(file.stat().st_size for file in each.iterdir())
            for each in self.folder.iterdir()
            if UID.fullmatch(each.name) and each.is_dir()
        }
        for uid in sorted(sizes, key=lambda uid: self._used.get(uid, 0.0)):
            if sum(sizes.values()) <= self._limit:
                break
            if uid not in kept:
                shutil.rmtree(self.folder / uid, ignore_errors=True)
                del sizes[uid]
                self._say(f"the series {uid} was removed from the cache, and is fetched again when it is asked for")

    def _study_of(self, client: Any, uid: str) -> str:
        found = client.search_for_series(search_filters={"SeriesInstanceUID": uid})
        if not found:
            raise NotFound(f"there is no series {one_line(uid, 80)} in the DICOM store")
        return _facts(found[0])["StudyInstanceUID"]

    @contextmanager
    def _asked(self) -> Iterator[Any]:
        """A client of the store; what goes wrong becomes one sentence, without what the store says of a patient."""
        from dicomweb_client import DICOMwebClient
        from requests import RequestException, Session

        try:
            with Session() as session:
                session.auth = self.login
                client = DICOMwebClient(self.url, session)
                # Someone waits: by itself it would try for half a minute.
                client.set_http_retry_params(max_attempts=3, wait_exponential_multiplier=250)
                yield client
        except RequestException as error:
            status = getattr(error.response, "status_code", None)
            if status in REFUSED:
                raise self.refusal() from error
            answer = f"answers {status}" if status else "does not answer"
            raise Unavailable(f"the DICOM store {answer}; try again, or look whether it runs") from error
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            kind = type(error).__name__
            raise Unavailable(f"the DICOM store answers something that cannot be read ({kind})") from error


def _facts(entry: Mapping[str, Any]) -> dict[str, str]:
    """Elements of an answer in JSON, by keyword; empty where there is none."""
    from pydicom.datadict import tag_for_keyword

    found = {}
    for keyword in TOLD:
        value = entry.get(f"{tag_for_keyword(keyword):08X}", {}).get("Value", [""])
        found[keyword] = str(value[0]) if value else ""
    return found
