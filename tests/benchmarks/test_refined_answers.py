"""Refined answers: what the second network sees, what it may change, and that it learns."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.refined_answers import LARGEST_MARGIN, RADIUS, SIDE, Answers, Refiner, ball, features, lead, learned
from deepedit.clicks import Clicks

SHAPE, CLASSES = (20, 30, 40), 3
BOX = tuple(slice(0, side) for side in SHAPE)


def clicks_at(*voxels, label=2):
    count = len(voxels)
    return Clicks(torch.zeros(count, dtype=torch.int64), torch.full((count,), label), torch.tensor(voxels))


def logits(seed):
    return 3 * torch.randn(CLASSES, *SHAPE, generator=torch.Generator().manual_seed(seed))


@given(st.integers(0, CLASSES - 1), st.integers(0, 9))
def test_a_class_leads_where_it_is_the_decision(label, seed):
    values = logits(seed)
    assert torch.equal(lead(values, label) > 0, values.argmax(0) == label)
    assert lead(values, label).abs().max() <= LARGEST_MARGIN


@given(st.tuples(*(st.integers(0, side - 1) for side in SHAPE)))
def test_features_have_the_newest_click_in_the_middle_and_nothing_beyond_the_volume(voxel):
    image = torch.ones(1, *SHAPE)
    seen = features(logits(0), logits(1), image, clicks_at((3, 3, 3), voxel))
    assert seen.shape == (8 + CLASSES, SIDE, SIDE, SIDE)
    middle = (RADIUS,) * 3
    assert seen[0][middle] == pytest.approx(lead(logits(1), 2)[voxel].item() / (LARGEST_MARGIN / 2))
    assert seen[4][middle] == seen[4].max() == 1  # guidance of the newest click
    assert seen[2].sum() == math.prod(
        min(at + RADIUS + 1, side) - max(at - RADIUS, 0) for at, side in zip(voxel, SHAPE, strict=True)
    )


@given(st.tuples(*(st.integers(0, side - 1) for side in SHAPE)), st.booleans())
def test_near_a_click_the_decision_is_that_of_the_refiner_and_elsewhere_what_it_was(voxel, edited):
    class Yes(Refiner):
        def forward(self, x):
            return torch.ones(len(x), SIDE, SIDE, SIDE)

    before, answer = logits(0), logits(1)
    initial = torch.zeros(1, *SHAPE) if edited else None
    clicks = clicks_at(voxel)
    refined = Answers(Yes(8 + CLASSES))._refined(before, answer, clicks, BOX, torch.zeros(1, *SHAPE), initial)
    steps = torch.meshgrid(*(torch.arange(side) - at for side, at in zip(SHAPE, voxel, strict=True)), indexing="ij")
    near = sum(step**2 for step in steps) <= RADIUS**2
    assert (refined.argmax(0)[near] == 2).all()
    assert torch.equal(refined[:, ~near], (answer if edited else before)[:, ~near])


def test_without_a_refiner_answers_stay_as_they_are_and_clicks_are_recorded():
    truth = torch.zeros(SHAPE, dtype=torch.uint8)
    truth[:10] = 2
    answers = Answers(truth=truth)
    answer = logits(1)
    assert answers._refined(logits(0), answer, clicks_at((9, 15, 20)), BOX, torch.zeros(1, *SHAPE), None) is answer
    (_, belongs, counts), *others = answers.recorded
    assert not others
    middle = RADIUS
    assert belongs[middle, middle, middle]
    assert not belongs[middle + 1, middle, middle]
    steps = torch.arange(SIDE) - middle
    assert counts.sum() == (ball() & ((steps >= -9) & (steps <= 10))[:, None, None]).sum()


def test_a_refiner_learns_what_the_answers_lack():
    # The truth is half a space that the answer knows nothing of, and the image shows.
    recorded = []
    for place in range(8):
        image = torch.zeros(1, *SHAPE)
        image[:, :, 8 + place :] = 1
        seen = features(torch.zeros(CLASSES, *SHAPE), torch.zeros(CLASSES, *SHAPE), image, clicks_at((9, 15, 20)))
        recorded.append((seen.half(), seen[2] > 0, ball()))
    refiner = learned(recorded, epochs=30, seed=0)
    given, belongs, counts = recorded[3]
    right = ((refiner(given[None].float())[0] > 0) == belongs)[counts].float().mean()
    assert right > 0.95
