"""What every reader and writer needs: regular files only, bounded JSON, atomic replacement, free memory."""

import errno
import json
import os
import reprlib
import secrets
import shlex
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from deepedit.errors import DeepEditError, FileError

MAX_JSON_BYTES = 16 * 2**20
MAX_DIGITS = 1000

UNFINISHED = ".deepedit-*.tmp*"
"""Pattern of the name of a file that is being written; behind it stands an ending where its writer goes by that."""


def one_line(text: object, limit: int = 4096) -> str:
    """Text from outside made fit for a one-line message: control characters escaped, cut at `limit` characters."""
    escaped = "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(text)[: limit + 1]
    )
    return escaped if len(escaped) <= limit else escaped[: limit - 3] + "..."


def brief(value: Any, limit: int = 60) -> str:
    """A parsed JSON value as it should appear in a message; hostile nesting and length are cut."""
    return one_line(reprlib.repr(value), limit)


def pasted(option: str, value: object) -> str:
    """An option and its value as a shell takes them, whatever the value holds."""
    text = str(value)
    # What begins with a minus would else be taken for an option itself.
    return f"{option}{'=' if text.startswith('-') else ' '}{shlex.quote(text)}"


def open_for_reading(path: str | os.PathLike[str]) -> BinaryIO:
    """A regular file, opened to be read.

    Raises:
        FileError: if it is missing, a folder, not a regular file (a pipe would wait for ever), or not readable.
    """
    name = one_line(path)
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise FileError(f"{name}: this is a folder, not a file")
        if not stat.S_ISREG(mode):
            raise FileError(f"{name}: this is not a regular file")
        return open(path, "rb")
    except FileNotFoundError as error:
        raise FileError(f"{name}: no such file; check the path") from error
    except PermissionError as error:
        raise FileError(f"{name}: may not be read; check its permissions") from error
    except OSError as error:
        raise FileError(f"{name}: cannot be opened: {error.strerror}") from error
    except ValueError as error:  # a NUL inside of the path
        raise FileError(f"{name}: this is not a valid path") from error


