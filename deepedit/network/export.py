"""Exporting a model to a file that runs without this package."""

import json
import warnings
from pathlib import Path
from typing import Any

import torch

from deepedit.files import replace_atomically
from deepedit.network.checkpoint import Model
from deepedit.network.inputs import input_names

METADATA = "deepedit.json"
"""Name of the extra file in a TorchScript archive that holds the plan."""


def export_torchscript(model: Model, path: str | Path) -> None:
    """Write a TorchScript file that ``torch.jit.load`` runs without this package.

    The exported program maps the network's input (see `assemble_input`) to logits. Each side of the input must be a
    multiple of the network's divisor. The extra file ``deepedit.json`` in the archive holds the plan, the divisor and
    the order of the channels of input and output.

    Raises:
        FileError: if the file cannot be written.
    """
    network = model.network.float().eval()
    with warnings.catch_warnings():
        # torch announces that tracing will be removed one day, and warns about the norms' checks of shapes, whose
        # outcome is the same for every input.
        for category in (DeprecationWarning, FutureWarning, torch.jit._trace.TracerWarning):
            warnings.simplefilter("ignore", category)
        traced = torch.jit.trace(network, example_input(model), check_trace=False)
        with replace_atomically(path) as stream:
            torch.jit.save(traced, stream, _extra_files={METADATA: json.dumps(metadata(model), indent=1)})


def export_program(model: Model, path: str | Path) -> None:
    """Write a ``torch.export`` program, the newer form of the same export, for any batch size and volume.

    Raises:
        FileError: if the file cannot be written.
        RuntimeError: if this version of torch cannot export the network.
    """
    network = model.network.float().eval()
    divisor = network.config.divisor
    sides = {axis + 2: divisor[axis] * torch.export.Dim(f"side{axis}", min=2, max=512) for axis in range(3)}
    dimensions = {0: torch.export.Dim("batch", min=1, max=64), **sides}
    program = torch.export.export(network, (example_input(model, batch=2),), dynamic_shapes=(dimensions,))
    with replace_atomically(path) as stream:
        torch.export.save(program, stream, extra_files={METADATA: json.dumps(metadata(model), indent=1)})


def example_input(model: Model, batch: int = 1) -> torch.Tensor:
    """Zeros of a shape that the network takes."""
    sides = [4 * multiple for multiple in model.network.config.divisor]
    return torch.zeros(batch, model.network.in_channels, *sides, device=model.device)


def metadata(model: Model) -> dict[str, Any]:
    """What another program must know to make the network's input and to interpret its logits."""
    return {
        "plan": model.plan.to_dict(),
        "divisor": list(model.network.config.divisor),
        "input_channels": input_names(model.plan),
        "output_channels": list(model.plan.labels.class_names),
    }
