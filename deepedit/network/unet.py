"""A 3D UNet with residual encoder blocks, of the family that MONAI calls DynUNet."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from deepedit.network.architectures import DEFAULT_NETWORK, NETWORKS, Triple, UNetConfig, triple

NEGATIVE_SLOPE = 0.01


class ResidualUNet(nn.Module):
    """Maps ``[B, in_channels, X, Y, Z]`` to logits ``[B, out_channels, X, Y, Z]``.

    Each side of the input must be a multiple of ``config.divisor``. The encoder has residual blocks, the decoder plain
    blocks, all with instance norm and leaky ReLU. With `checkpointing` set, a network in training keeps only the
    tensors between its blocks, and computes those inside of the blocks again for the backward pass.

    Source: Isensee et al., nnU-Net, Nature Methods 2021; the block order is that of MONAI's ``DynUNet`` with
    ``res_block=True``.
    """

    def __init__(self, in_channels: int, out_channels: int, config: UNetConfig = NETWORKS[DEFAULT_NETWORK]) -> None:
        super().__init__()
        self.in_channels, self.out_channels, self.config = in_channels, out_channels, config
        self.checkpointing = False
        filters, strides, kernels = config.filters, config.strides, config.kernels
        self.encoder = nn.ModuleList(
            ResidualBlock(
                channels_in, channels, kernel, stride, config.affine, shortcut=level == 0 and config.first_shortcut
            )
            for level, (channels_in, channels, kernel, stride) in enumerate(
                zip((in_channels, *filters[:-1]), filters, kernels, strides, strict=True)
            )
        )
        self.upsample = nn.ModuleList(
            nn.ConvTranspose3d(filters[level + 1], filters[level], stride, stride, bias=False)
            for level, stride in enumerate(map(triple, strides[1:]))
        )
        self.decoder = nn.ModuleList(
            PlainBlock(2 * channels, channels, kernel, config.affine)
            for channels, kernel in zip(filters[:-1], kernels[1:], strict=True)
        )
        self.head = nn.Conv3d(filters[0], out_channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type == "cpu" and (self.training or not torch.is_grad_enabled()):
            # A third less time: convolutions on a CPU work in this layout, and each would convert to it and back.
            x = x.contiguous(memory_format=torch.channels_last_3d)
        skips = []
        for block in self.encoder:
            x = self._through(block, x)
            skips.append(x)
        for level in range(len(self.decoder) - 1, -1, -1):
            x = torch.cat((self.upsample[level](x), skips[level]), dim=1)
            x = self._through(self.decoder[level], x)
        return self.head(x)

    def _through(self, block: nn.Module, x: Tensor) -> Tensor:
        return checkpoint(block, x, use_reentrant=False) if self.checkpointing and self.training else block(x)


class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut, which is a convolution if the shape changes, else the identity."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int | Triple,
        stride: int | Triple,
        affine: bool,
        shortcut: bool = False,
    ) -> None:
        super().__init__()
        self.conv1, self.norm1 = convolution(in_channels, out_channels, kernel, stride), norm(out_channels, affine)
        self.conv2, self.norm2 = convolution(out_channels, out_channels, kernel), norm(out_channels, affine)
        keeps_shape = in_channels == out_channels and triple(stride) == (1, 1, 1) and not shortcut
        self.shortcut = (
            None
            if keeps_shape
            else nn.Sequential(convolution(in_channels, out_channels, 1, stride), norm(out_channels, affine))
        )

    def forward(self, x: Tensor) -> Tensor:
        y = F.leaky_relu(self.norm1(self.conv1(x)), NEGATIVE_SLOPE, inplace=True)
        y = self.norm2(self.conv2(y))
        y += x if self.shortcut is None else self.shortcut(x)
        return F.leaky_relu(y, NEGATIVE_SLOPE, inplace=True)


class PlainBlock(nn.Module):
    """Two convolutions one after the other."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int | Triple, affine: bool) -> None:
        super().__init__()
        self.conv1, self.norm1 = convolution(in_channels, out_channels, kernel), norm(out_channels, affine)
        self.conv2, self.norm2 = convolution(out_channels, out_channels, kernel), norm(out_channels, affine)

    def forward(self, x: Tensor) -> Tensor:
        x = F.leaky_relu(self.norm1(self.conv1(x)), NEGATIVE_SLOPE, inplace=True)
        return F.leaky_relu(self.norm2(self.conv2(x)), NEGATIVE_SLOPE, inplace=True)


