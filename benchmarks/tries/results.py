"""Automatic results of networks during training, with the errors that networks make."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deepedit.devices import upload
from deepedit.network.inputs import assemble_input, mixed_precision
from deepedit.training import loop
from deepedit.training.batch import RollingBatch

NOVICES_AT = (0.10, 0.18, 0.27)
"""Shares of the run at which the network is copied as one that makes real errors."""

DROPPED = 0.2
"""Share of the features that are dropped in a spoiled result."""


class Networks:
    """Networks that segment samples of the batch.

    Args:
        update: called after every step with the trainer and the networks so far, which it may change.
    """

    def __init__(self, update: Callable[[loop.Trainer, list[nn.Module]], None]) -> None:
        self.networks: list[nn.Module] = []
        agree = loop.Trainer._agree

        def and_update(trainer: loop.Trainer, *arguments: Any) -> bool:
            stopped = agree(trainer, *arguments)
            update(trainer, self.networks)
            return stopped

        loop.Trainer._agree = and_update

    def segment(self, samples: RollingBatch, slot: int, generator: torch.Generator, noisy: bool) -> Tensor | None:
        """``[X, Y, Z]``: the automatic result of one of them for a sample, perhaps of other intensities; None while
        there are none."""
        if not self.networks:
            return None
        network = self.networks[int(torch.randint(len(self.networks), (), generator=generator))]
        image = samples.image[slot][None]
        if noisy:
            image = _other_intensities(image, generator)
        return _automatic(network, samples, image)

    def segment_spoiled(self, samples: RollingBatch, slot: int, generator: torch.Generator) -> Tensor | None:
        """The same of an image of half the resolution and other intensities, with some features dropped."""
        if not self.networks:
            return None
        image = _other_intensities(samples.image[slot][None], generator)
        coarse = F.interpolate(F.avg_pool3d(image, 2), size=image.shape[2:], mode="trilinear")
        with _dropped_features(self.networks[0], generator):
            return _automatic(self.networks[0], samples, coarse)


def novices() -> Networks:
    """Copies of the network from early in its run."""

    def update(trainer: loop.Trainer, networks: list[nn.Module]) -> None:
        while len(networks) < len(NOVICES_AT) and trainer.progress.share >= NOVICES_AT[len(networks)]:
            networks.append(copy.deepcopy(trainer.average).eval())

    return Networks(update)


def newest() -> Networks:
    """The network as it is, from the time on at which novices are copied first."""

    def update(trainer: loop.Trainer, networks: list[nn.Module]) -> None:
        if trainer.progress.share >= NOVICES_AT[0]:
            networks[:] = [trainer.average]

    return Networks(update)


def _automatic(network: nn.Module, samples: RollingBatch, image: Tensor) -> Tensor:
    guidance = image.new_zeros(1, samples.num_classes, *image.shape[2:])
    previous = torch.zeros_like(samples.label[:1])
    with torch.no_grad(), mixed_precision(image.device, samples.config.amp):
        return network(assemble_input(image, guidance, previous)).argmax(1)[0].to(samples.label.dtype)


def _other_intensities(image: Tensor, generator: torch.Generator) -> Tensor:
    contrast, offset = (0.2 * torch.randn(2, generator=generator)).tolist()
    return image * (1 + contrast) + offset * image.std()


@contextmanager
def _dropped_features(network: nn.Module, generator: torch.Generator) -> Iterator[None]:
    def drop(block: nn.Module, inputs: Any, features: Tensor) -> Tensor:
        kept = (torch.rand(features.shape[:2], generator=generator) >= DROPPED) / (1 - DROPPED)
        return features * upload(kept, features.device)[:, :, None, None, None]

    handles = [block.register_forward_hook(drop) for block in network.encoder]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
