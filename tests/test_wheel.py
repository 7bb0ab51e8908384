"""The source distribution holds what builds the wheel, and the wheel what is run."""

import shutil
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from importlib.util import find_spec
from pathlib import Path

import pytest

import deepedit

ROOT = Path(__file__).resolve().parents[1]
FILES = ["setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff"]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder with both, made without network from a copy, since building leaves files behind."""
    if find_spec("build") is None:
        pytest.skip("build is not installed; pip install 'deepedit[dev]' brings it")
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for folder in ("deepedit", "cli"):
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(ROOT / name, source)
    # The wheel is built from what is unpacked from the source distribution.
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", target, source]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return target


def sources():
    """All files of the two packages, by the names that they are installed by."""
    for folder, package in (("deepedit", "deepedit"), ("cli", "deepedit_cli")):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                yield f"{package}/{path.relative_to(ROOT / folder).as_posix()}"


def test_the_wheel_holds_all_files_of_the_packages_and_no_others(built):
    (path,) = built.glob("*.whl")
    with zipfile.ZipFile(path) as wheel:
        names = set(wheel.namelist())
        (license_file,) = [name for name in names if name.endswith("/LICENSE")]
        assert wheel.read(license_file) == (ROOT / "LICENSE").read_bytes()
    assert {name for name in names if ".dist-info/" not in name} == set(sources())
    assert {"deepedit/py.typed", "deepedit_cli/py.typed"} <= names


def test_the_wheel_says_what_it_is_and_needs(built):
    (path,) = built.glob("*.whl")
    with zipfile.ZipFile(path) as wheel:
        (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
        about = message_from_bytes(wheel.read(name))
        commands = wheel.read(name.replace("METADATA", "entry_points.txt")).decode()
    assert (about["Name"], about["Version"], about["License"] or about["License-Expression"]) == (
        "deepedit",
        deepedit.__version__,
        "Apache-2.0",
    )
    needed = {line.split(">=")[0] for line in about.get_all("Requires-Dist") if "extra ==" not in line}
    assert needed == {"torch", "numpy", "scipy", "nibabel", "tqdm", "tensorboard"}
    assert "Typing :: Typed" in about.get_all("Classifier")
    for each in ("train", "infer", "evaluate", "serve"):
        assert f"deepedit-{each} = deepedit_cli.{each}:main" in commands


def test_the_source_distribution_holds_what_explains_it(built):
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert set(FILES) <= names
    assert not any(name.startswith("tests") for name in names)
