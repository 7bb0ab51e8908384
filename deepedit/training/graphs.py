"""Passes of a network on a GPU, recorded once and then started as one."""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

from deepedit.network.inputs import autocast_dtype

LARGEST = 2**20
"""Voxels of a batch up to which passes are recorded. A pass of fewer is over before the host has started all of its
kernels one by one; with more there is nothing to gain."""


class RecordedPasses:
    """A network for training whose passes, forward and backward, are replayed as CUDA graphs where that is faster.

    What is computed is the same. Each shape of input is recorded when it first comes up, and kept.

    Args:
        network: in training mode, on a GPU; its parameters stay its own.
        amp: precision, see `autocast_dtype`. The forward pass is to be called within that `mixed_precision`.
    """

    def __init__(self, network: nn.Module, amp: str = "auto") -> None:
        self.network, self.amp = network, amp
        self.passes: dict[torch.Size, Callable[[Tensor], Tensor]] = {}

    def __call__(self, inputs: Tensor) -> Tensor:
        """Logits of ``[B, C, X, Y, Z]`` inputs; they are overwritten by the next call."""
        if inputs.shape not in self.passes:
            small = inputs.shape[0] * inputs[0, 0].numel() <= LARGEST
            self.passes[inputs.shape] = self._record(inputs) if small else self.network
        return self.passes[inputs.shape](inputs)

    def _record(self, inputs: Tensor) -> Callable[[Tensor], Tensor]:
        dtype = autocast_dtype(inputs.device, self.amp)
        # Weights that were converted once and remembered would be those of the recording for good.
        kind = inputs.device.type
        precision = torch.autocast(kind, dtype or torch.bfloat16, enabled=dtype is not None, cache_enabled=False)
        try:
            with precision:
                return torch.cuda.make_graphed_callables(_Pass(self.network), (inputs.clone(),))
        except RuntimeError as error:
            warnings.warn(
                f"the network's passes cannot be recorded here, so training is slower: {str(error).splitlines()[0]}",
                stacklevel=2,
            )
            return self.network


class _Pass(nn.Module):
    """A network under a name of its own: recording replaces `forward` for one shape of input alone."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Tensor) -> Tensor:
        return self.network(inputs)
