"""The record of how a run was made: the ``config.json`` in its folder."""

import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deepedit.errors import TrainingError
from deepedit.files import one_line, read_json, replace_atomically
from deepedit.training.run import RunSettings


def write_config(folder: Path, arguments: Mapping[str, Any], settings: RunSettings) -> None:
    """Write ``config.json``: the arguments, all settings that follow from them, versions, and the command."""
    record = {
        "arguments": dict(arguments),
        "training": settings.config.to_dict(),
        "command": sys.argv,
        "versions": {"python": platform.python_version(), **_versions()},
        "git": _git_commit(),
    }
    with replace_atomically(folder / "config.json") as stream:
        stream.write(json.dumps(record, indent=1, default=str).encode())


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for package in ("deepedit", "torch", "numpy", "scipy", "nibabel"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found


def _git_commit(source: Path = Path(__file__)) -> str | None:
    """The commit of the repository that tracks a source file; None if it is not tracked, as in an environment that is
    installed inside of another repository."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=source.parent, capture_output=True, text=True, check=False).stdout

    if shutil.which("git") is None or not git("ls-files", source.name).strip():
        return None
    return git("rev-parse", "HEAD").strip() or None


def read_run_config(folder: Path) -> dict[str, Any]:
    """The arguments with which a run was started, from its ``config.json``.

    Raises:
        TrainingError: if the file is not that of a run.
        FileError: if there is no such file.
    """
    record = read_json(folder / "config.json" if folder.is_dir() else folder, TrainingError)
    if not isinstance(record.get("arguments"), dict):
        raise TrainingError(f"{one_line(folder)}: not the config.json of a run")
    return record["arguments"]
