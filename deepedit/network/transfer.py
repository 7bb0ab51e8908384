"""Starting a model from the weights of another one, even if their labels differ."""

import copy
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from deepedit.errors import ModelError
from deepedit.network.checkpoint import Model
from deepedit.network.inputs import input_names
from deepedit.network.unet import ResidualUNet
from deepedit.plan import Plan


@torch.no_grad()
def transfer_weights(source: Model, target: Model) -> list[str]:
    """Copy the weights of `source` that fit into `target`, and its refiner if that is shown the same under both plans.

    Channels of the first and last layers are matched by their meaning: image channels by number; guidance, previous
    segmentation and logits by the name of the label. All other tensors are copied if the shapes agree.

    Returns:
        One line for each thing of the source that the target does not have.
    """
    wanted, there = input_names(target.plan), input_names(source.plan)
    inputs = _matches(there, wanted)
    outputs = _matches(_output_names(source), _output_names(target))
    left = [f"{name} has no counterpart" for name in wanted if name not in there]
    left += [f"{name} has no counterpart" for name in _output_names(target) if name not in _output_names(source)]
    weights = source.network.state_dict()
    for name, tensor in target.network.state_dict().items():
        found = weights.get(name)
        if found is None:
            left.append(f"{name} is new")
        elif name.startswith("head."):
            _copy_channels(found, tensor, outputs, dim=0)
        elif name in ("encoder.0.conv1.weight", "encoder.0.shortcut.0.weight"):
            if found.shape[0] == tensor.shape[0] and found.shape[2:] == tensor.shape[2:]:
                _copy_channels(found, tensor, inputs, dim=1)
            else:
                left.append(f"{name} has another shape")
        elif found.shape == tensor.shape:
            tensor.copy_(found)
        else:
            left.append(f"{name} has another shape")
    if source.plan.intensity != target.plan.intensity:
        left.append(f"its intensities by {source.plan.intensity}")
    if source.refiner is not None:
        if _show_the_same(source.plan, target.plan):
            target.refiner = copy.deepcopy(source.refiner)
        else:
            left.append("its refiner")
    return left


def widen(model: Model) -> Model:
    """The model with additional input channels for a previous segmentation. Their weights are 0, so that its output
    stays the same.

    Raises:
        ModelError: if the model has these channels already, or if channels cannot be added to its first block.
    """
    network, plan = model.network, model.plan
    if plan.previous:
        raise ModelError("the model takes a previous segmentation already; there is nothing to widen")
    channels = network.in_channels + len(plan.labels.names)
    if network.encoder[0].shortcut is None:
        raise ModelError(
            f"the network passes its {network.in_channels} input channels on beside the first block, which more "
            "channels would end; it cannot be widened"
        )
    wider = ResidualUNet(channels, network.out_channels, replace(network.config, first_shortcut=True))
    weights = dict(network.state_dict())
    for name in ("encoder.0.conv1.weight", "encoder.0.shortcut.0.weight"):
        weights[name] = F.pad(weights[name], (0, 0, 0, 0, 0, 0, 0, channels - network.in_channels))
    wider.load_state_dict(weights)
    return replace(model, network=wider.to(model.device).eval(), plan=replace(plan, previous=True))


def _show_the_same(plan: Plan, other: Plan) -> bool:
    """Whether a refiner is shown the same images and classes under two plans."""
    same = (getattr(plan, of) == getattr(other, of) for of in ("image_channels", "spacing", "fixed_shape", "intensity"))
    return plan.labels.names == other.labels.names and all(same)


def _output_names(model: Model) -> list[str]:
    return [f"output of {name}" for name in model.plan.labels.class_names]


def _matches(source: list[str], target: list[str]) -> list[tuple[int, int]]:
    return [(source.index(name), index) for index, name in enumerate(target) if name in source]


def _copy_channels(source: Tensor, target: Tensor, pairs: list[tuple[int, int]], dim: int) -> None:
    if source.movedim(dim, 0)[0].shape != target.movedim(dim, 0)[0].shape:
        return
    for theirs, ours in pairs:
        target.select(dim, ours).copy_(source.select(dim, theirs))
