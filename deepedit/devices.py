"""Small values on their way to a device, and the memory that is free there."""

import math
from typing import Any

import torch
from torch import Tensor


def upload(values: Any, device: torch.device | str, dtype: torch.dtype | None = None) -> Tensor:
    """A tensor of numbers that the host knows, on `device`, without waiting for it.

    For a GPU the numbers are first put into pinned memory: the host would wait for a copy from other memory.

    Args:
        values: as `torch.as_tensor` takes them; a tensor may be shared where `device` is the CPU.
        dtype: of the result; default: as `torch.as_tensor` chooses.
    """
    device, tensor = torch.device(device), torch.as_tensor(values, dtype=dtype)
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)


def free_on_gpu(device: torch.device, wanted: float = math.inf) -> int:
    """The bytes that are free on a GPU.

    Where they are fewer than those wanted, torch first gives back what it keeps of tensors that are gone.
    """
    free, _ = torch.cuda.mem_get_info(device.index)
    if free < wanted:
        torch.cuda.empty_cache()
        free, _ = torch.cuda.mem_get_info(device.index)
    return free
