"""One server at a time works on a folder of studies, and one that was killed is in nobody's way."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from deepedit.errors import DeepEditError
from deepedit.server import lock
from deepedit.server.lock import FolderLock

HOLDER = """
import sys
from pathlib import Path
from deepedit.server.lock import FolderLock
held = FolderLock(Path(sys.argv[1]), Path(sys.argv[2]), print)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the folder."""
    command = [sys.executable, "-c", HOLDER, tmp_path / ".deepedit", tmp_path]
    with subprocess.Popen(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def hold(folder: Path, said: list[str] | None = None) -> FolderLock:
    said = [] if said is None else said
    return FolderLock(folder / ".deepedit", folder, said.append)


def test_a_second_one_is_told_the_folder_and_who_holds_it(holder, tmp_path):
    with pytest.raises(DeepEditError) as refusal:
        hold(tmp_path)
    assert str(refusal.value).startswith(f"{tmp_path}: process {holder.pid} on {socket.gethostname()} serves this")
    with pytest.raises(DeepEditError, match=f"process {holder.pid} "):  # what it says is not lost by the question
        hold(tmp_path)


@pytest.mark.parametrize("end", ["SIGTERM", "SIGKILL"])
def test_one_that_has_ended_holds_nothing(holder, tmp_path, end):
    os.kill(holder.pid, getattr(signal, end))
    holder.wait()
    said = []
    hold(tmp_path, said).close()
    assert said == []


def test_it_can_be_held_again_when_it_is_closed_and_other_folders_meanwhile(tmp_path):
    for _ in range(2):
        one, other = hold(tmp_path / "a"), hold(tmp_path / "b")
        with pytest.raises(DeepEditError, match=f"process {os.getpid()} "):
            hold(tmp_path / "a")
        one.close()
        one.close()
        other.close()


def test_another_way_to_the_same_folder_is_no_way_in(holder, tmp_path):
    link = tmp_path.parent / f"link to {tmp_path.name}"
    link.symlink_to(tmp_path)
    with pytest.raises(DeepEditError, match="serves this folder already"):
        hold(link)


def test_a_disk_without_locks_is_told_in_a_line(tmp_path, monkeypatch):
    def refuse(descriptor):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(lock, "_lock", refuse)
    said = []
    hold(tmp_path, said).close()
    assert said == [
        f"note: {tmp_path} cannot be locked (Operation not supported); take care that no other server works on it"
    ]


def test_a_folder_that_cannot_be_written_to_is_told_in_a_line(tmp_path):
    (tmp_path / ".deepedit").write_bytes(b"a file")
    said = []
    hold(tmp_path, said).close()
    (line,) = said
    assert f"{tmp_path} cannot be locked" in line


def test_of_what_another_user_holds_it_is_not_written_to(tmp_path, monkeypatch):
    hold(tmp_path).close()
    opened = os.open

    def refuse_to_write(path, flags, *mode):
        if flags & os.O_RDWR:
            raise PermissionError(13, "Permission denied")
        return opened(path, flags, *mode)

    monkeypatch.setattr(os, "open", refuse_to_write)
    held = hold(tmp_path)
    with pytest.raises(DeepEditError, match="another process serves this folder already"):
        hold(tmp_path)
    held.close()
