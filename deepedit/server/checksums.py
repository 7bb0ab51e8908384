"""Checksums of files, worked out once for each content."""

import hashlib
import threading
from pathlib import Path

from deepedit.errors import FileError
from deepedit.files import one_line, open_for_reading
from deepedit.io.suffixes import parts

BLOCK = 2**20


class Checksums:
    """Remembers the checksum of each file, or folder of a DICOM series, until its size or time of change is another."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[Path, tuple[tuple[int, int], str]] = {}

    def of(self, path: Path) -> str:
        """``SHA256:`` and the digest of the content of a file, or of all files of a folder.

        Raises:
            FileError: if it cannot be read.
        """
        state = file_state(path)
        with self._lock:
            known = self._known.get(path)
        if known is not None and known[0] == state:
            return known[1]
        digest = hashlib.sha256()
        for file in parts(path) if path.is_dir() else (path,):
            with open_for_reading(file) as stream:
                try:
                    while block := stream.read(BLOCK):
                        digest.update(block)
                except OSError as error:
                    raise FileError(f"{one_line(file)}: cannot be read: {error.strerror}") from error
        checksum = f"SHA256:{digest.hexdigest()}"
        if file_state(path) == state:  # else it was written to meanwhile
            with self._lock:
                self._known[path] = state, checksum
        return checksum


def file_state(path: Path) -> tuple[int, int]:
    """Size and time of change of a file; of a folder of a DICOM series, those of all files in it and of itself.

    Raises:
        FileError: if it is gone.
    """
    try:
        status = path.stat()
        if path.is_dir():
            each = [status, *(file.stat() for file in parts(path))]
            return sum(one.st_size for one in each), max(one.st_mtime_ns for one in each)
    except OSError as error:
        raise FileError(f"{one_line(path)}: cannot be read: {error.strerror}; look the list up again") from error
    return status.st_size, status.st_mtime_ns
