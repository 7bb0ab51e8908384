"""Import and export of networks of MONAI's DeepEdit: the same weights with other names and another order of channels.

MONAI's DeepEdit is a ``DynUNet`` with residual blocks, which is a `ResidualUNet`. Its weights do not tell the order of
the channels of guidance and output, for which there are two conventions. From MONAI 1.6 on (``"sorted"``) the
background comes first, then the labels by name, in guidance and output alike. Before (``"dict"``) the labels are in the
order of the dictionary of labels, with the background after them in the guidance and before them in the output. In this
package the background comes first, then the labels by their values in the file.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from deepedit.errors import ModelError
from deepedit.files import brief, one_line
from deepedit.network.architectures import Triple, UNetConfig, triple
from deepedit.network.checkpoint import Model
from deepedit.network.dynunet import ALIASES, HEADS, channel_orders, dynunet_alias, dynunet_name
from deepedit.network.unet import ResidualUNet
from deepedit.plan import Intensity, Labels, MergePolicy, Plan


def import_dynunet(
    state_dict: Mapping[str, Tensor],
    labels: Mapping[str, int],
    channel_order: str = "sorted",
    strides: Sequence[int | Sequence[int]] | None = None,
) -> ResidualUNet:
    """The network whose weights MONAI's ``DynUNet`` saved.

    Filters, kernels, strides and numbers of channels are read from the tensors. Heads for deep supervision are left
    out, since only training used them.

    Args:
        state_dict: weights of a 3D ``DynUNet`` with ``res_block=True`` and instance norm; see `read_dynunet`.
        labels: names to file values, for ``"dict"`` in the order of the dictionary that the model was trained with.
        channel_order: ``"sorted"`` or ``"dict"``, see above.
        strides: strides of the levels, the first of them 1. If given, they are compared with those of the tensors.

    Returns:
        The network in evaluation mode, in float32. Its input is image and guidance, without a previous segmentation. In
        guidance and output the background comes first, then the labels by their file values.

    Raises:
        ModelError: if the weights are those of another network, are damaged, or do not fit the labels or strides.
    """
    tensors = {name: tensor for name, tensor in state_dict.items() if not str(name).startswith((ALIASES, HEADS))}
    _refuse_other_networks(tensors)
    config = _config(tensors, strides)
    guidance, outputs = channel_orders(labels, channel_order)
    in_channels, out_channels = _shape(tensors, FIRST)[1], _shape(tensors, HEAD)[0]
    if out_channels != len(outputs) or in_channels <= len(guidance):
        raise ModelError(
            f"the weights take {in_channels} channels and give {out_channels}, which does not fit an image and "
            f"{len(outputs)} classes ({one_line(', '.join(Labels.from_mapping(labels).class_names), 200)}); "
            "name every label of the model"
        )
    network = _empty_network(in_channels, out_channels, config)
    weights = {}
    for name, wanted in network.state_dict().items():
        theirs = dynunet_name(name, len(config.filters))
        weights[name] = _checked(tensors.pop(theirs, None), theirs, wanted.shape)
    if tensors:
        raise ModelError(f"the weights hold {brief(next(iter(tensors)))}, which is no part of a DynUNet of DeepEdit's")
    network.load_state_dict(_permuted(weights, _inverse(guidance), _inverse(outputs)), assign=True)
    return network.requires_grad_(True).eval()


def export_dynunet(
    model: Model, channel_order: str = "sorted", labels: Mapping[str, int] | None = None
) -> dict[str, Tensor]:
    """A state dict that ``DynUNet(**dynunet_arguments(model.network)).load_state_dict`` takes, strictly.

    Args:
        model: a model that takes no previous segmentation.
        channel_order: ``"sorted"`` for MONAI 1.6 and later, ``"dict"`` for earlier versions.
        labels: names to file values of the model's labels, for ``"dict"`` in the order of MONAI's dictionary; in the
            order of the file values unless given.

    Raises:
        ModelError: if MONAI has no such network, or if the labels are not those of the model.
    """
    plan, levels = model.plan, len(model.network.config.filters)
    if plan.previous:
        raise ModelError(
            "the model takes a previous segmentation, which MONAI's network does not; it cannot be exported"
        )
    if levels < 3:
        raise ModelError("MONAI's DynUNet has at least 3 levels, this network has 2; it cannot be exported")
    if labels is None:
        labels = dict(zip(plan.labels.names, plan.labels.values, strict=True))
    elif Labels.from_mapping(labels) != plan.labels:
        raise ModelError(f"the labels should be those of the model: {', '.join(plan.labels.names)}")
    guidance, outputs = channel_orders(labels, channel_order)
    weights = {name: tensor.detach().cpu().clone() for name, tensor in model.network.state_dict().items()}
    weights = _permuted(weights, guidance, outputs)
    tensors = {dynunet_name(name, levels): tensor for name, tensor in weights.items()}
    again = {dynunet_alias(name, levels): tensor for name, tensor in tensors.items()}
    return tensors | again


def import_model(
    state_dict: Mapping[str, Tensor],
    labels: Mapping[str, int],
    channel_order: str = "sorted",
    strides: Sequence[int | Sequence[int]] | None = None,
    grid: Triple = (128, 128, 128),
) -> Model:
    """A model that prepares images and clicks as MONAI's DeepEdit does.

    Args:
        grid: number of voxels along each axis to which images were resized in training, multiples of the network's
            divisor.
        state_dict, labels, channel_order, strides: as for `import_dynunet`.

    Raises:
        ModelError: as for `import_dynunet`, and if the grid does not fit the network.
    """
    network = import_dynunet(state_dict, labels, channel_order, strides)
    if any(side < multiple or side % multiple for side, multiple in zip(grid, network.config.divisor, strict=True)):
        raise ModelError(
            f"the grid {','.join(map(str, grid))} does not fit: each side must be a multiple of "
            f"{','.join(map(str, network.config.divisor))} for this network"
        )
    if tuple(grid) == network.config.divisor:
        raise ModelError(
            f"the grid {','.join(map(str, grid))} cannot be right: the deepest level would be a single voxel, on which "
            "MONAI cannot have trained this network"
        )
    plan = Plan(
        Labels.from_mapping(labels),
        spacing=(1.0, 1.0, 1.0),
        patch_size=grid,
        intensity=Intensity("window", -175.0, 250.0),
        image_channels=network.in_channels - network.out_channels,
        sigma=3.0,
        fixed_shape=grid,
        guidance="sum-normalized",
        previous=False,
        merge=MergePolicy.plain(),
    )
    return Model(network, plan)


FIRST = "input_block.conv1.conv.weight"
HEAD = "output_block.conv.conv.weight"


def _refuse_other_networks(tensors: Mapping[str, Tensor]) -> None:
    """Raise a ModelError that names the kind of weights if they are not those of a DynUNet with residual blocks."""
    names = [str(name) for name in tensors]
    if any(name.startswith(("vit.", "swinViT.")) for name in names):
        raise ModelError("these are the weights of a UNETR; only MONAI's DynUNet can be imported")
    missing = [
        block
        for block in ("input_block", "downsamples", "bottleneck", "upsamples", "output_block")
        if not any(name.startswith(block + ".") for name in names)
    ]
    if missing:
        raise ModelError(f"these are no weights of a DynUNet: they lack {', '.join(missing)}")
    if "bottleneck.conv3.conv.weight" not in tensors:
        raise ModelError("these are the weights of a DynUNet without residual blocks; only those with can be imported")
    if any(name.endswith(".running_mean") for name in names):
        raise ModelError("these are the weights of a DynUNet with batch norm; only instance norm can be imported")
    if any(name.endswith(".transp_conv.conv.bias") for name in names):
        raise ModelError("the transposed convolutions have a bias (trans_bias=True), which is not supported")


def _config(tensors: Mapping[str, Tensor], strides: Sequence[int | Sequence[int]] | None) -> UNetConfig:
    """The architecture, read from the shapes of the tensors."""
    down = 0
    while f"downsamples.{down}.conv1.conv.weight" in tensors:
        down += 1
    blocks = ["input_block", *(f"downsamples.{index}" for index in range(down)), "bottleneck"]
    shapes = [_shape(tensors, f"{block}.conv1.conv.weight") for block in blocks]
    up = [_shape(tensors, f"upsamples.{index}.transp_conv.conv.weight")[2:] for index in range(down + 1)]
    found = [(1, 1, 1), *reversed(up)]
    if strides is not None and [triple(stride) for stride in strides] != found:
        raise ModelError(
            f"the strides {_plain(strides)} were asked for, but the transposed convolutions have kernels of "
            f"{_plain(found)}; they must be the same"
        )
    kernels = [shape[2:] for shape in shapes]
    # MONAI pads by (kernel - stride + 1) / 2, rounded down, which is the same as here for these alone.
    if not {side for stride in found for side in stride} <= {1, 2} or any(
        side % 2 == 0 for kernel in kernels for side in kernel
    ):
        raise ModelError(
            f"kernels {_plain(kernels)} with strides {_plain(found)}: only odd kernels and strides of 1 and 2 are "
            "supported"
        )
    return UNetConfig(
        filters=tuple(shape[0] for shape in shapes),
        strides=tuple(map(_compact, found)),
        kernels=tuple(map(_compact, kernels)),
        affine="input_block.norm1.weight" in tensors,
    )


def _shape(tensors: Mapping[str, Tensor], name: str) -> tuple[int, ...]:
    """Shape of the weights of a 3D convolution."""
    tensor = tensors.get(name)
    if tensor is None:
        raise ModelError(f"the weights lack {name}; they are damaged, or of another network")
    if not isinstance(tensor, Tensor) or tensor.ndim != 5 or not tensor.numel():
        raise ModelError(f"the weights are those of no 3D network: {name} is {_kind(tensor)}")
    return tuple(tensor.shape)


def _checked(tensor: Tensor | None, name: str, shape: Sequence[int]) -> Tensor:
    """A copy of the tensor in float32; a ModelError if it is not what the network needs."""
    if tensor is None:
        raise ModelError(f"the weights lack {name}; they are damaged, or of another network")
    if not isinstance(tensor, Tensor) or not tensor.is_floating_point() or tensor.shape != shape:
        raise ModelError(f"{name} is {_kind(tensor)} where {list(shape)} numbers are expected; the weights are damaged")
    # A stride of 0 makes a few bytes look like many.
    if tensor.layout != torch.strided or tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise ModelError(f"{name} holds fewer numbers than its shape says; the weights are damaged")
    return tensor.detach().cpu().to(torch.float32, copy=True).contiguous()


def _empty_network(in_channels: int, out_channels: int, config: UNetConfig) -> ResidualUNet:
    """The network with tensors that take no memory, since the shapes in a file may be wrong and huge."""
    try:
        with torch.device("meta"):
            return ResidualUNet(in_channels, out_channels, config)
    except (RuntimeError, OverflowError) as error:
        raise ModelError("the weights describe a network beyond all bounds; they are damaged") from error


def _permuted(weights: dict[str, Tensor], guidance: Sequence[int], outputs: Sequence[int]) -> dict[str, Tensor]:
    """The weights with their channels for guidance (the last ones of the input) and for the output reordered."""
    result = dict(weights)
    for name in ("encoder.0.conv1.weight", "encoder.0.shortcut.0.weight"):
        if name in result:
            image = result[name].shape[1] - len(guidance)
            order = [*range(image), *(image + index for index in guidance)]
            result[name] = result[name][:, order].contiguous()
    for name in ("head.weight", "head.bias"):
        result[name] = result[name][list(outputs)].contiguous()
    return result


def _inverse(order: Sequence[int]) -> list[int]:
    return sorted(range(len(order)), key=order.__getitem__)


def _compact(sides: Sequence[int]) -> int | Triple:
    return sides[0] if len(set(sides)) == 1 else triple(sides)


def _plain(entries: Sequence[int | Sequence[int]]) -> str:
    return ",".join(str(_compact(triple(entry))).replace(" ", "") for entry in entries)


def _kind(tensor: object) -> str:
    if not isinstance(tensor, Tensor):
        return f"a {type(tensor).__name__}"
    return f"{list(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"
