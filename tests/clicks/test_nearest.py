"""How much an answer counts equals what is worked out voxel by voxel."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deepedit.clicks.nearest import FAR, ownership
from tests.clicks.oracles import random_claims, slow_ownership


def check(clicks, shape, softness=2.0):
    *table, claims = clicks
    found = ownership(*table, shape, softness, claims)
    *table, claims = (None if each is None else each.numpy() for each in clicks)
    np.testing.assert_allclose(found, slow_ownership(*table, shape, softness, claims), atol=1e-5)


@given(
    seed=st.integers(0, 2**32),
    samples=st.integers(1, 3),
    count=st.integers(0, 9),
    claimed=st.booleans(),
    shape=st.tuples(*[st.integers(1, 7)] * 3),
    softness=st.floats(0.1, 20),
)
@settings(max_examples=40, deadline=None)
def test_the_answer_counts_by_which_claim_is_nearer(seed, samples, count, claimed, shape, softness):
    check(random_claims(seed, samples, count, claimed), shape, softness)


def test_many_clicks_and_slabs_of_a_large_volume():
    check(random_claims(0, 1, 200, True), (9, 8, 7))
    check(random_claims(1, 1, 3, False, reach=200), (3, 200, 150))


def test_between_two_clicks_it_falls_by_a_sigmoid_of_how_much_nearer_one_is():
    position = torch.tensor([[[0, 0, 0], [10, 0, 0]]])
    valid, newest = torch.tensor([[True, True]]), torch.tensor([[True, False]])
    weight = ownership(position, valid, newest, (11, 1, 1), softness=2.0).flatten()
    assert weight[5] == 0.5
    torch.testing.assert_close(weight, torch.sigmoid(5 - torch.arange(11.0)))
    claimed = ownership(position, valid, newest, (11, 1, 1), 2.0, torch.tensor([3.0])).flatten()
    torch.testing.assert_close(claimed[:6], torch.sigmoid((3 - torch.arange(6.0)) / 2))


@pytest.mark.parametrize("count", [0, 2])
def test_without_clicks_that_count_it_is_1_everywhere(count):
    position, none = torch.zeros(2, count, 3, dtype=torch.int64), torch.zeros(2, count, dtype=torch.bool)
    assert (ownership(position, none, ~none, (3, 4, 5), 2.0) == 1).all()
    assert (ownership(position, none, ~none, (3, 4, 5), 2.0, torch.full((2,), FAR)) == 1).all()


def test_samples_do_not_depend_on_each_other():
    position, valid, newest, claims = random_claims(3, 3, 4, True)
    together = ownership(position, valid, newest, (6, 5, 4), 2.0, claims)
    for sample, among_others in enumerate(together):
        part = slice(sample, sample + 1)
        alone = ownership(position[part], valid[part], newest[part], (6, 5, 4), 2.0, claims[part])[0]
        torch.testing.assert_close(alone, among_others)
