"""What viewers sent does not stay on the disk, however a server ends."""

import os
import signal
import subprocess
import sys
import tempfile

import pytest

from deepedit.server.scratch import MARK, PREFIX, Scratch

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no locks on folders")

SERVER = """
import sys
from deepedit.server.scratch import Scratch
scratch = Scratch()
(scratch.path / "image.nii.gz").write_bytes(b"voxels")
print(scratch.path, flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


@pytest.fixture
def other():
    """Another server, in a process of its own, and its folder."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", SERVER], text=True, **pipes) as process:
        yield process, process.stdout.readline().strip()
        process.kill()


def make_old(folder):
    os.utime(folder, (1, 1))


def test_the_folder_goes_when_it_is_closed(temporary):
    scratch = Scratch()
    (scratch.path / "image").write_bytes(b"voxels")
    scratch.close()
    scratch.close()
    assert list(temporary.iterdir()) == []


def test_that_of_a_running_server_stays(other):
    make_old(other[1])
    Scratch().close()
    assert set(os.listdir(other[1])) == {MARK, "image.nii.gz"}


def test_that_of_a_killed_server_is_removed_by_the_next_one(other):
    process, folder = other
    process.send_signal(signal.SIGKILL)
    process.wait()
    Scratch().close()
    assert os.path.exists(folder)  # it might be one that is just being made
    make_old(folder)
    Scratch().close()
    assert not os.path.exists(folder)


def test_nothing_else_is_removed(temporary, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "kept").touch()
    (temporary / f"{PREFIX}link").symlink_to(elsewhere)
    (temporary / f"{PREFIX}file").touch()
    (elsewhere / MARK).mkdir()
    names = ["other", f"{PREFIX}results", f"{PREFIX}file"]
    for name in names[:2]:
        (temporary / name).mkdir()
    for name in names:
        make_old(temporary / name)
    Scratch().close()
    assert {path.name for path in temporary.iterdir()} == {*names, f"{PREFIX}link"}
    assert (elsewhere / "kept").exists()
