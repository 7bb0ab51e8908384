"""Files, and what tells their contents from others: read once for as long as they stay the same."""

import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from deepedit.files import one_line, open_for_reading
from deepedit.inference.session_file import image_digest
from deepedit.io.msd import read_case
from deepedit.io.pairing import Case
from deepedit.server.checksums import file_state
from deepedit.volume import Reading, Volume

T = TypeVar("T")

CHUNK = 2**22  # bytes
MOST_KNOWN = 2**14
"""Files of which the digest is remembered, a few hundred bytes each."""


@dataclass(frozen=True)
class Picture:
    """What is remembered of an image.

    Attributes:
        digest: of its voxels and its affine.
        shape: of its grid.
        notes: on its files.
    """

    digest: str
    shape: tuple[int, int, int]
    notes: tuple[str, ...]


Read = Callable[[Sequence[Path], Reading], Volume]
"""Reads the image in one file, or in several that hold a channel each; errors as of `read_case`."""


class Known:
    """What was worked out from files before, for as long as their size and their time of change stay the same.

    Args:
        read: images by it.
        most: files of which something is remembered.
    """

    def __init__(self, read: Read | None = None, most: int = MOST_KNOWN) -> None:
        self._most = most
        self._read = read or read_image
        self._known: OrderedDict[Hashable, Any] = OrderedDict()

    def picture(self, files: Sequence[Path], reading: Reading) -> tuple[Picture, Volume | None]:
        """What is known of an image.

        Args:
            files: one, or several that hold a channel each.

        Returns:
            That, and the volume, if it had to be read.

        Raises:
            FileError: as of `read_case`.
        """
        volumes: list[Volume] = []

        def read() -> Picture:
            volume = self._read(files, reading)
            volumes.append(volume)
            notes = tuple(f"{one_line(files[0].name)}: {note}" for note in volume.notes)
            return Picture(image_digest(volume), volume.shape, notes)

        return self._once(("image", reading), files, read), next(iter(volumes), None)

    def digest(self, file: Path) -> str:
        """Of the bytes of a file.

        Raises:
            FileError: if it cannot be read.
        """

        def read() -> str:
            digest = hashlib.blake2b(digest_size=16)
            with open_for_reading(file) as stream:
                while part := stream.read(CHUNK):
                    digest.update(part)
            return digest.hexdigest()

        return self._once("bytes", [file], read)

    def _once(self, what: Hashable, files: Sequence[Path], work: Callable[[], T]) -> T:
        # Taken before the files are read: one that is replaced meanwhile is read again the next time.
        key = (what, *map(identity, files))
        if key not in self._known:
            self._known[key] = work()
            while len(self._known) > self._most:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        return self._known[key]


class Handover:
    """The image that was read for a page, until a session on it takes the voxels: a page asks for both at once.

    All methods may be called by any thread.

    Args:
        limit: bytes of voxels; a larger image is read once more.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._left: tuple[Hashable, Volume] | None = None

    def leave(self, files: Sequence[Path], reading: Reading) -> Volume:
        """The image in some files, which is read, and left for `take` in the place of the one before."""
        key = _key(files, reading)  # taken before the files are read, see `Known`
        volume = read_image(files, reading)
        with self._lock:
            self._left = (key, volume) if volume.data.nbytes <= self._limit else None
        return volume

    def take(self, files: Sequence[Path], reading: Reading) -> Volume:
        """The same image, which is not left for anybody else then; it is read where another one was left, or none."""
        key = _key(files, reading)
        with self._lock:
            if self._left is not None and self._left[0] == key:
                volume, self._left = self._left[1], None
                return volume
        return read_image(files, reading)


def read_image(files: Sequence[Path], reading: Reading) -> Volume:
    """The volume of an image in one file, or in several that hold a channel each; errors as of `read_case`."""
    return read_case(Case(files[0].name, tuple(files)), reading)


def _key(files: Sequence[Path], reading: Reading) -> Hashable:
    return reading, *map(identity, files)


def identity(file: Path) -> tuple[str, int, int]:
    """What tells the contents of a file from those that it had before: its size, and the time of its last change."""
    if file.is_dir():
        return str(file), *file_state(file)
    with open_for_reading(file) as stream:
        status = os.fstat(stream.fileno())
    return str(file), status.st_size, status.st_mtime_ns
