"""The memory of a training step, estimated, against what the network keeps for its backward pass."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deepedit.network.architectures import NETWORKS
from deepedit.network.inputs import input_channels
from deepedit.network.unet import build_network
from deepedit.training.losses import segmentation_loss
from deepedit.training.memory import affordable_patch, free_bytes, step_bytes

LIGHT = NETWORKS["light"]


def kept_bytes(config, classes, patch, batch, checkpointing=False):
    """Bytes of all tensors that a float32 step keeps for its backward pass, each counted once."""
    channels = input_channels(1, classes)
    network = build_network(channels, classes, config, 0).train()
    network.checkpointing = checkpointing
    weights = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    inputs, target = torch.rand(batch, channels, *patch), torch.zeros(batch, *patch, dtype=torch.uint8)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        losses = segmentation_loss(network(inputs), target, torch.zeros(batch, *patch), 1.0)
    assert losses.requires_grad
    return sum(kept.values())


@pytest.mark.parametrize("classes", [2, 14, 118])
def test_the_estimate_is_no_less_than_what_is_kept_and_not_much_more(classes):
    patch = (16, 24, 16)
    kept = kept_bytes(LIGHT, classes, patch, 2)
    estimate = step_bytes(LIGHT, input_channels(1, classes), classes, patch, 2)
    assert kept <= estimate <= 3 * kept


def test_what_saves_memory_saves_it_in_the_estimate_too():
    arguments = (LIGHT, input_channels(1, 3), 3, (32, 32, 32), 4)
    whole = step_bytes(*arguments)
    assert step_bytes(*arguments, accumulate=4) < 0.6 * whole
    assert step_bytes(*arguments, checkpointing=True) < 0.8 * whole
    assert kept_bytes(LIGHT, 3, (16, 16, 16), 2, checkpointing=True) < 0.7 * kept_bytes(LIGHT, 3, (16, 16, 16), 2)


@settings(deadline=None)
@given(st.tuples(*[st.integers(1, 16)] * 3), st.integers(2, 200), st.integers(2**20, 2**36))
def test_a_patch_is_shortened_until_it_fits_and_no_further(steps, classes, free):
    patch = tuple(8 * step for step in steps)
    channels = input_channels(1, classes)
    found = affordable_patch(LIGHT, channels, classes, patch, free, batch_size=4)
    assert all(side % 8 == 0 and side <= whole for side, whole in zip(found, patch, strict=True))
    needed = step_bytes(LIGHT, channels, classes, found, batch_size=4)
    assert needed <= free or max(found) <= 16
    if found != patch:
        longer = [tuple(side + 8 * (axis == grown) for axis, side in enumerate(found)) for grown in range(3)]
        assert any(step_bytes(LIGHT, channels, classes, before, batch_size=4) > free for before in longer)


def test_free_memory_is_told_or_not_known():
    free = free_bytes(torch.device("cpu"))
    assert free is None or free > 2**20


def test_processes_on_one_machine_share_its_memory(monkeypatch):
    monkeypatch.setattr("deepedit.training.memory.available_memory", lambda: 2**30)
    alone = free_bytes(torch.device("cpu"))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert free_bytes(torch.device("cpu")) == pytest.approx(alone / 4, abs=1)


def test_every_level_counts():
    deeper = dataclasses.replace(LIGHT, filters=(16, 32, 64, 128, 256), strides=(1, 2, 2, 2, 2), kernels=(3,) * 5)
    assert step_bytes(deeper, 6, 3, (32, 32, 32), 4) > step_bytes(LIGHT, 6, 3, (32, 32, 32), 4)
