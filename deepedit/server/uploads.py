"""Files that clients send: counted while they come, counted again while they are decompressed, kept for a while."""

import gzip
import hashlib
import math
import secrets
import shutil
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deepedit.errors import DeepEditError, FileError
from deepedit.files import one_line
from deepedit.io.suffixes import SEGMENTATION, ending
from deepedit.server.errors import TooLarge
from deepedit.server.scratch import Scratch
from deepedit.server.uploaded import true_ending

LARGEST_BODY = 2**31
"""Bytes of a request."""
LARGEST_CONTENT = 2**32
"""Bytes of a file after decompression."""
DICOM = ".dcm"
BLOCK = 2**20


def suffix_of(name: str, endings: Sequence[str]) -> str:
    """The suffix of a file that a client sent.

    Slicer uses the suffix of its settings for images, too, and writes a plain NRRD where that is ``.seg.nrrd``.

    Args:
        endings: those that are taken.

    Raises:
        FileError: if it is none of them.
    """
    if suffix := ending(name, endings):
        return suffix
    if ending(name, (SEGMENTATION,)) and ".nrrd" in endings:
        return ".nrrd"
    raise FileError(f"{one_line(name, 100)!r}: only {', '.join(endings)} are read; save it in one of these formats")


def refuse_bomb(path: Path, suffix: str, name: str, largest: int = LARGEST_CONTENT) -> None:
    """Raise an error where a file holds more than it may once it is decompressed, or is no such file.

    Args:
        path: of the file.
        suffix: of its format.
        name: for the message.
        largest: bytes that are taken.
    """
    if suffix == ".nii.gz" or true_ending(path) == ".nii.gz":  # readers of NIfTI go by the content
        try:
            with gzip.open(path) as stream:
                size = 0
                while block := stream.read(BLOCK):
                    size += len(block)
                    if size > largest:
                        break
        except (OSError, EOFError, zlib.error) as error:
            raise FileError(f"{name}: is damaged or no gzip file; send it again") from error
    elif suffix == ".nii":
        size = path.stat().st_size
    else:
        size = _declared(path, name)
    if size > largest:
        raise TooLarge(f"{name}: holds more than {largest / 2**30:.1f} GiB; crop or resample it first")


def _declared(path: Path, name: str) -> int:
    """Bytes that the header of a NRRD or MetaImage file announces, which is all that is ever read of it."""
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise FileError(f"{name}: is damaged or of another format than its name says; send it again") from error
    return math.prod(reader.GetSize()) * reader.GetNumberOfComponents() * 8  # no type takes more


@dataclass(frozen=True)
class Kept:
    """An image that a viewer sent for as long as it works on it.

    Attributes:
        key: its name for the viewer.
        path: where it lies.
        name: as the viewer called it.
        digest: of its bytes.
        size: in bytes.
        created, used, expiry: when it came and was last used, and seconds for which it is then kept.
    """

    key: str
    path: Path
    name: str
    digest: str
    size: int
    created: float
    used: float
    expiry: float

    def facts(self) -> dict[str, object]:
        """What the protocol tells of it."""
        return {
            "name": self.name,
            "path": self.path.name,
            "image": self.path.name,
            "meta": {},
            "create_ts": int(self.created),
            "last_access_ts": int(self.used),
            "expiry": int(self.expiry),
        }


