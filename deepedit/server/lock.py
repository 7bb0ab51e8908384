"""One server at a time on a folder of studies."""

import errno
import os
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from deepedit.errors import DeepEditError
from deepedit.files import make_folder, one_line

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

LOCK = "lock"
FAR = 2**30
"""The byte that is locked on Windows, where nobody else can read a locked one: behind what the file says."""
TAKEN = (errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK)
MOST_TOLD = 300


class FolderLock:
    """Holds a folder for this process until it is closed, or the process ends, however it does.

    The system's lock on a file counts, and not that the file is there, so that a server that was killed is in nobody's
    way. On NFS, Linux passes such locks to the file server, so that they hold between machines as well, unless the
    folder is mounted with ``nolock`` or ``local_lock``.

    Args:
        folder: for the file, which is made.
        called: what messages call the folder that is held.
        say: is told, in a line, where the disk takes no locks, so that nothing is held.

    Raises:
        DeepEditError: if another process holds it.
    """

    def __init__(self, folder: Path, called: Path, say: Callable[[str], None]) -> None:
        self._descriptor: int | None = None
        path = folder / LOCK
        try:
            make_folder(folder)
            descriptor = _opened(path)
        except (OSError, DeepEditError) as error:
            _say_unguarded(called, str(getattr(error, "strerror", error)), say)
            return
        try:
            _lock(descriptor)
        except OSError as error:
            holder = one_line(os.read(descriptor, MOST_TOLD).decode(errors="replace")).strip()
            os.close(descriptor)
            if error.errno in TAKEN:
                raise DeepEditError(
                    f"{one_line(called)}: {holder or 'another process'} serves this folder already; stop that server "
                    "first, or serve another folder"
                ) from error
            _say_unguarded(called, error.strerror or str(error), say)
            return
        self._descriptor = descriptor
        with suppress(OSError):  # that of another user, or on a disk that is full, is held but does not say by whom
            os.truncate(descriptor, 0)
            os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())

    def close(self) -> None:
        """Let others have the folder."""
        if self._descriptor is not None:
            # What the file says is of no meaning any more. It stays: if it went, two could hold a lock on files of its
            # name, one of which is gone.
            with suppress(OSError):
                os.truncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None


def _opened(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except PermissionError:  # that of another user, which can be locked nevertheless
        return os.open(path, os.O_RDONLY)


def _lock(descriptor: int) -> None:
    """Lock a file; an OSError with one of `TAKEN` if another process has."""
    if sys.platform == "win32":
        os.lseek(descriptor, FAR, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)
    else:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _say_unguarded(called: Path, why: str, say: Callable[[str], None]) -> None:
    say(f"note: {one_line(called)} cannot be locked ({one_line(why, 200)}); take care that no other server works on it")
