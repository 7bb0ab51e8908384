"""Model files: plain dictionaries of tensors, numbers and strings, written completely or not at all."""

import pickle
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn

from deepedit.errors import FileError, ModelError
from deepedit.files import brief, one_line, open_for_reading, replace_atomically
from deepedit.network.architectures import UNetConfig
from deepedit.network.inputs import input_channels
from deepedit.network.refiner import Refiner
from deepedit.network.unet import ResidualUNet
from deepedit.plan import Plan

FORMAT_VERSION = 5


@dataclass
class Model:
    """A network with all that is needed to use it.

    Attributes:
        network: in evaluation mode when it was loaded.
        plan: labels, grid, intensities and clicks.
        training_cases, validation_cases: names of the cases that it was trained on, and that it was selected by.
        training_files: where the cases lay that it was trained on: the absolute paths of the image files of each, and
            last that of its label file. Empty in models of earlier versions and of other packages.
        inherited_cases: names of the cases that the models were trained on from which its weights were taken.
        refiner: refines its answers to clicks, in evaluation mode; None in models of earlier versions and of other
            packages, whose answers stay as they are.
    """

    network: ResidualUNet
    plan: Plan
    training_cases: tuple[str, ...] = ()
    validation_cases: tuple[str, ...] = ()
    training_files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    inherited_cases: tuple[str, ...] = ()
    refiner: Refiner | None = None

    @property
    def seen_cases(self) -> frozenset[str]:
        """Names of all cases that have changed its weights: on these its results say little about other images."""
        return frozenset((*self.training_cases, *self.inherited_cases))

    @property
    def device(self) -> torch.device:
        return self.network.head.weight.device

    def to(self, device: str | torch.device) -> "Model":
        """Move all weights to a device; returns this model."""
        self.network.to(device)
        if self.refiner is not None:
            self.refiner.to(device)
        return self