class KeptImages:
    """Images that viewers sent and that are no cases of the studies. They go an hour after they were last used, and the
    oldest earlier where all take too much of the disk.

    Args:
        largest: bytes that they may take.
    """

    EXPIRY = 3600.0

    def __init__(self, largest: int = 16 * 2**30) -> None:
        self.largest = largest
        self._scratch = Scratch()
        self.folder = self._scratch.path / "images"
        self.folder.mkdir()
        self._kept: dict[str, Kept] = {}
        self._uses: Counter[Path] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def receive(self, stream: BinaryIO, suffix: str) -> Iterator[Path]:
        """A file with what a stream holds, which goes when the block ends unless it was moved away."""
        path = self.folder / f"{secrets.token_hex(16)}{suffix}"
        try:
            with path.open("xb") as file:
                shutil.copyfileobj(stream, file, BLOCK)
            yield path
        finally:
            path.unlink(missing_ok=True)

    def keep(self, path: Path, suffix: str, name: str, expiry: float = 0) -> Kept:
        """Keep a received file. One with the same content that is kept already is taken in its place.

        Args:
            path: from `receive`.
            suffix: of its format.
            name: as the viewer calls it.
            expiry: seconds; 0 for the usual hour.
        """
        digest = _digest(path)
        now = time.time()
        with self._lock:
            for same in self._kept.values():
                if same.digest == digest and same.path.name.endswith(suffix):
                    return self._touch(same, now)
            key = secrets.token_urlsafe(16)
            target = self.folder / f"image-{secrets.token_hex(8)}{suffix}"
            path.rename(target)
            size, seconds = target.stat().st_size, expiry if expiry > 0 else self.EXPIRY
            self._kept[key] = Kept(key, target, name, digest, size, now, now, seconds)
            self._drop(now)
            return self._kept[key]

    def find(self, key: str) -> Kept | None:
        """An image that is still kept, which then counts as used; None if it is gone."""
        with self._lock:
            return self._find(key, time.time())

    @contextmanager
    def using(self, key: str) -> Iterator[Kept | None]:
        """The same, and its file stays until the block ends, even if the image is given up meanwhile.

        A request may wait for longer than its image is kept.
        """
        with self._lock:
            kept = self._find(key, time.time())
            if kept is not None:
                self._uses[kept.path] += 1
        try:
            yield kept
        finally:
            if kept is not None:
                with self._lock:
                    self._release(kept)

    def remove(self, key: str) -> bool:
        """Give an image up; whether there was one."""
        with self._lock:
            return key in self._kept and self._give_up(key)

    def close(self) -> None:
        """Remove all of them."""
        self._scratch.close()

    def _find(self, key: str, now: float) -> Kept | None:
        self._drop(now)
        found = self._kept.get(key)
        return found and self._touch(found, now)

    def _release(self, kept: Kept) -> None:
        self._uses -= Counter([kept.path])
        if kept.key in self._kept:
            self._touch(self._kept[kept.key], time.time())
        elif not self._uses[kept.path]:
            kept.path.unlink(missing_ok=True)

    def _touch(self, kept: Kept, now: float) -> Kept:
        self._kept.pop(kept.key)
        self._kept[kept.key] = replace(kept, used=now)
        return self._kept[kept.key]

    def _drop(self, now: float) -> None:
        """Give up what is too old, and of what is too much the oldest, but never the newest."""
        for kept in [each for each in self._kept.values() if now - each.used > each.expiry]:
            self._give_up(kept.key)
        while len(self._kept) > 1 and sum(kept.size for kept in self._kept.values()) > self.largest:
            self._give_up(next(iter(self._kept)))

    def _give_up(self, key: str) -> bool:
        path = self._kept.pop(key).path
        if not self._uses[path]:
            path.unlink(missing_ok=True)
        return True


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


class Counted:
    """An ASGI application whose requests have bodies of a bounded size.

    Args:
        app: the application.
        largest: bytes.
    """

    def __init__(self, app: ASGIApp, largest: int = LARGEST_BODY) -> None:
        self.app, self.largest = app, largest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        size = 0

        async def counting() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > self.largest:
                raise TooLarge(f"a request of more than {self.largest / 2**30:.1f} GiB is not taken")
            return message

        await self.app(scope, counting, send)


def refuse_announced(headers: Mapping[str, str], largest: int = LARGEST_BODY) -> None:
    """Raise `TooLarge` where a request announces a body that is too large, before any of it is read."""
    announced = headers.get("content-length", "0")
    if not announced.isdigit():
        raise DeepEditError("the Content-Length of the request is no number")
    if int(announced) > largest:
        raise TooLarge(f"a request of more than {largest / 2**30:.1f} GiB is not taken")
