"""The network's input: its channels and their order, its precision and its device."""

import contextlib
import copy
from typing import TypeVar

import torch
from torch import Tensor, nn

from deepedit.errors import DeepEditError
from deepedit.plan import Plan

Network = TypeVar("Network", bound=nn.Module)


def input_channels(image_channels: int, num_classes: int, previous: bool = True) -> int:
    """Channels of the network's input: image, guidance of every class, previous segmentation of every label."""
    return image_channels + num_classes + (num_classes - 1) * previous


def input_names(plan: Plan) -> list[str]:
    """A name for each channel of the network's input."""
    labels = plan.labels
    return [
        *(f"image channel {channel}" for channel in range(plan.image_channels)),
        *(f"guidance of {name}" for name in labels.class_names),
        *(f"previous segmentation of {name}" for name in labels.names if plan.previous),
    ]


def assemble_input(image: Tensor, guidance: Tensor, previous: Tensor | None) -> Tensor:
    """The network's input.

    Args:
        image: ``[B, C, X, Y, Z]`` float.
        guidance: ``[B, L + 1, X, Y, Z]`` in [0, 1], background first.
        previous: ``[B, X, Y, Z]`` class indices of the previous segmentation, all 0 for a sample without one; None for
            a network without these channels.

    Returns:
        ``[B, C + 2 L + 1, X, Y, Z]`` of the image's type, or ``[B, C + L + 1, X, Y, Z]`` if `previous` is None.
    """
    if previous is None:
        return torch.cat((image, guidance.to(image.dtype)), dim=1)
    labels = torch.arange(1, guidance.shape[1], device=image.device).view(1, -1, 1, 1, 1)
    one_hot = previous[:, None] == labels
    return torch.cat((image, guidance.to(image.dtype), one_hot.to(image.dtype)), dim=1)


def autocast_dtype(device: torch.device, amp: str = "auto") -> torch.dtype | None:
    """The type for mixed precision on a device; None stands for full precision.

    With ``amp="auto"`` it is bfloat16 on GPUs that support it, and float16 on older GPUs. On CPUs with AMX or AVX-512
    BF16 instructions it is bfloat16, which is several times faster there than float32. On other CPUs, and with
    ``amp="off"``, it is None.

    Raises:
        DeepEditError: if `amp` is something else.
    """
    if amp not in ("auto", "off"):
        raise DeepEditError(f"`amp` is auto or off; got {amp!r}")
    if amp == "off":
        return None
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16
    if device.type == "cpu" and _cpu_has_bfloat16():
        return torch.bfloat16
    return None


def _cpu_has_bfloat16() -> bool:
    # The checks are private to torch and differ from version to version; where one is missing, the answer is no.
    checks = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(check is not None and check() for check in checks)


def mixed_precision(device: torch.device, amp: str = "auto") -> contextlib.AbstractContextManager[object]:
    """A context in which a network runs at the precision of `autocast_dtype`."""
    dtype = autocast_dtype(device, amp)
    return contextlib.nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)


def at_precision(network: Network, device: torch.device, amp: str = "auto") -> Network:
    """The network in its fastest form, for as long as its weights do not change: on a GPU a copy at the precision of
    `autocast_dtype`, so that no layer has to convert anything; elsewhere the network itself."""
    dtype = autocast_dtype(device, amp) if device.type == "cuda" else None
    return network if dtype is None else copy.deepcopy(network).to(dtype)


def pick_device(device: str | torch.device = "auto") -> torch.device:
    """The device of that name; ``"auto"`` is CUDA if there is a GPU, else the CPU.

    Raises:
        DeepEditError: if there is no such device.
    """
    if str(device) == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        picked = torch.device(device)
        if picked.type != "cpu":
            torch.empty(0, device=picked)
    except (RuntimeError, AssertionError) as error:
        raise DeepEditError(f"device {str(device)!r} is not there; use auto, cpu, or cuda with a GPU") from error
    return picked