def save_model(path: str | Path, model: Model, training: Mapping[str, Any] | None = None) -> None:
    """Write a model file atomically: a reader finds either the old file or the new one.

    Args:
        path: usually ``*.pt``.
        model: the model to save.
        training: the state of the optimizers and everything else that a resumed training needs, as tensors, numbers,
            strings, lists and dictionaries.

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
        "inherited_cases": list(model.inherited_cases),
        "training_files": {name: list(paths) for name, paths in model.training_files.items()},
        "weights": _weights(model.network),
        "refiner": None if model.refiner is None else _weights(model.refiner),
    }
    if training is not None:
        entries["training"] = dict(training)
    with replace_atomically(path) as stream:
        torch.save(entries, stream)


def load_model(path: str | Path, device: str | torch.device = "cpu") -> Model:
    """Read a model file. Nothing in it is executed.

    Raises:
        FileError: if there is no such file.
        ModelError: if the file is damaged, has a newer format, or is no model of this package.
    """
    return model_from_entries(read_entries(path), path, device)


def read_entries(path: str | Path) -> dict[str, Any]:
    """The dictionary in a model file, after checking its format.

    Raises:
        FileError, ModelError: as for `load_model`.
    """
    name = one_line(path)
    if not Path(path).exists():
        raise FileError(f"{name}: no such model file; deepedit-train writes one as RUN/model.pt")
    with open_for_reading(path) as stream:
        try:
            _check_archive(stream)
            stream.seek(0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch warns of odd pickles before it refuses them
                entries = torch.load(stream, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise ModelError(
                f"{name}: holds more than weights, such as code, which is not run; use a file that deepedit-train wrote"
            ) from error
        except Exception as error:  # there is no end to what damaged bytes make torch raise
            raise ModelError(f"{name}: damaged, or no model file at all; copy it again, or train anew") from error
    if not isinstance(entries, dict) or entries.get("format") != "deepedit":
        raise ModelError(f"{name}: not a model of this package; use a file that deepedit-train wrote")
    version = entries.get("version")
    if type(version) is not int or not 1 <= version <= 2**31:
        raise ModelError(f"{name}: the model file is damaged: its format has the version {brief(version)}")
    if version > FORMAT_VERSION:
        raise ModelError(
            f"{name}: model format {version} is newer than this package reads ({FORMAT_VERSION}); update the package"
        )
    return entries


def _check_archive(stream: BinaryIO) -> None:
    """Raise an error if the file is not, to its last bit, an archive as ``torch.save`` writes it.

    Torch itself compares no checksums and unpacks compressed records: flipped bits in the weights would not be noticed,
    and a small file could take any amount of memory.
    """
    with zipfile.ZipFile(stream) as archive:
        if any(record.compress_type != zipfile.ZIP_STORED for record in archive.infolist()):
            raise zipfile.BadZipFile("compressed records")
        if archive.testzip() is not None:
            raise zipfile.BadZipFile("wrong checksum")


def model_from_entries(entries: Mapping[str, Any], path: str | Path, device: str | torch.device = "cpu") -> Model:
    """The model in the dictionary that `read_entries` returned; `path` is named in errors.

    Raises:
        ModelError: if entries are missing or do not fit together.
    """
    try:
        plan = Plan.from_dict(entries["plan"])
        # On the meta device the network takes no memory: only weights that are really in the file do.
        with torch.device("meta"):
            network = ResidualUNet(
                input_channels(plan.image_channels, plan.labels.num_classes, plan.previous),
                plan.labels.num_classes,
                UNetConfig(**entries["network"]),
            )
            refiner = Refiner(plan.image_channels, plan.labels.num_classes)
        _fill(network, entries["weights"])
        if (refined := entries.get("refiner")) is not None:
            _fill(refiner, refined)
        cases = {key: _names(entries[key]) for key in ("training_cases", "validation_cases")}
        # The first versions that wrote this format knew of neither.
        cases["inherited_cases"] = _names(entries.get("inherited_cases", ()))
        files = _files(entries.get("training_files", {}))
    except (LookupError, TypeError, ValueError, ArithmeticError, RuntimeError, AttributeError, ModelError) as error:
        reason = f"lacks {error}" if isinstance(error, KeyError) else str(error).partition("\n")[0]
        raise ModelError(f"{one_line(path)}: the model file is damaged: {one_line(reason, 200)}") from error
    model = Model(network, plan, **cases, training_files=files, refiner=None if refined is None else refiner)
    return model.to(device)


def _weights(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu() for name, tensor in network.state_dict().items()}


def _fill(network: nn.Module, weights: Any) -> None:
    """Give a network on the meta device its weights, for inference in float32."""
    _check_weights(weights, network)
    # Copies, since the state of training in the file may share the memory of the weights, and will change.
    network.load_state_dict({name: weight.clone() for name, weight in weights.items()}, assign=True)
    network.float().eval()


def _check_weights(weights: Any, network: nn.Module) -> None:
    """Raise a ValueError unless each tensor of the network has one of the same shape in `weights`, with all its bytes.

    Args:
        network: on the meta device.
    """
    if not isinstance(weights, dict):
        raise ValueError("its weights are no dictionary of tensors")
    expected = network.state_dict()
    if set(weights) != set(expected):
        raise ValueError("its weights are not those of the network that it describes")
    for name, tensor in weights.items():
        shape = tuple(expected[name].shape)
        if not isinstance(tensor, Tensor) or tensor.layout != torch.strided or not tensor.is_floating_point():
            raise ValueError(f"{name} is no tensor of real numbers")
        if tensor.shape != shape:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)} where its network needs {shape}")
        # A meta tensor has no bytes, and with a stride of 0 a few bytes look like many.
        if tensor.is_meta or tensor.untyped_storage().nbytes() < tensor.nbytes:
            raise ValueError(f"{name} is larger than its bytes")


def _files(entries: Any) -> dict[str, tuple[str, ...]]:
    if not isinstance(entries, dict):
        raise ValueError("its training files are no dictionary of paths")
    _names(list(entries))
    files = {name: _names(paths) for name, paths in entries.items()}
    if any(len(paths) < 2 for paths in files.values()):
        raise ValueError("its training files lack an image or a label")
    return files


def _names(entries: Any) -> tuple[str, ...]:
    if not isinstance(entries, list | tuple) or not all(isinstance(name, str) for name in entries):
        raise ValueError("its cases are no list of names")
    return tuple(entries)
