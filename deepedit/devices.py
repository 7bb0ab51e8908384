"""Small values on their way to a device."""

from typing import Any

import torch
from torch import Tensor


def upload(values: Any, device: torch.device | str, dtype: torch.dtype | None = None) -> Tensor:
    """A tensor of numbers that the host knows, on `device`, without waiting for it.

    On a GPU the numbers leave from pinned memory: a copy from elsewhere is staged first, and the host waits for that.

    Args:
        values: as `torch.tensor` takes them.
        dtype: of the result; default: as `torch.tensor` chooses.
    """
    device = torch.device(device)
    return torch.tensor(values, dtype=dtype, pin_memory=device.type == "cuda").to(device, non_blocking=True)
