"""What a run's config.json tells of the code."""

import shutil
import subprocess

import pytest

from deepedit.training.record import _git_commit

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def test_the_commit_is_that_of_the_repository_that_tracks_the_package(tmp_path):
    def git(*words):
        return subprocess.run(["git", *words], cwd=tmp_path, check=True, capture_output=True, text=True).stdout.strip()

    package, installed = tmp_path / "package" / "record.py", tmp_path / ".venv" / "record.py"
    for file in (package, installed):
        file.parent.mkdir()
        file.write_text("")
    assert _git_commit(package) is None
    git("init")
    git("add", "package")
    git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-m", "one")
    assert _git_commit(package) == git("rev-parse", "HEAD")
    # An environment inside somebody's repository is not of it.
    assert _git_commit(installed) is None
