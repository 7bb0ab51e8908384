"""A refiner: what it adds to an answer, and what its weights depend on."""

import torch

from deepedit.network.refiner import LARGEST_LEAD, SIDE, build_refiner, piece_channels


def pieces(image_channels, num_classes, seed=0):
    shape = (2, piece_channels(image_channels, num_classes), SIDE, SIDE, SIDE)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_without_training_the_answer_stays_as_it_is():
    given = pieces(2, 4)
    assert torch.equal(build_refiner(2, 4, seed=1)(given), LARGEST_LEAD / 2 * given[:, 0])


def test_its_weights_depend_on_the_seed_alone():
    before = torch.random.get_rng_state()
    first, second, other = (build_refiner(1, 3, seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["first.weight"], other["first.weight"])
