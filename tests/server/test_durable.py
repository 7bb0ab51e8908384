"""Files that are replaced: whatever happens, the old one or the new one is there, and nothing acknowledged is lost."""

import os
import random
import re
import signal
import subprocess
import sys
import time

import pytest

from deepedit.errors import FileError
from deepedit.server import durable
from deepedit.server.durable import keep, remove_left_behind, replace_and_keep, unfinished
from deepedit.server.studies import Studies
from tests.server.studies_folder import LABELS, image, label_map, voxels

CHILD = """
import sys
from pathlib import Path
from deepedit.server.studies import Studies
from tests.server.studies_folder import LABELS, segments
folder, sent, first = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
studies = Studies(folder, LABELS)
for number in range(first, 10**6):
    studies.submit("a", sent / f"{number % 100}.nii.gz", ".nii.gz", segments("spleen"))
    print(number, flush=True)
"""
"""Submits one label map after the other, and tells of each when it was acknowledged."""


def test_killed_in_the_middle_of_submits(tmp_path):
    root, sent = tmp_path / "root", tmp_path / "sent"
    image(root / "a.nii.gz")
    for number in range(100):
        label_map(sent / f"{number}.nii.gz", *[1] * (number + 1))
    wait, done = random.Random(0), 0
    for _ in range(6):
        command = [sys.executable, "-c", CHILD, str(root), str(sent), str(done)]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        acknowledged = [int(child.stdout.readline())]
        time.sleep(wait.random() / 20)
        os.kill(child.pid, signal.SIGKILL)
        acknowledged += [int(line) for line in child.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
        child.wait()
        there = sum((voxels(Studies(root, LABELS).label("a")) == 3).ravel()) - 1
        # One more may be in place than was told.
        assert there in (acknowledged[-1] % 100, (acknowledged[-1] + 1) % 100)
        done = acknowledged[-1] + 1
    kept = [sum((voxels(path) == 3).ravel()) - 1 for path in (root / "labels" / "replaced").iterdir()]
    assert set(kept) | {there} >= {number % 100 for number in range(done)}
    assert not list((root / "labels" / "replaced").glob(".*"))


class Killed(BaseException):
    """The process ends here."""


def test_killed_at_any_step_the_old_or_the_new_file_is_there(tmp_path, monkeypatch):
    calls = ("os.link", "os.replace", "os.fsync", "os.open", "Path.unlink")
    for step in range(30):
        folder = tmp_path / str(step)
        folder.mkdir()
        (folder / "a.nii.gz").write_bytes(b"old")
        (folder / "a.nii").write_bytes(b"older")
        (folder / "new").write_bytes(b"new")
        left = iter(range(step))

        def dies(original, left=left):
            def call(*args, **options):
                if next(left, None) is None:
                    raise Killed
                return original(*args, **options)

            return call

        with monkeypatch.context() as patch:
            for name in calls:
                owner, attribute = name.split(".")
                owner = getattr(durable, owner)
                patch.setattr(owner, attribute, dies(getattr(owner, attribute)))
            ended = False
            try:
                target = folder / "a.nii.gz"
                replace_and_keep(folder / "new", target, [target, folder / "a.nii"], folder / "kept", "a")
                ended = True
            except Killed:
                pass
        there = (folder / "a.nii.gz").read_bytes()
        kept = sorted(path.read_bytes() for path in (folder / "kept").glob("*"))
        assert there in (b"old", b"new")
        if there == b"new":
            assert kept == [b"old", b"older"]
        if ended:
            assert there == b"new"
            assert not (folder / "a.nii").exists()
            return
    pytest.fail("it never ended")


@pytest.mark.parametrize("links", [True, False])
def test_what_is_kept_has_a_name_of_its_own(tmp_path, monkeypatch, links):
    if not links:

        def refuse(*paths):
            raise PermissionError(1, "no links here")

        monkeypatch.setattr(durable.os, "link", refuse)
    file = tmp_path / "a.nii.gz"
    for content in (b"1", b"2", b"3", b"4"):
        file.write_bytes(content)
        keep(file, tmp_path / "kept", "a")
        file.unlink()
    assert sorted(path.read_bytes() for path in (tmp_path / "kept").iterdir()) == [b"1", b"2", b"3", b"4"]
    for path in (tmp_path / "kept").iterdir():
        assert re.fullmatch(r"a\.[0-9]{8}T[0-9]{6}Z(-[234])?\.nii\.gz", path.name)


def test_an_unfinished_file_vanishes_and_its_name_is_not_told(tmp_path):
    def fail():
        with unfinished(tmp_path, ".nii", "the file") as new:
            new.write_bytes(b"half")
            raise FileError(f"{new}: is bad")

    with pytest.raises(FileError, match="the file: is bad") as caught:
        fail()
    assert "deepedit-" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_what_was_left_behind_long_ago_is_removed(tmp_path):
    image(tmp_path / "a.nii.gz")
    old, new, other = (tmp_path / name for name in (".deepedit-0.tmp.nii.gz", ".deepedit-1.tmp", ".other.tmp"))
    for path in (old, new, other):
        path.write_bytes(b"half")
    os.utime(old, (1, 1))
    os.utime(other, (1, 1))
    remove_left_behind(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".deepedit-1.tmp", ".other.tmp", "a.nii.gz"]