@contextmanager
def replace_atomically(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A binary stream that becomes the file `path` when the block ends well, and vanishes when it does not.

    The bytes go to a hidden temporary file in the same folder, reach the disk, and are then renamed: a reader sees
    the old file or the whole new one, never a half. A symbolic link is followed, so that the link itself stays.

    Raises:
        FileError: if the folder is missing or may not be written, if the disk is full, or if `path` is a folder or
            a device.
    """
    with replace_by_file(path) as temporary, open(temporary, "wb") as stream:
        yield stream


@contextmanager
def replace_by_file(path: str | os.PathLike[str], ending: str = "") -> Iterator[Path]:
    """As `replace_atomically`, for a writer that wants a path: that of an empty temporary file, with this ending."""
    name = one_line(path)
    try:
        target = Path(os.path.realpath(path))
        # Renaming over a device such as /dev/null would replace it for the whole machine.
        if target.exists() and not target.is_file():
            raise FileError(f"{name}: is there already and is not a regular file; choose another name")
        temporary = target.parent / (UNFINISHED.strip("*").replace("*", secrets.token_hex(8)) + ending)
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    except (OSError, ValueError) as error:
        raise FileError(f"{name}: {_why_not_written(error)}") from error
    try:
        yield temporary
        with open(temporary, "rb+") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, target)
    except (OSError, RuntimeError) as error:
        # Where a write fails under torch.save, it ends in a RuntimeError of its own.
        cause = error if isinstance(error, OSError) else error.__context__
        if not isinstance(cause, OSError):
            raise
        raise FileError(f"{name}: {_why_not_written(cause)}") from error
    finally:
        with suppress(OSError):
            os.unlink(temporary)


def make_folder(path: str | os.PathLike[str]) -> None:
    """Make a folder and those above it, where they are missing.

    Raises:
        FileError: if it cannot be made.
    """
    name = one_line(path)
    try:
        os.makedirs(path, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise FileError(f"{name}: cannot be made: there is a file where a folder should be; choose another") from error
    except PermissionError as error:
        raise FileError(f"{name}: cannot be made: the folder above may not be written to; choose another") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise FileError(f"{name}: cannot be made: {one_line(reason)}; choose another folder") from error


def remove_unfinished(folder: Path) -> None:
    """Remove what processes that were killed left half-written in a folder that nobody else writes to now."""
    for path in folder.glob(UNFINISHED):
        path.unlink(missing_ok=True)


def disk_is_full(error: BaseException | None) -> bool:
    """Whether an error, or one that it came from, says that a disk is full or a quota is used up."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__ or error.__context__
    return False


def _why_not_written(error: Exception) -> str:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return "cannot be written: its folder does not exist; create it first"
    if isinstance(error, PermissionError):
        return "cannot be written: its folder may not be written to; choose another or change its permissions"
    reason = f"cannot be written: {getattr(error, 'strerror', None) or error}"
    if disk_is_full(error):
        reason += "; free some, or choose another disk"
    return f"{reason}; nothing was left behind"


def read_json(path: str | os.PathLike[str], error_type: type[DeepEditError] = FileError) -> dict[str, Any]:
    """The object in a JSON file that may be hostile.

    Args:
        error_type: raised where the content is at fault; a file that cannot be opened is always a FileError.

    Raises:
        FileError: if the file cannot be opened.
        error_type: if it is larger than 16 MiB, not UTF-8, not JSON (NaN and Infinity are not), nested too deeply,
            has a key twice in one object, or is not an object.
    """
    return parse_json(read_small(path, error_type), one_line(path), error_type)


def read_small(path: str | os.PathLike[str], error_type: type[DeepEditError] = FileError) -> bytes:
    """The content of a file of text, such as JSON.

    Raises:
        FileError: if the file cannot be opened.
        error_type: if it is empty, or larger than 16 MiB.
    """
    name = one_line(path)
    with open_for_reading(path) as stream:
        try:
            content = stream.read(MAX_JSON_BYTES + 1)
        except OSError as error:
            raise FileError(f"{name}: cannot be read: {error.strerror}") from error
    if len(content) > MAX_JSON_BYTES:
        raise error_type(f"{name}: larger than {MAX_JSON_BYTES // 2**20} MiB, too large for what it should hold")
    if not content.strip():
        raise error_type(f"{name}: the file is empty; write or export it again")
    return content


def parse_json(content: bytes, name: str, error_type: type[DeepEditError] = FileError) -> dict[str, Any]:
    """The object in the content of a JSON file, see `read_json`; `name` is that of the file."""
    try:
        parsed = json.loads(
            content.decode("utf-8-sig"),
            parse_int=_bounded_int,
            parse_constant=_refuse_constant,
            object_pairs_hook=_refuse_duplicates,
        )
    except RecursionError as error:
        raise error_type(f"{name}: nested too deeply to be what it should; write or export it again") from error
    except ValueError as error:  # JSON's and UTF-8's errors are ValueErrors
        raise error_type(f"{name}: not valid JSON ({one_line(error, 120)}); correct it, or export it again") from error
    if not isinstance(parsed, dict):
        raise error_type(
            f"{name}: should hold a JSON object in braces, holds {brief(parsed)}; write or export it again"
        )
    return parsed


def _bounded_int(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not a JSON number")


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"the key {key!r} appears twice in one object")
            seen.add(key)
    return entries


CONTROL_GROUP = Path("/sys/fs/cgroup")
"""Where Linux tells of the limits of a container."""


def available_memory() -> int | None:
    """Bytes that this process may still allocate without swapping, as far as the system tells; else None."""
    limits = []
    with suppress(OSError, ValueError, IndexError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        limits.append(1024 * int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1]))
    for limit, used, statistics, cached in (
        ("memory.max", "memory.current", "memory.stat", ("inactive_file", "active_file")),
        (
            *("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
            ("total_inactive_file", "total_active_file"),
        ),
    ):
        with suppress(OSError, ValueError):  # "max" is no number: no limit
            most, taken = (int((CONTROL_GROUP / name).read_text()) for name in (limit, used))
            # What is kept of files that were read counts as used, and is given up as soon as memory is needed.
            entries = dict(line.split() for line in (CONTROL_GROUP / statistics).read_text().splitlines())
            limits.append(most - taken + sum(int(entries.get(name, 0)) for name in cached))
    with suppress(ImportError, OSError, ValueError, AttributeError):
        import resource  # absent on Windows

        soft, _ = resource.getrlimit(resource.RLIMIT_AS)
        if soft != resource.RLIM_INFINITY:
            limits.append(soft - int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize())
    return max(min(limits), 0) if limits else None
