"""Files made for viewers, of what they cannot be sent as it is."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from deepedit.files import one_line
from deepedit.io.volumes import read_volume, write_volume
from deepedit.server.checksums import file_state
from deepedit.server.durable import unfinished


class Copies:
    """NIfTI files made of other files: once, and again where those have changed. They go with what they are made of,
    and with the next start.

    Args:
        folder: for them; nothing else is in it.
        say: is told, in a line, what is removed.
    """

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self._folder, self._say = folder, say
        self._made: dict[Path, tuple[Path, tuple[int, int]]] = {}
        if count := sum(path.is_file() for path in folder.glob("*/*")):
            shutil.rmtree(folder, ignore_errors=True)
            say(f"removed {count} files that were made for viewers before this start")

    def of(self, source: Path, room: str, name: str, write: Callable[[Path], None]) -> Path:
        """The file made of another one, or of a folder.

        Args:
            source: that.
            room: folder for copies of this kind.
            name: of the copy, without the ending.
            write: makes it, at a path.

        Raises:
            DeepEditError: if it cannot be made.
        """
        copy, state = self._folder / room / f"{name}.nii.gz", file_state(source)
        if self._made.get(copy) != (source, state) or not copy.exists():
            with unfinished(copy.parent, ".nii.gz", one_line(source.name)) as new:
                write(new)
                new.replace(copy)
            self._made[copy] = source, state
            self._drop_orphans()
        return copy

    def _drop_orphans(self) -> None:
        for copy, (source, _) in list(self._made.items()):
            if not source.exists():
                self._made.pop(copy, None)
                copy.unlink(missing_ok=True)
                self._say(f"removed what was made for viewers of {one_line(source.name, 100)}, which is gone")


def write_image(series: Path, target: Path) -> None:
    """Write the voxels of a DICOM series as NIfTI, which says nothing of the patient.

    Raises:
        FileError: if it cannot be read, or written.
    """
    volume = read_volume(series)
    whole = (volume.data == np.rint(volume.data)).all() and np.abs(volume.data).max() < 2**15
    write_volume(target, volume.data, volume, np.int16 if whole else np.float32)
