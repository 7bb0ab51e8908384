"""Checksums of files, worked out once for each content."""

import hashlib
import threading
from pathlib import Path

from deepedit.errors import FileError
from deepedit.files import one_line, open_for_reading

BLOCK = 2**20


class Checksums:
    """Remembers the checksum of each file until its size or its time of change is another."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[Path, tuple[tuple[int, int], str]] = {}

    def of(self, path: Path) -> str:
        """``SHA256:`` and the digest of a file's content.

        Raises:
            FileError: if it cannot be read.
        """
        state = file_state(path)
        with self._lock:
            known = self._known.get(path)
        if known is not None and known[0] == state:
            return known[1]
        digest = hashlib.sha256()
        with open_for_reading(path) as stream:
            try:
                while block := stream.read(BLOCK):
                    digest.update(block)
            except OSError as error:
                raise FileError(f"{one_line(path)}: cannot be read: {error.strerror}") from error
        checksum = f"SHA256:{digest.hexdigest()}"
        if file_state(path) == state:  # else it was written to meanwhile
            with self._lock:
                self._known[path] = state, checksum
        return checksum


def file_state(path: Path) -> tuple[int, int]:
    """Size and time of change of a file.

    Raises:
        FileError: if it is gone.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise FileError(f"{one_line(path)}: cannot be read: {error.strerror}; look the list up again") from error
    return status.st_size, status.st_mtime_ns
