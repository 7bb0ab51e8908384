"""Files that are replaced such that whatever was acknowledged is on the disk, and what they replace is kept."""

import errno
import filecmp
import itertools
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path

from deepedit.errors import DeepEditError, FileError
from deepedit.files import disk_is_full, make_folder, one_line
from deepedit.io.suffixes import READ, ending
from deepedit.server.errors import Unavailable

LEFT_BEHIND = ".deepedit-*.tmp*"
LEFT_BEHIND_SECONDS = 600
"""Age from which on an unfinished file counts as left behind by a process that was killed."""


@contextmanager
def unfinished(folder: Path, end: str, name: str) -> Iterator[Path]:
    """A path in a folder, which is made if it is missing, for a file that is to be put in place when it is whole.

    Args:
        end: of the file's name, as its writer goes by it.
        name: what it is to be, for messages, which do not tell the name that it has meanwhile.

    Raises:
        DeepEditError: for whatever fails on the disk.
    """
    path = folder / f".deepedit-{secrets.token_hex(8)}.tmp{end}"
    try:
        make_durable_folder(folder)
        yield path
    except OSError as error:
        full = disk_is_full(error)
        mend = "the disk is full; free some of it" if full else f"{error.strerror or error}; check the folder"
        raise (Unavailable if full else FileError)(f"{name}: cannot be written: {mend}") from error
    except DeepEditError as error:
        raise type(error)(str(error).replace(one_line(path), name)) from error
    finally:
        with suppress(OSError):
            path.unlink()


def replace_and_keep(path: Path, target: Path, others: list[Path], kept: Path, stem: str) -> None:
    """Put a file, which is on the disk already, in the place of others, of which copies stay in another folder.

    Whatever moment the process is killed at: the old file or the new one is in place, and the old one is kept or still
    there. When this returns, all of it is on the disk.

    Args:
        path: the new file, in the folder of `target`.
        target: the place that it takes.
        others: files that are there, and give way; `target` may be among them.
        kept: the folder for what is replaced.
        stem: how the names of the files there begin.
    """
    if others == [target] and not target.is_symlink() and filecmp.cmp(path, target, shallow=False):
        sync_folder(target.parent)  # it may have been put there by a process that was killed before it had done this
        return
    for each in others:
        keep(each, kept, stem)
    os.replace(path, target)
    for each in others:
        if each != target:
            each.unlink(missing_ok=True)
    sync_folder(target.parent)


def keep(path: Path, folder: Path, stem: str) -> Path:
    """Keep what is in a file under a name with the time, which no file has yet, in another folder."""
    make_durable_folder(folder)
    end = path.name[len(path.name) - len(ending(path.name, READ)) :]
    now = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    for number in itertools.count(1):
        name = folder / f"{stem}.{now}{f'-{number}' if number > 1 else ''}{end}"
        try:
            # No bytes are copied, and a name that is taken is refused. What a link points to may be anywhere.
            os.link(os.path.realpath(path), name)
        except FileExistsError:
            continue
        except OSError:  # another disk, or one without links
            if os.path.lexists(name):
                continue
            with unfinished(folder, end, one_line(name.name)) as copy:
                shutil.copyfile(path, copy)
                sync_file(copy)
                os.rename(copy, name)
        sync_folder(folder)
        return name
    raise AssertionError


def make_durable_folder(folder: Path) -> None:
    """Make a folder and those above it, such that they are there after a power cut."""
    missing = list(itertools.takewhile(lambda each: not each.exists(), (folder, *folder.parents)))
    make_folder(folder)
    for each in missing:
        sync_folder(each.parent)


def sync_file(path: Path) -> None:
    """Wait until the bytes of a file are on the disk."""
    with open(path, "rb+") as stream:
        os.fsync(stream.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk. Windows cannot be asked to, and does it by itself."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network disks cannot be asked either
                raise
        finally:
            os.close(descriptor)


def remove_left_behind(folder: Path) -> None:
    """Remove what processes that were killed some time ago left unfinished in a folder; others may be at work there."""
    for path in folder.glob(LEFT_BEHIND):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > LEFT_BEHIND_SECONDS:
                path.unlink()
