"""What fine-tuning leaves in a folder of studies, of which no more is kept than somebody may still want.

Nothing that a user made is touched, and no file that is served. What has another name than fine-tuning gives is left.
"""

import re
import shutil
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from deepedit.files import one_line

KEPT = 5
"""Runs, and models besides the one in use, that are kept: the newest."""

NAMED = re.compile(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d-\d{6}")
"""The time by which runs and adopted models are called, so that names are in order."""


def prune_runs(folder: Path, in_use: Collection[Path]) -> str:
    """Remove all runs in a folder but the newest, and those that hold a file in use; returns what was, in words."""
    runs = sorted(path for path in _listed(folder) if NAMED.fullmatch(path.name) and path.is_dir())
    used = {parent for path in in_use for parent in path.resolve().parents}
    old = [path for path in runs[:-KEPT] if path.resolve() not in used]
    for path in old:
        shutil.rmtree(path, ignore_errors=True)
    return f"the runs {_names(old)}" if old else ""


def prune_models(folder: Path, in_use: Collection[Path]) -> str:
    """Remove all models in a folder but the newest and those in use; returns what was removed, in words."""
    used = {path.resolve() for path in in_use}
    models = sorted(path for path in _listed(folder) if NAMED.fullmatch(path.stem) and path.suffix == ".pt")
    old = [path for path in models if path.resolve() not in used][:-KEPT]
    for path in old:
        with suppress(OSError):
            path.unlink()
    return f"the adopted models {_names(old)}" if old else ""


def prune_prepared(folder: Path, since: float) -> str:
    """Remove prepared cases that no training has used since a time, by the clock of the disk; returns how many."""
    old = []
    for path in _listed(folder):
        with suppress(OSError):
            if path.is_dir() and path.stat().st_mtime < since:
                shutil.rmtree(path, ignore_errors=True)
                old.append(path)
    return f"{len(old)} prepared {'case' if len(old) == 1 else 'cases'} of earlier trainings" if old else ""


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:  # nothing was put there yet
        return []


def _names(paths: Collection[Path]) -> str:
    return one_line(", ".join(path.stem for path in paths), 300)
