"""The fused kernels for what is near clicks, guidance and reach, against their oracles."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deepedit.clicks import (
    Clicks,
    render_guidance,
)
from deepedit.clicks.nearest import within_reach
from tests.clicks.oracles import (
    few,
    random_reach,
    slow_guidance,
    slow_within_reach,
)


@pytest.mark.parametrize("sigma", [2.0, 0.3, (1.0, 2.0, 3.0)])
@pytest.mark.parametrize("shape", [(9, 12, 7), (1, 5, 1), (3, 40, 60)])
def test_guidance_equals_the_formula(fused, shape, sigma):
    rng = np.random.default_rng(0)
    for count in (0, 1, 70):
        position = np.stack([rng.integers(-12, side + 12, count) for side in shape], axis=1)
        position[count // 2 :] = rng.integers(0, shape, (count - count // 2, 3))
        position[:1] = 2**40
        entries = rng.integers(0, 2, count), rng.integers(0, 3, count), position, rng.random(count) < 0.8
        clicks = Clicks(*(torch.from_numpy(entry) for entry in entries))
        guidance = render_guidance(clicks.to(fused), shape, 3, batch_size=2, sigma=sigma)
        expected = slow_guidance(clicks, shape, 3, 2, np.broadcast_to(sigma, 3))
        np.testing.assert_allclose(guidance.cpu().numpy(), expected, atol=5e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_guidance_of_every_type_differs_by_a_rounding_at_most(fused, dtype):
    clicks = Clicks([0, 1], [1, 0], [[3, 4, 5], [-1, 2, 9]])
    guidance = render_guidance(clicks.to(fused), (8, 9, 10), 2, batch_size=2, dtype=dtype)
    expected = torch.from_numpy(slow_guidance(clicks, (8, 9, 10), 2, 2, (2.0,) * 3))
    assert guidance.dtype == dtype
    atol = 4e-6 if dtype == torch.float64 else torch.finfo(dtype).eps
    torch.testing.assert_close(guidance.cpu().double(), expected, atol=atol, rtol=0)


@few
@given(
    seed=st.integers(0, 2**32),
    samples=st.integers(1, 3),
    count=st.integers(0, 5),
    shape=st.tuples(*[st.integers(1, 7)] * 3),
    softness=st.floats(0.1, 20),
)
def test_within_reach_equals_the_oracle(fused, seed, samples, count, shape, softness):
    check_within_reach(random_reach(seed, samples, count), shape, softness, fused)


@pytest.mark.parametrize(
    ("samples", "count", "shape"),
    [(1, 200, (9, 8, 7)), (2, 3, (11, 13, 17)), (2, 0, (3, 4, 5)), (3, 1, (1, 1, 1500))],
    ids=["many clicks", "several programs a sample", "no clicks", "one line"],
)
def test_within_reach_in_few_and_many_programs(fused, samples, count, shape):
    check_within_reach(random_reach(7, samples, count), shape, 2.0, fused)


def test_without_clicks_that_count_all_is_within_reach(fused):
    position, valid, _ = random_reach(1, 3, 3)
    reach = torch.tensor([0.0, 3.0, math.inf])
    check_within_reach((position, torch.zeros_like(valid), reach), (4, 5, 6), 2.0, fused)


def test_guidance_and_reach_of_clicks_that_are_columns_of_a_table(fused):
    rows = torch.tensor([[0, 1, 2, 3, 4, 1], [1, 0, 0, 1, 5, 0], [0, 2, 1, 1, 1, 1], [1, 1, 3, 0, 2, 1]])
    columns = rows.to(fused).T
    clicks = Clicks(columns[0], columns[1], columns[2:5].T, columns[5] > 0)
    plain = Clicks(*(each.cpu().contiguous() for each in (clicks.batch, clicks.label, clicks.position, clicks.valid)))
    guidance = render_guidance(clicks, (4, 5, 6), 3, batch_size=2)
    np.testing.assert_allclose(guidance.cpu(), slow_guidance(plain, (4, 5, 6), 3, 2, (2.0,) * 3), atol=1e-5)
    strided = rows.view(2, 2, 6)
    reach = torch.tensor([[1.5, 0], [3, 0]])[:, 0]
    check_within_reach((strided[..., 2:5], strided[..., 5] > 0, reach), (4, 5, 6), 2.0, fused)


def check_within_reach(clicks, shape, softness, device):
    found = within_reach(*(each.to(device) for each in clicks), shape, softness)
    assert found.dtype == torch.float32
    expected = slow_within_reach(*(each.numpy() for each in clicks), shape, softness)
    np.testing.assert_allclose(found.cpu(), expected, atol=1e-5)
