"""MONAI's names for the parameters of a `ResidualUNet` (its DynUNet), and the order of channels in its DeepEdit."""

from collections.abc import Mapping
from typing import Any

from deepedit.network.unet import ResidualUNet
from deepedit.plan import BACKGROUND, Labels

CHANNEL_ORDERS = ("sorted", "dict")

ALIASES = "skip_layers."
"""A state dict of MONAI holds every block a second time, under names that begin with this."""

HEADS = "deep_supervision_heads."

PARTS = {
    "conv1": "conv1.conv",
    "norm1": "norm1",
    "conv2": "conv2.conv",
    "norm2": "norm2",
    "shortcut.0": "conv3.conv",
    "shortcut.1": "norm3",
}
"""MONAI's names of the parts of a block."""


def dynunet_name(name: str, levels: int) -> str:
    """MONAI's name of a parameter of a `ResidualUNet` with that many levels."""
    module, _, parameter = name.rpartition(".")
    if module == "head":
        return f"output_block.conv.conv.{parameter}"
    room, number, *part = module.split(".", 2)
    level = int(number)
    if room == "encoder":
        return f"{_encoder_block(level, levels)}.{PARTS[part[0]]}.{parameter}"
    # MONAI counts the way up from the bottom.
    block = f"upsamples.{levels - 2 - level}"
    if room == "upsample":
        return f"{block}.transp_conv.conv.{parameter}"
    return f"{block}.conv_block.{PARTS[part[0]]}.{parameter}"


def dynunet_alias(name: str, levels: int) -> str:
    """The second name of a parameter in MONAI's state dict, or its only name if it has no second one.

    ``DynUNet`` holds its blocks a second time as nested levels, of which the finest is the outermost.
    """
    for level in range(levels):
        outer = ALIASES + "next_layer." * level
        bottom = level == levels - 1
        names = {_encoder_block(level, levels) + ".": outer if bottom else outer + "downsample."}
        if not bottom:
            names[f"upsamples.{levels - 2 - level}."] = outer + "upsample."
        for block, alias in names.items():
            if name.startswith(block):
                return alias + name.removeprefix(block)
    return name


def channel_orders(labels: Mapping[str, int], channel_order: str = "sorted") -> tuple[list[int], list[int]]:
    """The class index of each channel of MONAI's guidance, and of each channel of its output.

    Args:
        labels: names to file values, with or without the background; for ``"dict"`` in the order of the dictionary that
            MONAI was given.
        channel_order: ``"sorted"``: the background, then the labels by name. ``"dict"``: the labels in the given order,
            with the background after them in the guidance and before them in the output.
    """
    if channel_order not in CHANNEL_ORDERS:
        raise ValueError(f"channel_order must be sorted or dict; got {channel_order!r}")
    names = [name for name in labels if name != BACKGROUND]
    classes = Labels.from_mapping(labels)
    foreground = [classes.index(name) for name in (sorted(names) if channel_order == "sorted" else names)]
    guidance = [0, *foreground] if channel_order == "sorted" else [*foreground, 0]
    return guidance, [0, *foreground]


def dynunet_arguments(network: ResidualUNet) -> dict[str, Any]:
    """The arguments of the ``DynUNet`` of the same architecture."""
    config = network.config
    return {
        "spatial_dims": 3,
        "in_channels": network.in_channels,
        "out_channels": network.out_channels,
        "kernel_size": list(config.kernels),
        "strides": list(config.strides),
        "upsample_kernel_size": list(config.strides[1:]),
        "filters": list(config.filters),
        "norm_name": ("instance", {"affine": config.affine}),
        "res_block": True,
    }


def _encoder_block(level: int, levels: int) -> str:
    if level == 0:
        return "input_block"
    return "bottleneck" if level == levels - 1 else f"downsamples.{level - 1}"
