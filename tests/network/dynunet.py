"""A DynUNet written a second time, as names of tensors and as a function of them: what importing is held against."""

import torch
from torch.nn import functional as F


def random_state_dict(in_channels, out_channels, filters, strides, kernel=3, affine=False, seed=0):
    """Random weights under the names that MONAI gives them, without the second names under ``skip_layers``."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}

    def draw(name, *shape):
        tensors[name] = torch.randn(shape, generator=generator) / max(torch.Size(shape[1:]).numel(), 1) ** 0.5

    def block(name, channels, to, shortcut):
        parts = [("1", channels, kernel), ("2", to, kernel)] + [("3", channels, 1)] * shortcut
        for number, inside, side in parts:
            draw(f"{name}.conv{number}.conv.weight", to, inside, side, side, side)
            if affine:
                draw(f"{name}.norm{number}.weight", to)
                draw(f"{name}.norm{number}.bias", to)

    last = len(filters) - 1
    for level, channels in enumerate(filters):
        name = "input_block" if level == 0 else "bottleneck" if level == last else f"downsamples.{level - 1}"
        before = filters[level - 1] if level else in_channels
        block(name, before, channels, shortcut=before != channels or strides[level] != (1, 1, 1))
    for index, level in enumerate(range(last - 1, -1, -1)):
        draw(f"upsamples.{index}.transp_conv.conv.weight", filters[level + 1], filters[level], *strides[level + 1])
        block(f"upsamples.{index}.conv_block", 2 * filters[level], filters[level], shortcut=False)
    draw("output_block.conv.conv.weight", out_channels, filters[0], 1, 1, 1)
    draw("output_block.conv.conv.bias", out_channels)
    return tensors


def run_state_dict(tensors, x, strides):
    """The network's output, straight from the tensors."""

    def norm(name, x):
        weight, bias = tensors.get(f"{name}.weight"), tensors.get(f"{name}.bias")
        return F.instance_norm(x, weight=weight, bias=bias)

    def conv(name, x, stride=(1, 1, 1)):
        weight = tensors[f"{name}.conv.weight"]
        return F.conv3d(x, weight, stride=stride, padding=weight.shape[-1] // 2)

    def residual(name, x, stride):
        y = F.leaky_relu(norm(f"{name}.norm1", conv(f"{name}.conv1", x, stride)), 0.01)
        y = norm(f"{name}.norm2", conv(f"{name}.conv2", y))
        if f"{name}.conv3.conv.weight" in tensors:
            x = norm(f"{name}.norm3", conv(f"{name}.conv3", x, stride))
        return F.leaky_relu(y + x, 0.01)

    skips = []
    for level, stride in enumerate(strides):
        last = level == len(strides) - 1
        name = "input_block" if level == 0 else "bottleneck" if last else f"downsamples.{level - 1}"
        x = residual(name, x, stride)
        skips.append(x)
    for index, skip in enumerate(reversed(skips[:-1])):
        weight = tensors[f"upsamples.{index}.transp_conv.conv.weight"]
        x = torch.cat((F.conv_transpose3d(x, weight, stride=weight.shape[2:]), skip), dim=1)
        for number in "12":
            name = f"upsamples.{index}.conv_block"
            x = F.leaky_relu(norm(f"{name}.norm{number}", conv(f"{name}.conv{number}", x)), 0.01)
    return F.conv3d(x, tensors["output_block.conv.conv.weight"], tensors["output_block.conv.conv.bias"])


ONE = (1, 1, 1)
TWO = (2, 2, 2)
FLAT = (2, 2, 1)
STRIDES = (ONE, TWO, FLAT)
FILTERS = (4, 5, 6)
ORGANS = {"liver": 6, "spleen": 1, "kidney": 3, "background": 0}
"""By name: kidney, liver, spleen; by file value: spleen, kidney, liver; no two orders agree."""


def organ_weights(seed=0, affine=False):
    return random_state_dict(5, 4, FILTERS, STRIDES, affine=affine, seed=seed)


def random_input(channels, shape=(8, 8, 4), seed=1):
    return torch.randn(1, channels, *shape, generator=torch.Generator().manual_seed(seed))
