"""Completion in a shell, as bash asks for it by argcomplete."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("argcomplete", reason="argcomplete is not installed; pip install 'deepedit[completion]' brings it")
BIN = Path(sys.executable).parent
ASKED = """
eval "$(register-python-argcomplete deepedit-train deepedit-infer deepedit-evaluate deepedit-serve)"
COMP_LINE="$1" COMP_POINT="${#1}" COMP_TYPE=9
_python_argcomplete "${1%% *}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


def completed(line, folder="."):
    """What bash offers where this line is being typed."""
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    for program in ("bash", "register-python-argcomplete", "deepedit-infer"):
        if shutil.which(program, path=path) is None:
            pytest.skip(f"{program} is not there")
    ended = subprocess.run(
        ["bash", "-c", ASKED, "bash", line],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return set(ended.stdout.split())


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("deepedit-train --learn", {"--learning-rate"}),
        ("deepedit-infer --device cpu --initial", {"--initial-segmentation"}),
        ("deepedit-evaluate --max-clicks", {"--max-clicks", "--max-clicks-per-label"}),
        ("deepedit-serve --dicom", {"--dicomweb", "--dicomweb-login"}),
        ("deepedit-infer --space ", {"voxel", "ras", "lps"}),
    ],
)
def test_options_and_their_choices_are_completed(line, offered):
    assert completed(line) == offered


def test_files_are_completed(tmp_path):
    for name in ("case_1.nii.gz", "case_2.nii.gz", "other.nii.gz"):
        (tmp_path / name).touch()
    assert completed("deepedit-infer --input case", tmp_path) == {"case_1.nii.gz", "case_2.nii.gz"}


def test_without_argcomplete_a_command_does_its_work(tmp_path):
    """A shell may have been told to complete by the argcomplete of another environment."""
    (tmp_path / "argcomplete.py").write_text("raise ImportError('not installed')")
    code = "import sys; from deepedit_cli.infer import main; sys.exit(main(['--version']))"
    environment = {**os.environ, "_ARGCOMPLETE": "1", "PYTHONPATH": str(tmp_path)}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("deepedit ")
