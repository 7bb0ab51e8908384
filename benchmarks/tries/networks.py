"""Other networks, and other averages of their weights."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deepedit.network import unet
from deepedit.network.unet import PlainBlock, ResidualUNet
from deepedit.training import loop
from deepedit.training.loop import Trainer


def dropout(probability: float) -> None:
    """In training, so many channels of the output of every encoder block are 0."""

    class Dropping(ResidualUNet):
        def _through(self, block: nn.Module, x: Tensor) -> Tensor:
            x = super()._through(block, x)
            dropped = self.training and any(block is each for each in self.encoder)
            return F.dropout3d(x, probability) if dropped else x

    unet.ResidualUNet = Dropping


def guidance_in_the_last_block() -> None:
    """The last block of the decoder is given the guidance and the previous segmentation beside its features."""

    class Guided(ResidualUNet):
        def __init__(self, in_channels: int, out_channels: int, config: Any) -> None:
            super().__init__(in_channels, out_channels, config)
            self.given = 2 * out_channels - 1
            wide = 2 * config.filters[0] + self.given
            self.decoder[0] = PlainBlock(wide, config.filters[0], config.kernels[1], config.affine)

        def forward(self, x: Tensor) -> Tensor:
            self.beside = x[:, -self.given :]
            return super().forward(x)

        def _through(self, block: nn.Module, x: Tensor) -> Tensor:
            return super()._through(block, torch.cat((x, self.beside), 1) if block is self.decoder[0] else x)

    unet.ResidualUNet = Guided


class _Head(nn.Conv3d):
    """The last convolution, with those of the other supervised levels as its parts, so that they are trained alike."""

    deeper: nn.ModuleList


def deep_supervision() -> None:
    """Coarser levels of the decoder are supervised too, each with half of the weight of the level above.

    On a GPU it needs ``--set record_passes=0``, as what is supervised does not leave the network as its result.
    """
    plain = loop.segmentation_loss
    coarser: list[tuple[float, Tensor]] = []

    class Supervised(ResidualUNet):
        def __init__(self, in_channels: int, out_channels: int, config: Any) -> None:
            super().__init__(in_channels, out_channels, config)
            self.head = _Head(config.filters[0], out_channels, kernel_size=1)
            coarse = config.filters[1 : len(self.decoder)]
            self.head.deeper = nn.ModuleList(nn.Conv3d(filters, out_channels, 1) for filters in coarse)

        def forward(self, x: Tensor) -> Tensor:
            coarser.clear()
            return super().forward(x)

        def _through(self, block: nn.Module, x: Tensor) -> Tensor:
            x = super()._through(block, x)
            for level, head in enumerate(self.head.deeper if self.training else (), 1):
                if block is self.decoder[level]:
                    coarser.append((0.5**level, head(x)))
            return x

    def loss(logits: Tensor, target: Tensor, nearness: Tensor, weight: float, ignoring: bool) -> Tensor:
        total, weights = plain(logits, target, nearness, weight, ignoring), 1.0
        for share, own in coarser:
            size = own.shape[2:]
            near = F.interpolate(nearness[:, None].float(), size=size, mode="nearest")[:, 0]
            truth = F.interpolate(target[:, None].float(), size=size, mode="nearest")[:, 0].to(target.dtype)
            total = total + share * plain(own, truth, near, weight, ignoring)
            weights += share
        return total / weights

    unet.ResidualUNet, loop.segmentation_loss = Supervised, loss


def average_of_the_end(share: float) -> None:
    """The saved weights are the mean of all in the last part of the run, of so large a share, instead of a moving
    average."""
    agree, plain = Trainer._agree, loop.move_average
    progress = {"share": 0.0, "averaged": 0}

    def agreed(trainer: Trainer, *arguments: Any) -> bool:
        stopped = agree(trainer, *arguments)
        progress["share"] = trainer.progress.share
        return stopped

    def move_average(average: nn.Module, network: nn.Module, decay: float, step: int) -> None:
        if progress["share"] < 1 - share:
            plain(average, network, decay, step)
            return
        progress["averaged"] += 1
        with torch.no_grad():
            weights = list(average.parameters()), list(network.parameters())
            torch._foreach_lerp_(*weights, 1 / progress["averaged"])

    Trainer._agree, loop.move_average = agreed, move_average
