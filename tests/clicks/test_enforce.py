"""Every click is obeyed, and little else changes."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from deepedit.clicks import Clicks, enforce_clicks
from deepedit.clicks.enforce import Places


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


@given(seed=st.integers(0, 2**32), shape=st.tuples(*[st.integers(1, 9)] * 3))
@settings(max_examples=40, deadline=None)
def test_a_click_between_voxels_leads_where_its_logits_are_interpolated(seed, shape):
    generator = torch.Generator().manual_seed(seed)
    logits = 5 * torch.randn(1, 3, *shape, generator=generator)
    exact = torch.rand(3, generator=generator) * torch.tensor(shape) - 0.5
    position = exact.round().long().clamp(min=0).minimum(torch.tensor(shape) - 1)
    label = torch.randint(0, 3, (1,), generator=generator)
    places = Places.between(exact[None], shape)
    enforce_clicks(logits, Clicks([0], label, position[None]), places)
    # Edge voxels extend outwards, as everywhere in this package.
    inside = [axis.clip(0, side - 1) for axis, side in zip(exact.numpy(), shape, strict=True)]
    there = [ndimage.map_coordinates(each, np.array(inside)[:, None], order=1)[0] for each in logits[0].numpy()]
    others = [value for index, value in enumerate(there) if index != int(label)]
    assert there[int(label)] > max(others) + 0.09
