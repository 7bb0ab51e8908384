"""A folder for the server's temporary files, which holds what viewers sent and does not outlive the server for long."""

import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows, where a folder that a killed server left stays
    fcntl = None  # type: ignore[assignment]  # a module, or nothing

PREFIX = "deepedit-server-"
MARK = ".of-deepedit-serve"
"""A folder in it, without which it is taken for somebody else's."""
SECONDS_TO_LOCK = 60.0
"""A folder that is younger may be one that another server has made and not yet locked."""


class Scratch:
    """A temporary folder that is removed at the end; if the server was killed, the next one that starts removes it.

    A running server holds a lock on its folder, which the system releases however the process ends.

    Attributes:
        path: the folder.
    """

    def __init__(self) -> None:
        remove_abandoned()
        self._folder = tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True)
        self.path = Path(self._folder.name)
        self._lock = _lock(self.path)
        (self.path / MARK).mkdir()

    def close(self) -> None:
        """Remove the folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        self._folder.cleanup()


def remove_abandoned() -> None:
    """Remove the folders of servers that no longer run."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):  # those of other users, among others
            if folder.is_symlink() or not (folder / MARK).is_dir():
                continue
            if time.time() - folder.stat().st_mtime < SECONDS_TO_LOCK:
                continue
            lock = _lock(folder)
            if lock is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(lock)


def _lock(folder: Path) -> int | None:
    """Lock a folder until what is returned is closed; None where another process holds it, or the system cannot."""
    if fcntl is None:
        return None
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
