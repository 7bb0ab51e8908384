"""Passes of a network on a GPU as CUDA graphs, which are recorded once and then started as a whole."""

import gc
import warnings
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from deepedit.network.inputs import autocast_dtype

LARGEST = 2**20
"""Most voxels of a batch whose passes are recorded. With few voxels, the GPU finishes each kernel before the host has
started the next one, and a graph saves that time. With more voxels there is nothing to gain."""


class RecordedPasses:
    """A network for training whose passes, forward and backward, are replayed as CUDA graphs where that is faster.

    The results are the same. A recording is made for the first input and whenever the shape differs from that of the
    input before. A backward pass overwrites the gradients of the one before, so that gradients cannot be summed over
    several passes.

    Args:
        network: in training mode, on a GPU; the recordings use its own parameters.
        amp: precision, see `autocast_dtype`. Call the forward pass in the context of that `mixed_precision`.
    """

    def __init__(self, network: nn.Module, amp: str = "auto") -> None:
        self.network, self.amp = network, amp
        self.shape: torch.Size | None = None
        self.passes: Callable[[Tensor], Tensor] = network

    def __call__(self, inputs: Tensor) -> Tensor:
        """Logits of inputs ``[B, C, X, Y, Z]``; the next call overwrites them."""
        if inputs.shape != self.shape:
            # Reference cycles keep the memory of the old recording; once they are collected, the next one can use it.
            self.passes = self.network
            gc.collect()
            if inputs.shape[0] * inputs[0, 0].numel() <= LARGEST:
                self.passes = self._record(inputs)
            self.shape = inputs.shape
        return self.passes(inputs)

    def _record(self, inputs: Tensor) -> Callable[[Tensor], Tensor]:
        dtype = autocast_dtype(inputs.device, self.amp)
        # Without the cache: a graph would go on using the converted weights from the time of its recording.
        kind = inputs.device.type
        precision = torch.autocast(kind, dtype or torch.bfloat16, enabled=dtype is not None, cache_enabled=False)
        if hasattr(torch.autograd.graph, "set_warn_on_accumulate_grad_stream_mismatch"):
            # Recordings are made in a stream of their own, and torch from 2.10 on warns of that in every run.
            torch.autograd.graph.set_warn_on_accumulate_grad_stream_mismatch(False)
        try:
            # Torch records what happens on the current GPU.
            with torch.cuda.device_of(inputs), precision:
                recorded = torch.cuda.make_graphed_callables(_Pass(self.network), (inputs.clone(),))
                return cast(Callable[[Tensor], Tensor], recorded)
        except RuntimeError as error:
            warnings.warn(
                f"the network's passes cannot be recorded here, so training is slower: {str(error).splitlines()[0]}",
                stacklevel=2,
            )
            return self.network


class _Pass(nn.Module):
    """A wrapper around a network for one shape of input: recording replaces the `forward` of the wrapper only."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Tensor) -> Tensor:
        return self.network(inputs)
