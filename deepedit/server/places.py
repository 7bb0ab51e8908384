"""What clients are told of files: what they are called, and not where they lie on the server's disk."""

import os
import re
from collections.abc import Iterable
from pathlib import Path

from deepedit.files import one_line


class Places:
    """The folders of a server that clients are not told of.

    Args:
        folders: a file in one of them is called by its path in there, as ``imagesTr/case_07.nii.gz``.
        received: folders of files that clients sent, whose names there mean nothing to them.
    """

    def __init__(self, folders: Iterable[Path], received: Iterable[Path]) -> None:
        end = rf"(?:{re.escape(os.sep)}|(?![\w.-]))"
        self._folders = re.compile(f"(?:{_any_of(folders)}){end}")
        self._received = re.compile(rf"(?:{_any_of(received)}){re.escape(os.sep)}[\w.-]*")

    def hidden(self, text: str) -> str:
        """A sentence for a client, without these folders."""
        return self._folders.sub(_in_folder, self._received.sub("the file that was sent", text))


def _in_folder(match: re.Match[str]) -> str:
    return "" if match[0].endswith(os.sep) else "the server's folder"


def _any_of(folders: Iterable[Path]) -> str:
    """A pattern of folders as messages write them; of one within another, that one is taken."""
    written = {one_line(each) for folder in folders for each in (folder.absolute(), folder.resolve())}
    longest_first = sorted(written - {os.sep}, key=lambda each: (-len(each), each))
    return "|".join(map(re.escape, longest_first)) or "(?!)"
