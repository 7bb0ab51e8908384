"""How far voxels lie within reach of clicks equals what is worked out voxel by voxel."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deepedit.clicks.nearest import within_reach
from tests.clicks.oracles import random_reach, slow_within_reach


def check(clicks, shape, softness=2.0):
    expected = slow_within_reach(*(each.numpy() for each in clicks), shape, softness)
    np.testing.assert_allclose(within_reach(*clicks, shape, softness), expected, atol=1e-5)


@given(
    seed=st.integers(0, 2**32),
    samples=st.integers(1, 3),
    count=st.integers(0, 9),
    shape=st.tuples(*[st.integers(1, 7)] * 3),
    softness=st.floats(0.1, 20),
)
@settings(max_examples=40, deadline=None)
def test_it_equals_the_oracle(seed, samples, count, shape, softness):
    check(random_reach(seed, samples, count), shape, softness)


def test_many_clicks_and_slabs_of_a_large_volume():
    check(random_reach(0, 1, 200), (9, 8, 7))
    check(random_reach(1, 1, 3, around=200), (3, 200, 150))


def test_it_falls_by_a_sigmoid_of_the_distance_and_is_a_half_at_the_reach():
    position, valid = torch.tensor([[[0, 0, 0], [9, 0, 0]]]), torch.tensor([[True, False]])
    weight = within_reach(position, valid, torch.tensor([3.0]), (11, 1, 1), softness=2.0).flatten()
    assert weight[3] == 0.5
    torch.testing.assert_close(weight, torch.sigmoid((3 - torch.arange(11.0)) / 2))


@pytest.mark.parametrize("count", [0, 2])
def test_without_clicks_that_count_every_voxel_is_as_if_it_were_clicked(count):
    position, none = torch.zeros(2, count, 3, dtype=torch.int64), torch.zeros(2, count, dtype=torch.bool)
    weight = within_reach(position, none, torch.tensor([3.0, math.inf]), (3, 4, 5), 2.0)
    torch.testing.assert_close(weight, torch.sigmoid(torch.tensor([1.5, math.inf])).view(2, 1, 1, 1).expand_as(weight))


def test_where_the_reach_is_infinite_it_is_1_however_far_the_click():
    position = torch.tensor([[[-(10**6), 0, 0]]])
    assert (within_reach(position, torch.tensor([[True]]), torch.tensor([math.inf]), (3, 4, 5), 2.0) == 1).all()


def test_samples_do_not_depend_on_each_other():
    clicks = random_reach(3, 3, 4)
    together = within_reach(*clicks, (6, 5, 4), 2.0)
    for sample, among_others in enumerate(together):
        alone = within_reach(*(each[sample : sample + 1] for each in clicks), (6, 5, 4), 2.0)[0]
        torch.testing.assert_close(alone, among_others)
