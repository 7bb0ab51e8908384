"""Reading state dicts from files of MONAI's users: checkpoints of several kinds, and TorchScript archives."""

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from deepedit.errors import DeepEditError, ModelError
from deepedit.files import one_line, open_for_reading
from deepedit.network.archive import is_archive, read_archive
from deepedit.network.dynunet import HEADS

WRAPPERS = ("net", "network", "model", "state_dict", "model_state_dict")
"""Names under which checkpoints hold a state dict; they may be nested."""

LANDMARK = "input_block.conv1.conv.weight"
"""A parameter of every DynUNet. A prefix of its name, such as ``module.``, is the prefix of all names."""


def read_dynunet(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The state dict in a file. Nothing in the file is executed.

    Args:
        path: a file with a state dict, alone or within a checkpoint, or a TorchScript archive.

    Raises:
        FileError: if the file cannot be opened.
        ModelError: if it holds no state dict, or other things than weights.
    """
    name = one_line(path)
    with open_for_reading(path) as stream:
        try:
            if is_archive(stream):
                entries = read_archive(stream)
            else:
                stream.seek(0)
                entries = torch.load(stream, map_location="cpu", weights_only=True)
            return find_state_dict(entries)
        except DeepEditError as error:
            raise ModelError(f"{name}: {error}") from error
        except Exception as error:  # a damaged file may end in any error of pickle's, zipfile's or torch's
            raise ModelError(
                f"{name}: cannot be read as weights ({type(error).__name__}): it is damaged, or holds more than "
                "tensors; save model.state_dict() alone"
            ) from error


def find_state_dict(entries: Any) -> dict[str, Tensor]:
    """The state dict in the content of a file, its names without a prefix such as ``module.``.

    Raises:
        ModelError: if there is no state dict.
    """
    if isinstance(entries, Mapping) and entries.get("format") == "deepedit":
        raise ModelError("this is a model of this package already; use it as it is, or as `init_weights`")
    # As deep as anyone nests them; a hostile file may nest without end.
    for _ in WRAPPERS:
        inner = [entries[key] for key in WRAPPERS if isinstance(entries, Mapping) and key in entries]
        entries = next((each for each in inner if isinstance(each, Mapping)), entries)
    found = isinstance(entries, Mapping) and {
        name: tensor for name, tensor in entries.items() if isinstance(name, str) and isinstance(tensor, Tensor)
    }
    if not found:
        raise ModelError(f"holds no weights, neither bare nor under {', '.join(WRAPPERS)}")
    landmarks = [name for name in found if name.endswith(LANDMARK)]
    prefix = min(landmarks, key=len).removesuffix(LANDMARK) if landmarks else ""
    return {name.removeprefix(prefix): tensor for name, tensor in found.items()}


def count_heads(state_dict: Mapping[str, Tensor]) -> int:
    """Number of heads for deep supervision in a state dict, which only MONAI's training uses."""
    return len({name.split(".")[1] for name in state_dict if name.startswith(HEADS)})
