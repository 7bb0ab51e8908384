"""A second, small network that decides anew what around a click belongs to the clicked class."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deepedit.network.unet import NEGATIVE_SLOPE

RADIUS = 12
"""Voxels around a click in which it decides."""

SIDE = 2 * RADIUS + 1
"""Of the piece that it sees, with the click in the middle, voxels."""

LARGEST_LEAD = 8.0
"""It is told by how much a logit leads up to this only: beyond, a voxel is certain."""

FILTERS = 16


class Refiner(nn.Module):
    """Maps pieces around clicks, ``[B, channels, SIDE, SIDE, SIDE]`` as `deepedit.inference.refine` makes them, to
    ``[B, SIDE, SIDE, SIDE]``: by how much the logit of the clicked class leads.

    The first channel of a piece is that lead in the network's answer, as a share of half of `LARGEST_LEAD`, and what
    the convolutions find is added to it: without training the answer stays as it is.

    Attributes:
        far: ``[]`` float; 1 if answers count farther than `RADIUS` from a click too, 0 if the result stays there.
    """

    far: Tensor

    def __init__(self, image_channels: int, num_classes: int) -> None:
        super().__init__()
        self.first = nn.Conv3d(piece_channels(image_channels, num_classes), FILTERS, 3, padding=1)
        self.second = nn.Conv3d(FILTERS, FILTERS, 3, padding=1)
        self.third = nn.Conv3d(FILTERS, FILTERS, 3, padding=2, dilation=2)
        self.last = nn.Conv3d(FILTERS, 1, 1)
        self.register_buffer("far", torch.ones(()))

    def forward(self, pieces: Tensor) -> Tensor:
        x = F.leaky_relu(self.first(pieces), NEGATIVE_SLOPE)
        x = x + F.leaky_relu(self.second(x), NEGATIVE_SLOPE)
        x = x + F.leaky_relu(self.third(x), NEGATIVE_SLOPE)
        return self.last(x)[:, 0] + LARGEST_LEAD / 2 * pieces[:, 0]


def piece_channels(image_channels: int, num_classes: int) -> int:
    """Channels of a piece: two leads, what lies in the window, the image and its difference from the clicked voxel,
    four of clicks, and which class was clicked."""
    return 2 + 1 + 2 * image_channels + 4 + num_classes


def build_refiner(image_channels: int, num_classes: int, seed: int) -> Refiner:
    """A refiner that leaves answers as they are, with He-initialised weights that depend on `seed` alone."""
    with torch.random.fork_rng(devices=[]):
        refiner = Refiner(image_channels, num_classes)
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in refiner.named_parameters():
        if name.endswith("bias") or name.startswith("last"):
            nn.init.zeros_(tensor)
        else:
            nn.init.kaiming_normal_(tensor, a=NEGATIVE_SLOPE, generator=generator)
    return refiner
