"""How SimpleITK is called: imported where it is needed, kept quiet, and its errors brought to one line."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from deepedit.errors import FileError
from deepedit.files import one_line
from deepedit.io.itk_check import AGAIN

ITK_PREFIX = re.compile(r"^(\[nrrd\] |(itk::|ITK )ERROR: )?(\w+\(0x[0-9a-f]+\): |\w+: )*")
"""What stands before the reason in the last line of an error: classes, their addresses, and functions."""

_quieting = threading.Lock()
_quiet_readers = 0
_before: Any = None  # whether ITK printed warnings before


def simpleitk(name: str) -> Any:
    """SimpleITK; a FileError about the file of that name if it is not installed."""
    try:
        import SimpleITK
    except ImportError as error:
        raise FileError(
            f"{name}: files of this format need SimpleITK; install it with: pip install 'deepedit[formats]'"
        ) from error
    return SimpleITK


@contextmanager
def written(name: str) -> Iterator[None]:
    """A context in which what goes wrong with a file that ITK writes becomes one line with its name."""
    try:
        yield
    except (RuntimeError, FileError) as error:
        reason = _reason(error) if isinstance(error, RuntimeError) else "it is not whole when it is read again"
        raise FileError(
            f"{name}: cannot be written ({one_line(reason, 120)}); free some space, or choose another disk; "
            "nothing was left behind"
        ) from error


@contextmanager
def named(name: str) -> Iterator[None]:
    """A context in which what ITK raises becomes one line with the name of the file."""
    try:
        yield
    except MemoryError as error:
        raise FileError(f"{name}: too large for this machine's memory; crop or resample it") from error
    except (RuntimeError, UnicodeError, OverflowError, ValueError) as error:
        reason = _reason(error)
        if "got only" in reason or "but received" in reason:
            raise FileError(f"{name}: cut short in its voxels; {AGAIN}") from error
        if "allocate memory" in reason:
            raise FileError(f"{name}: too large for this machine's memory; crop or resample it") from error
        raise FileError(f"{name}: cannot be read ({one_line(reason, 160)}); {AGAIN}") from error


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return ITK_PREFIX.sub("", lines[-1]) if lines else type(error).__name__


@contextmanager
def quiet(sitk: Any) -> Iterator[None]:
    """A context in which ITK prints no warnings; several threads may be in it at once."""
    global _quiet_readers, _before
    with _quieting:
        if not _quiet_readers:
            _before = sitk.ProcessObject.GetGlobalWarningDisplay()
            sitk.ProcessObject.SetGlobalWarningDisplay(False)
        _quiet_readers += 1
    try:
        yield
    finally:
        with _quieting:
            _quiet_readers -= 1
            if not _quiet_readers:
                sitk.ProcessObject.SetGlobalWarningDisplay(_before)
