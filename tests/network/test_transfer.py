"""Weights of one model as the start of another."""

from dataclasses import replace

import pytest
import torch

from deepedit.errors import ModelError
from deepedit.network.monai import import_model
from deepedit.network.transfer import transfer_weights, widen
from tests.network.conftest import make_model
from tests.network.dynunet import FILTERS, ORGANS, STRIDES, random_input, random_state_dict


def test_the_same_labels_take_everything():
    source, target = make_model(seed=1), make_model(seed=2)
    assert transfer_weights(source, target) == []
    inputs = torch.randn(1, 6, 8, 8, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(source.network(inputs), target.network(inputs))


def test_labels_are_matched_by_name_and_new_ones_are_told():
    source = make_model(("liver", "spleen"), (1, 6), seed=1)
    target = make_model(("spleen", "tumor"), (1, 2), seed=2)
    fresh = target.network.encoder[0].conv1.weight.clone()
    left = transfer_weights(source, target)
    assert any("guidance of tumor" in line for line in left)
    assert any("output of tumor" in line for line in left)
    theirs, ours = source.network.encoder[0].conv1.weight, target.network.encoder[0].conv1.weight
    assert torch.equal(ours[:, 0], theirs[:, 0])  # image
    assert torch.equal(ours[:, 2], theirs[:, 3])  # guidance of spleen
    assert torch.equal(ours[:, 4], theirs[:, 5])  # previous segmentation of spleen
    assert torch.equal(ours[:, 3], fresh[:, 3])  # guidance of tumor keeps its start
    assert torch.equal(target.network.head.weight[1], source.network.head.weight[2])
    assert torch.equal(target.network.encoder[1].conv1.weight, source.network.encoder[1].conv1.weight)


@pytest.mark.parametrize("labels", [{"spleen": 1}, ORGANS])
def test_a_wider_network_answers_as_before_until_it_is_trained(labels):
    classes = len({*labels, "background"})
    model = import_model(random_state_dict(1 + classes, classes, FILTERS, STRIDES), labels, grid=(8, 8, 4))
    wider = widen(model)
    assert wider.plan == replace(model.plan, previous=True)
    x = random_input(1 + classes)
    with_previous = torch.cat((x, random_input(classes - 1, seed=2)), dim=1)
    torch.testing.assert_close(wider.network(with_previous), model.network(x), atol=1e-6, rtol=1e-6)
    wider.network(with_previous).square().sum().backward()
    assert wider.network.encoder[0].conv1.weight.grad[:, 1 + classes :].abs().max() > 0


def test_a_network_that_grows_to_as_many_channels_as_filters_keeps_its_shortcut():
    model = import_model(random_state_dict(3, 2, (4, 4, 4), STRIDES), {"spleen": 1}, grid=(8, 8, 4))
    x = random_input(3)
    wider = widen(model)
    assert wider.network.in_channels == wider.network.config.filters[0] == 4
    grown = wider.network(torch.cat((x, random_input(1)), dim=1))
    torch.testing.assert_close(grown, model.network(x), atol=1e-6, rtol=1e-6)


def test_nothing_is_widened_twice():
    with pytest.raises(ModelError, match="already"):
        widen(make_model())
