"""The record of how a run was made, with which it goes on or is repeated: the ``config.json`` in its folder."""

import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin

from deepedit import __version__
from deepedit.errors import DeepEditError, TrainingError
from deepedit.files import brief, one_line, read_json, replace_atomically
from deepedit.io.dataset_json import parse_labels
from deepedit.network.architectures import NETWORKS
from deepedit.training.config import RunSettings


def write_config(folder: Path, settings: RunSettings) -> None:
    """Write ``config.json``: all settings, with which the run goes on or is repeated, versions, and the command."""
    record = {
        "settings": asdict(settings),
        "command": sys.argv,
        "versions": {"python": platform.python_version(), **_versions()},
        "git": _git_commit(),
    }
    with replace_atomically(folder / "config.json") as stream:
        stream.write(json.dumps(record, indent=1, default=str).encode())


def read_config(path: Path) -> RunSettings:
    """The settings of a run, every one as ``config.json`` has it, whatever the defaults are now.

    Args:
        path: of the file, or of the run folder that it is in.

    Raises:
        TrainingError: if the file is not that of a run, if a setting is missing, unknown or of another type, or if a
            value is out of its range.
        FileError: if there is none.
    """
    path = path / "config.json" if path.is_dir() else path
    name, record = one_line(path), read_json(path, TrainingError)
    try:
        if "settings" in record:
            entries = record["settings"]
            if isinstance(entries, dict):
                # Before this was a setting, no run was on studies.
                entries = {"studies": False, **entries}
                if isinstance(entries.get("config"), dict):
                    entries["config"] = _with_later_settings(entries["config"])
        elif isinstance(record.get("arguments"), dict) and isinstance(record.get("training"), dict):
            entries = _settings_of_arguments(record["arguments"], record["training"])
        else:
            raise TrainingError("not the config.json of a run; name one that deepedit-train wrote")
        return _read(RunSettings, entries, "settings")
    except (ValueError, DeepEditError) as error:
        raise TrainingError(f"{name}: {one_line(error)}") from error


def _settings_of_arguments(arguments: Mapping[str, Any], training: Mapping[str, Any]) -> dict[str, Any]:
    """The settings, from a file that told the arguments of the command line and, of all else, how to train.

    What it lacks, as it could not be chosen then, is what was done then.
    """
    labels, network = (arguments.get(name) for name in ("labels", "network"))
    kept = ("split", "spacing", "patch_size", "init_weights", "workers")
    return {
        "dataset": arguments.get("input"),
        "studies": False,
        "labels": parse_labels(labels) if isinstance(labels, str) else labels,
        # The seed of a run chose its cases too.
        "split_seed": arguments.get("split_seed", arguments.get("seed")),
        "intensity": None,
        "affine": arguments.get("affine"),
        "units": arguments.get("units"),
        "network": asdict(NETWORKS[network]) if network in tuple(NETWORKS) else network,
        "cache": arguments.get("cache_dir"),
        "config": {"small_patches": 0.0, "record_passes": True, **_with_later_settings(training)},
        **{name: arguments[name] for name in kept if name in arguments},
    }


def _with_later_settings(training: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of training, where those of an earlier version knew no refiner, so that there was none, or name the
    axes to flip: none, unless in Python."""
    training = {"refiner_cases": 0, **training}
    augmentation = training.get("augmentation")
    if isinstance(augmentation, dict) and augmentation.get("flip_axes") == []:
        others = {name: value for name, value in augmentation.items() if name != "flip_axes"}
        return {**training, "augmentation": {"mirror_probability": 0.0, **others}}
    return training


def _read(kind: Any, value: Any, name: str) -> Any:
    """A value of a type, from what is in a JSON file.

    Args:
        kind: a dataclass, a tuple, `Mapping`, `Path`, or a plain type; may be joined to others by ``|``.
        name: what the value is, for errors.

    Raises:
        TrainingError: if the value is of another type, or a dataclass's entries are not its fields.
        ValueError: if a dataclass refuses its fields.
    """
    origin, parts = get_origin(kind), get_args(kind)
    if origin is UnionType:
        return None if value is None else _read_first([part for part in parts if part is not NoneType], value, name)
    if isinstance(kind, type) and is_dataclass(kind) and isinstance(value, dict):
        kinds = {each.name: each.type for each in fields(kind)}
        if missing := set(kinds) - set(value):
            raise TrainingError(f"{name} lacks {', '.join(sorted(missing))}; it was written by another version")
        if unknown := set(value) - set(kinds):
            raise TrainingError(
                f"{name} has {one_line(', '.join(sorted(unknown)), 200)}, which this version does not know; a newer "
                "one may have written it: update the package"
            )
        return kind(**{key: _read(kinds[key], entry, key) for key, entry in value.items()})
    if origin is tuple and isinstance(value, list | tuple):
        each_kind = parts[:1] * len(value) if parts[-1] is Ellipsis else parts
        if len(each_kind) == len(value):
            return tuple(_read(each, entry, name) for each, entry in zip(each_kind, value, strict=True))
    if origin is Mapping and isinstance(value, dict):
        return {key: _read(parts[1], entry, name) for key, entry in value.items()}
    if kind is Path and isinstance(value, str) and value:
        return Path(value)
    if kind is float and type(value) is int and abs(value) <= 2**53:
        return float(value)
    if type(value) is kind:
        return value
    raise TrainingError(f"{name} cannot be {brief(value)}; it is damaged, restore what deepedit-train wrote")


def _read_first(kinds: Sequence[Any], value: Any, name: str) -> Any:
    """A value of the first of these types that it is of."""
    for kind in kinds[:-1]:
        with suppress(TrainingError):
            return _read(kind, value, name)
    return _read(kinds[-1], value, name)


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {"deepedit": __version__}
    for package in ("torch", "numpy", "scipy", "nibabel"):
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
