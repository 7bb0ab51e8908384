"""The choice between fused kernels on a GPU and operators of torch."""

import math
import warnings
from collections.abc import Sequence
from functools import cache
from types import ModuleType

import torch


def kernels_for(shape: Sequence[int], device: torch.device) -> ModuleType | None:
    """The module of fused kernels if they can work on tensors ``[B, ...]`` on a device, else None.

    They can on a GPU on which Triton's kernels run, for samples of fewer than 2**31 voxels. Everywhere else operators
    of torch do the same work.
    """
    if device.type != "cuda" or len(shape) < 2 or math.prod(shape[1:]) >= 2**31:
        return None
    return _kernels_on(device)


@cache
def _kernels_on(device: torch.device) -> ModuleType | None:
    try:
        from deepedit.clicks import kernels

        # Whether they can be compiled here shows only when one is, and a compiler for C may be missing.
        nothing = torch.zeros(1, 1, dtype=torch.uint8, device=device)
        kernels.error_codes(nothing, nothing, None, None, narrow=True)
    except Exception as error:
        reason = str(error).strip().splitlines()
        warnings.warn(
            f"clicks are simulated without fused kernels on {device}, more slowly: {type(error).__name__}: "
            f"{reason[0] if reason else 'no reason given'}",
            stacklevel=2,
        )
        return None
    return kernels
