"""Weights of one model as the start of another."""

import torch

from deepedit.network.transfer import transfer_weights
from tests.network.conftest import make_model


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
