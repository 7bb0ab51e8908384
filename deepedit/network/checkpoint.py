"""Model files: plain dictionaries of tensors, numbers and strings, written whole or not at all."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from deepedit.errors import FileError, ModelError
from deepedit.files import one_line, replace_atomically
from deepedit.network.inputs import input_channels
from deepedit.network.unet import ResidualUNet, UNetConfig
from deepedit.plan import Plan

FORMAT_VERSION = 1


@dataclass
class Model:
    """A network with all that it needs to be used.

    Attributes:
        network: in evaluation mode when loaded.
        plan: labels, grid, intensities, clicks.
        training_cases, validation_cases: names of the cases that it was trained on and selected by.
    """

    network: ResidualUNet
    plan: Plan
    training_cases: tuple[str, ...] = ()
    validation_cases: tuple[str, ...] = ()

    @property
    def device(self) -> torch.device:
        return self.network.head.weight.device


def save_model(path: str | Path, model: Model, training: Mapping[str, Any] | None = None) -> None:
    """Write a model file, atomically: a reader finds the old file or the new one.

    Args:
        path: by custom ``*.pt``.
        model: what to save.
        training: the state of the optimizer and all else that a resumed training needs; tensors, numbers, strings,
            lists and dictionaries.

    Raises:
        FileError: if the file cannot be written.
    """
    entries = {
        "format": "deepedit",
        "version": FORMAT_VERSION,
        "network": model.network.config.to_dict(),
        "plan": model.plan.to_dict(),
        "training_cases": list(model.training_cases),
        "validation_cases": list(model.validation_cases),
        "weights": {name: tensor.detach().cpu() for name, tensor in model.network.state_dict().items()},
    }
    if training is not None:
        entries["training"] = dict(training)
    with replace_atomically(path) as stream:
        torch.save(entries, stream)


def load_model(path: str | Path, device: str | torch.device = "cpu") -> Model:
    """Read a model file. Nothing in it is executed.

    Raises:
        FileError: if there is no such file.
        ModelError: if it is damaged, of a newer format, or no model of this project.
    """
    return model_from_entries(read_entries(path), path, device)


def read_entries(path: str | Path) -> dict[str, Any]:
    """The dictionary in a model file, its format checked.

    Raises:
        FileError, ModelError: as `load_model`.
    """
    path = Path(path)
    if not path.is_file():
        raise FileError(f"{path}: no such model file; deepedit-train writes one as RUN/model.pt")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of odd pickles before it refuses them
            entries = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # there is no end to what damaged bytes make torch's unpickler raise
        raise ModelError(
            f"{path}: not a readable model file ({type(error).__name__}); it is damaged, or holds more than weights"
        ) from error
    if not isinstance(entries, dict) or entries.get("format") != "deepedit":
        raise ModelError(f"{path}: not a model of this package; expected a file that deepedit-train wrote")
    version = entries.get("version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise ModelError(f"{path}: model format {version} is newer than this package reads ({FORMAT_VERSION}); update")
    return entries


def model_from_entries(entries: Mapping[str, Any], path: str | Path, device: str | torch.device = "cpu") -> Model:
    """The model in the dictionary that `read_entries` gave; `path` is named in errors.

    Raises:
        ModelError: if entries are missing or do not fit together.
    """
    try:
        plan = Plan.from_dict(entries["plan"])
        # Without memory of its own: only weights that are really there take some.
        with torch.device("meta"):
            network = ResidualUNet(
                input_channels(plan.image_channels, plan.labels.num_classes, plan.previous),
                plan.labels.num_classes,
                UNetConfig(**entries["network"]),
            )
        # Copies: in a file the state of training may share the weights' bytes, and goes its own way.
        network.load_state_dict({name: weight.clone() for name, weight in entries["weights"].items()}, assign=True)
        cases = {key: tuple(map(str, entries[key])) for key in ("training_cases", "validation_cases")}
    except (LookupError, TypeError, ValueError, ArithmeticError, RuntimeError, AttributeError, ModelError) as error:
        reason = one_line(str(error).partition("\n")[0], 200)
        raise ModelError(f"{path}: the model file is damaged: {reason}") from error
    return Model(network.to(device, torch.float32).eval(), plan, **cases)
