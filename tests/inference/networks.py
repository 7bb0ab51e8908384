"""Networks small enough to know their answers."""

import torch
from torch import Tensor, nn

from deepedit.network.architectures import UNetConfig
from deepedit.network.checkpoint import Model
from deepedit.network.inputs import input_channels
from deepedit.network.refiner import build_refiner
from deepedit.network.unet import build_network
from deepedit.plan import Intensity, Labels, Plan
from tests.obedient import LABELS


class Pointwise(nn.Module):
    """Every voxel's logits come from that voxel's input alone, so that windows cannot matter."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.config = UNetConfig(filters=(1, 1), strides=(1, 1), kernels=(1, 1))
        self.head = nn.Conv3d(in_channels, num_classes, 1)
        generator = torch.Generator().manual_seed(3)
        nn.init.normal_(self.head.weight, generator=generator)
        nn.init.normal_(self.head.bias, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x)


class Sweeping(nn.Module):
    """Background without clicks; the label of the click, as far as it sees, with one."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.config = UNetConfig(filters=(1, 1), strides=(1, 1), kernels=(1, 1))
        self.head = nn.Conv3d(1, 1, 1)
        self.num_classes = num_classes

    def forward(self, x: Tensor) -> Tensor:
        guidance = x[:, 1 : 1 + self.num_classes].float()
        strongest = guidance.amax((2, 3, 4))[..., None, None, None]
        return 8 * (strongest + 0.5 * (torch.arange(self.num_classes) == 0).view(-1, 1, 1, 1)).expand_as(guidance)


def plan(
    patch: tuple[int, int, int] = (16, 16, 16),
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    labels: Labels = LABELS,
    channels: int = 1,
) -> Plan:
    return Plan(labels, spacing, patch, Intensity("window", 0.0, 2.0), channels, sigma=1.5)


def pointwise_model(channels: int = 1, **options) -> Model:
    made = plan(channels=channels, **options)
    classes = made.labels.num_classes
    return Model(Pointwise(input_channels(channels, classes), classes).eval(), made)


def sweeping_model(**options) -> Model:
    made = plan(**options)
    return Model(Sweeping(made.labels.num_classes).eval(), made)


def random_model(channels: int = 1, **options) -> Model:
    """A real network and a refiner with random weights; sides must be multiples of 4."""
    made = plan(channels=channels, **options)
    config = UNetConfig(filters=(4, 8, 8), strides=(1, 2, 2), kernels=(3, 3, 3))
    classes = made.labels.num_classes
    refiner = build_refiner(channels, classes, seed=5).eval()
    nn.init.normal_(refiner.last.weight, generator=torch.Generator().manual_seed(5))
    network = build_network(input_channels(channels, classes), classes, config, seed=5)
    return Model(network.eval(), made, refiner=refiner)
