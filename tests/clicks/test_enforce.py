"""Every click is obeyed, and little else changes."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from deepedit.clicks import Clicks, enforce_clicks


@given(seed=st.integers(0, 2**32), count=st.integers(1, 12), shape=st.tuples(*[st.integers(1, 9)] * 3))
def test_every_click_is_obeyed(seed, count, shape):
    generator = torch.Generator().manual_seed(seed)
    logits = 5 * torch.randn(2, 3, *shape, generator=generator)
    voxels = torch.stack(torch.meshgrid(*map(torch.arange, shape), indexing="ij"), -1).reshape(-1, 3)
    chosen = voxels[torch.randperm(len(voxels), generator=generator)[:count]]
    batch = torch.randint(0, 2, (len(chosen),), generator=generator)
    label = torch.randint(0, 3, (len(chosen),), generator=generator)
    result = enforce_clicks(logits, Clicks(batch, label, chosen)).argmax(1)
    assert torch.equal(result[(batch, *chosen.unbind(1))], label)


def test_what_is_obeyed_already_stays_as_it_is():
    logits = torch.randn(1, 3, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    label = logits.argmax(1)[0, 4, 4, 4]
    logits[0, label, 4, 4, 4] += 1
    before = logits.clone()
    clicks = Clicks([0], label[None], [[4, 4, 4]])
    assert torch.equal(enforce_clicks(logits, clicks), before)


def test_a_ball_follows_its_click_and_the_rest_does_not():
    logits = torch.zeros(1, 2, 15, 15, 15)
    logits[:, 0] = 4
    changed = enforce_clicks(logits, Clicks([0], [1], [[7, 7, 7]])).argmax(1)[0]
    assert changed[7, 7, 7] == 1
    assert changed.sum() < 20
    assert logits[0, 1, 7, 7, 14] == 0


def test_clicks_that_are_not_valid_or_outside_do_nothing():
    logits = torch.randn(1, 2, 5, 5, 5, generator=torch.Generator().manual_seed(0))
    before = logits.clone()
    clicks = Clicks([0, 0, 0], [1, 0, 1], [[2, 2, 2], [-1, 0, 0], [0, 5, 0]], [False, True, True])
    assert torch.equal(enforce_clicks(logits, clicks), before)
    assert torch.equal(enforce_clicks(logits, Clicks.empty()), before)
