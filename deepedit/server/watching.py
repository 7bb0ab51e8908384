"""A folder that others change as well, listed again whenever it has changed."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deepedit.errors import DatasetError
from deepedit.io.studies_folder import StudiesFolder, read_studies_folder, watched
from deepedit.server.errors import Unavailable

SETTLED_NS = 2 * 10**9
"""A change in the same tick of a file system's clock as the last look cannot be seen; some tick every two seconds."""


class WatchedFolder:
    """A folder of studies, as it is at each look.

    Args:
        folder, image_channels: as for `read_studies_folder`.
        say: is told, once, each line on what is left out.

    Raises:
        DatasetError: if the folder cannot be listed.
    """

    def __init__(self, folder: Path, image_channels: int | None, say: Callable[[str], None]) -> None:
        self._folder, self._channels, self._say = folder, image_channels, say
        self._lock = threading.Lock()
        self._said: set[str] = set()
        self._state: tuple[Any, ...] | None = None
        self._found = self._list()

    def look(self) -> StudiesFolder:
        """What is in the folder now. It is not listed where no folder in it has changed.

        Raises:
            Unavailable: if it cannot be listed any more.
        """
        with self._lock:
            state = self._times()
            if state != self._state or self._found.empty:
                try:
                    self._found = self._list()
                except DatasetError as error:
                    raise Unavailable(str(error)) from error
                settled = time.time_ns() - max((changed for _, changed in state), default=0) > SETTLED_NS
                self._state = state if settled else None
            return self._found

    def forget(self) -> None:
        """List the folder at the next look whether it seems to have changed or not."""
        with self._lock:
            self._state = None

    def _list(self) -> StudiesFolder:
        found = read_studies_folder(self._folder, self._channels)
        for note in found.notes:
            if note not in self._said:
                self._said.add(note)
                self._say(note)
        return found

    def _times(self) -> tuple[tuple[Path, int], ...]:
        """The folders that are watched and the time at which each was changed; those that are missing are left out."""
        times = []
        for path in watched(self._folder, self._found):
            try:
                times.append((path, path.stat().st_mtime_ns))
            except OSError:
                continue
        return tuple(times)
