"""Distances to clicks equal those worked out one by one."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deepedit.clicks.nearest import FAR, click_distances
from tests.clicks.oracles import slow_click_distances

SHAPES = st.tuples(*[st.integers(1, 7)] * 3)


def random_clicks(seed, samples, count):
    generator = torch.Generator().manual_seed(seed)
    position = torch.randint(-9, 15, (samples, count, 3), generator=generator)
    return position, torch.rand((2, samples, count), generator=generator) < 0.5


@given(st.integers(0, 2**32), st.integers(1, 3), st.integers(0, 9), SHAPES)
@settings(max_examples=40, deadline=None)
def test_distances_equal_the_oracle(seed, samples, count, shape):
    position, groups = random_clicks(seed, samples, count)
    expected = slow_click_distances(position.numpy(), groups.numpy(), shape)
    np.testing.assert_allclose(click_distances(position, groups, shape), expected, rtol=1e-5)


def test_many_clicks_in_a_large_volume_are_measured_in_pieces():
    position, groups = random_clicks(0, 1, 150)
    shape = (40, 30, 50)
    expected = slow_click_distances(position.numpy(), groups.numpy(), shape)
    np.testing.assert_allclose(click_distances(position, groups, shape), expected, rtol=1e-5)


@pytest.mark.parametrize("count", [0, 2])
def test_a_group_without_clicks_is_far_from_everything(count):
    position, groups = torch.zeros(1, count, 3, dtype=torch.int64), torch.zeros(2, 1, count, dtype=torch.bool)
    assert (click_distances(position, groups, (3, 4, 5)) == FAR).all()
