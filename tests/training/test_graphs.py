"""Recorded passes compute what passes compute."""

import weakref

import pytest
import torch

from deepedit.network.architectures import NETWORKS
from deepedit.network.inputs import mixed_precision
from deepedit.network.unet import build_network
from deepedit.training import graphs
from deepedit.training.graphs import RecordedPasses
from tests.devices import NEEDS_GPU


def network_and_inputs(device, sides=(16, 16, 16)):
    network = build_network(4, 2, NETWORKS["light"], seed=0).to(device).train()
    return network, torch.randn(2, 4, *sides, generator=torch.Generator().manual_seed(0)).to(device)


def step(network, forward, inputs, amp):
    network.zero_grad(set_to_none=True)
    with mixed_precision(inputs.device, amp):
        logits = forward(inputs)
    logits.float().square().mean().backward()
    return logits.detach().clone(), [parameter.grad.clone() for parameter in network.parameters()]


@pytest.mark.parametrize("amp", [pytest.param(amp, marks=NEEDS_GPU) for amp in ("auto", "off")])
def test_logits_and_gradients_are_those_of_the_network_after_its_weights_have_moved(amp):
    network, inputs = network_and_inputs("cuda")
    passes = RecordedPasses(network, amp)
    for attempt in range(3):
        expected = step(network, network, inputs + attempt, amp)
        found = step(network, passes, inputs + attempt, amp)
        for one, other in zip((found[0], *found[1]), (expected[0], *expected[1]), strict=True):
            torch.testing.assert_close(one, other, rtol=2e-2, atol=2e-2 * float(other.abs().max()))
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.05 * parameter.std().nan_to_num() * torch.randn_like(parameter))
    assert passes.passes is not network


def test_each_new_shape_is_recorded_in_place_of_the_one_before_and_large_ones_are_not(monkeypatch):
    recorded, kept, made = [], [], []

    class Recording:
        """Refers to itself, as torch's does."""

        def __init__(self, module):
            self.module, self.itself = module, self

        def __call__(self, inputs):
            return self.module(inputs)

    def record(module, given):
        recorded.append(given[0].shape)
        kept.append([each() for each in made])
        recording = Recording(module)
        made.append(weakref.ref(recording))
        return recording

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", record)
    network, inputs = network_and_inputs("cpu")
    passes, small = RecordedPasses(network, "off"), torch.Size((1, 4, 8, 8, 16))
    for shape in [inputs.shape, inputs.shape, small, small]:
        torch.testing.assert_close(passes(inputs.new_ones(shape)), network(inputs.new_ones(shape)))
    assert recorded == [inputs.shape, small]
    assert kept == [[], [None]]
    monkeypatch.setattr(graphs, "LARGEST", 100)
    passes(inputs[:1])
    assert len(recorded) == 2
    assert passes.passes is network


def test_where_recording_fails_the_network_is_passed_as_it_is(monkeypatch):
    def fail(*_):
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", fail)
    network, inputs = network_and_inputs("cpu")
    passes = RecordedPasses(network, "off")
    with pytest.warns(UserWarning, match="training is slower: operation not permitted when stream is capturing$"):
        logits = passes(inputs)
    torch.testing.assert_close(logits, network(inputs))