def build_network(in_channels: int, out_channels: int, config: UNetConfig, seed: int) -> ResidualUNet:
    """A network with He-initialised weights that depend on `seed` alone; the global random state is left as it was.

    Source: He et al., Delving Deep into Rectifiers, ICCV 2015.
    """
    with torch.random.fork_rng(devices=[]):
        network = ResidualUNet(in_channels, out_channels, config)
        generator = torch.Generator().manual_seed(seed)
        for module in network.modules():
            if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
                nn.init.kaiming_normal_(module.weight, a=NEGATIVE_SLOPE, generator=generator)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
    return network


SMALLEST_SIDE = 3
"""Voxels. Convolutions of smaller images are trained in float32 on a CPU."""


class Convolution(nn.Conv3d):
    """A convolution whose gradients are right on a CPU in mixed precision, too.

    In bfloat16, oneDNN reads memory that was never set for the gradient of the weights where a side of the image has
    one or two voxels (and writes past the end of its own for some strides), so that the gradient is wrong or not
    finite. Images of this size occur only in the last stages of small or thin patches, where float32 costs little.
    """

    def forward(self, x: Tensor) -> Tensor:
        in_mixed_precision = x.device.type == "cpu" and torch.is_grad_enabled() and torch.is_autocast_enabled("cpu")
        if in_mixed_precision and min(x.shape[2:]) < SMALLEST_SIDE:
            with torch.autocast("cpu", enabled=False):
                return super().forward(x.float())
        return super().forward(x)


def convolution(in_channels: int, out_channels: int, kernel: int | Triple, stride: int | Triple = 1) -> Convolution:
    padding = triple([side // 2 for side in triple(kernel)])
    return Convolution(in_channels, out_channels, triple(kernel), triple(stride), padding, bias=False)


class InstanceNorm(nn.InstanceNorm3d):
    """Instance norm that keeps the channels-last memory layout, which torch's own does not.

    A group norm with one channel in each group computes the same, and so does a batch norm of each sample alone. The
    group norm is faster in the forward pass and much slower in the backward pass.
    """

    def forward(self, x: Tensor) -> Tensor:
        on_cpu = x.device.type == "cpu"
        if not torch.is_grad_enabled() and not (on_cpu and x.dtype == torch.float32):
            return F.group_norm(x, self.num_features, self.weight, self.bias, self.eps)
        if not on_cpu or (torch.is_grad_enabled() and not self.training):
            return super().forward(x)
        return torch.cat([self._sample(one) for one in x.split(1)])

    def _sample(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return F.batch_norm(x, None, None, self.weight, self.bias, True, eps=self.eps)
        # In this layout torch sums up in plain float32, which loses three of seven digits over two million voxels.
        return F.batch_norm(x, *moments(x), self.weight, self.bias, False, eps=self.eps)


SQUARED_AT_ONCE = 2**20
"""Number of values that are squared together: few enough to stay in the caches."""


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of every channel of one sample; rows are summed up in float32, their sums in float64.

    Args:
        x: ``[1, C, X, Y, Z]`` float32.

    Returns:
        The means ``[C]`` and the variances ``[C]``.
    """
    planes = x[0].movedim(0, -1)
    voxels = planes[..., 0].numel()
    mean = (planes.sum(2).double().sum((0, 1)) / voxels).to(x.dtype)
    step = max(1, SQUARED_AT_ONCE // planes[0].numel())
    squares = sum((part - mean).square_().sum(2).double().sum((0, 1)) for part in planes.split(step))
    return mean, (squares / voxels).to(x.dtype)


def norm(channels: int, affine: bool = True) -> InstanceNorm:
    return InstanceNorm(channels, affine=affine)
