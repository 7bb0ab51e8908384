"""Refined answers: what the second network is shown, and what of an answer it may change."""

import itertools
import math
from dataclasses import replace

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deepedit.clicks import Clicks
from deepedit.inference.refine import distances, piece, refined
from deepedit.inference.session import InteractiveSession
from deepedit.network.refiner import LARGEST_LEAD, RADIUS, SIDE, Refiner, piece_channels
from tests.inference.conftest import ball
from tests.obedient import obedient_model, two_blocks

SHAPE, CLASSES, IMAGES = (20, 30, 40), 3, 2
PLACES = st.tuples(*(st.integers(0, side - 1) for side in SHAPE))
CORNERS = list(itertools.product((0, SIDE - 1), repeat=3))


class Certain(Refiner):
    """Is sure of the clicked class around every click, or of any other."""

    def __init__(self, image_channels, num_classes, belongs=True):
        super().__init__(image_channels, num_classes)
        self.belongs = belongs

    def forward(self, pieces):
        return torch.full((len(pieces), SIDE, SIDE, SIDE), 1.0 if self.belongs else -1.0)


def logits(seed):
    return 3 * torch.randn(CLASSES, *SHAPE, generator=torch.Generator().manual_seed(seed))


def image():
    return torch.rand(IMAGES, *SHAPE, generator=torch.Generator().manual_seed(9))


def clicks_on(voxels, labels):
    return Clicks(torch.zeros(len(voxels), dtype=torch.int64), torch.tensor(labels), torch.tensor(voxels))


def lead(logits, label):
    """How much a class leads at a voxel, ``[C]``, as the refiner is told it."""
    others = [value for number, value in enumerate(logits) if number != label]
    return max(min(logits[label] - max(others), LARGEST_LEAD), -LARGEST_LEAD) / (LARGEST_LEAD / 2)


def slow_piece_at(at, before, answer, image, voxels, labels, row):
    """What a piece has at one of its voxels, by the words of its documentation."""
    label, clicked = labels[row], voxels[row]
    voxel = tuple(of + step - RADIUS for of, step in zip(clicked, at, strict=True))
    inside = all(0 <= here < side for here, side in zip(voxel, SHAPE, strict=True))

    def gaussian(of, sigma):
        offsets = [here - there for here, there in zip(voxel, of, strict=True)]
        return 0.0 if max(map(abs, offsets)) > 5 * sigma else math.exp(-sum(d * d for d in offsets) / (2 * sigma**2))

    earlier = [(of, wanted) for number, (of, wanted) in enumerate(zip(voxels, labels, strict=True)) if number != row]
    seen = [max((gaussian(of, 3.0) for of, own in earlier if own == wanted), default=0.0) for wanted in range(CLASSES)]
    here = [float(channel[voxel]) if inside else 0.0 for channel in image]
    there = [float(channel[clicked]) for channel in image]
    leads = [lead([float(c[voxel]) for c in of], label) if inside else 0.0 for of in (answer, before)]
    steps = sum((here - there) ** 2 for here, there in zip(voxel, clicked, strict=True))
    return [
        *leads,
        float(inside),
        *here,
        *(inside * (a - b) for a, b in zip(here, there, strict=True)),
        *(math.exp(-steps / (2 * sigma**2)) for sigma in (2.0, 6.0)),
        seen[label],
        max(value for number, value in enumerate(seen) if number != label),
        *(float(number == label) for number in range(CLASSES)),
    ]


@given(
    st.lists(st.tuples(PLACES, st.integers(0, CLASSES - 1)), min_size=1, max_size=4),
    st.tuples(*[st.integers(0, SIDE - 1)] * 3),
    st.data(),
)
@settings(deadline=None)
def test_a_piece_shows_what_is_around_a_click(clicked, at, data):
    voxels, labels = map(list, zip(*clicked, strict=True))
    row = data.draw(st.integers(0, len(voxels) - 1))
    before, answer = logits(0), logits(1)
    seen = piece(before, answer, image(), clicks_on(voxels, labels), (row, labels[row], voxels[row]), distances("cpu"))
    assert seen.shape == (piece_channels(IMAGES, CLASSES), SIDE, SIDE, SIDE)
    for place in (at, (RADIUS,) * 3, *CORNERS):
        expected = slow_piece_at(place, before, answer, image(), voxels, labels, row)
        np.testing.assert_allclose(seen[(slice(None), *place)], expected, atol=1e-5)


def near(voxel):
    return torch.from_numpy(ball(SHAPE, voxel, RADIUS))


@given(PLACES, st.integers(0, CLASSES - 1), st.booleans(), st.booleans())
@settings(deadline=None)
def test_near_a_click_the_refiner_decides_on_its_class_and_elsewhere_on_nothing(voxel, label, belongs, far):
    before, answer = logits(0).half(), logits(1)
    given = before.clone(), answer.clone()
    refiner = Certain(IMAGES, CLASSES, belongs)
    refiner.far.fill_(far)
    after = refined(refiner, before, answer, image(), clicks_on([voxel], [label]), [(0, label, voxel)])
    assert ((after.argmax(0) == label) == belongs)[near(voxel)].all()
    assert torch.equal(after[:, ~near(voxel)], (answer if far else before.float())[:, ~near(voxel)])
    others = [number for number in range(CLASSES) if number != label]
    assert torch.equal(after[others][:, near(voxel)], answer[others][:, near(voxel)])
    assert torch.equal(before, given[0])
    assert torch.equal(answer, given[1])


@given(PLACES, PLACES)
@settings(deadline=None)
def test_of_clicks_near_each_other_the_last_one_decides(first, last):
    clicks = clicks_on([first, last], [1, 2])
    newest = [(0, 1, first), (1, 2, last)]
    decided = refined(Certain(IMAGES, CLASSES), logits(0), logits(1), image(), clicks, newest).argmax(0)
    assert (decided[near(last)] == 2).all()
    assert (decided[near(first) & ~near(last)] == 1).all()


class Counting(Certain):
    """Remembers which pieces it was shown."""

    asked = 0

    def forward(self, pieces):
        self.asked += len(pieces)
        return super().forward(pieces)


@given(st.lists(st.tuples(PLACES, st.integers(0, CLASSES - 1)), min_size=1, max_size=12))
@settings(deadline=None)
def test_each_click_is_within_reach_of_one_of_its_class_that_was_asked_about(clicked):
    voxels, labels = map(list, zip(*clicked, strict=True))
    newest = [(row, label, voxel) for row, (voxel, label) in enumerate(clicked)]
    refiner = Counting(IMAGES, CLASSES)
    decided = refined(refiner, logits(0), logits(1), image(), clicks_on(voxels, labels), newest).argmax(0)
    assert refiner.asked <= len(clicked)
    reached = {label: torch.zeros(SHAPE, dtype=torch.bool) for label in range(CLASSES)}
    asked = []
    for voxel, label in reversed(clicked):
        if not reached[label][voxel] and voxel not in asked:
            asked.append(voxel)
            reached[label] |= near(voxel)
    assert refiner.asked == len(asked)
    # What only clicks of one class reach has that class.
    for label, there in reached.items():
        others = torch.stack([mask for other, mask in reached.items() if other != label]).any(0)
        assert (decided[there & ~others] == label).all()


def refining_session(radius, patch_size=(16, 16, 16)):
    model = obedient_model(radius)
    plan = replace(model.plan, patch_size=patch_size)
    return InteractiveSession(replace(model, plan=plan, refiner=Certain(1, 3).eval()), amp="off")


def test_a_session_shows_refined_answers():
    shape = (40, 16, 16)
    session = refining_session(radius=0, patch_size=shape)
    session.set_image(np.zeros(shape, np.float32))
    session.add_click((20, 8, 8), label="right")
    assert session.obeyed_alone
    np.testing.assert_array_equal(session.predict() == 2, ball(shape, (20, 8, 8), RADIUS))


def test_of_clicks_on_one_voxel_of_the_network_a_refiner_is_shown_the_newest():
    session, pieces = refining_session(radius=0), []
    session.model.refiner.register_forward_pre_hook(lambda module, given: pieces.append(given[0][0]))
    session.set_image(np.zeros((32, 32, 32), np.float32), np.diag([-0.5, -0.5, 0.5, 1]))
    others = 2 + 1 + 2 + 3
    for voxel, label in (((8, 8, 8), "right"), ((9, 8, 8), "background"), ((12, 8, 8), "left")):
        session.add_click(voxel, label)
    assert [shown[others, RADIUS, RADIUS, RADIUS].item() for shown in pieces[:2]] == [0, 0]
    # Two voxels farther on, both of the earlier clicks count as one.
    assert pieces[2][others].amax() == 1
    assert (pieces[2][others] == 1).sum() == 1


def test_clicks_on_an_initial_segmentation_are_answered_by_the_network_alone():
    results = []
    for session in (refining_session(radius=2), InteractiveSession(obedient_model(radius=2), amp="off")):
        session.set_image(np.zeros((16, 16, 16), np.float32))
        session.set_segmentation(two_blocks())
        session.add_click((4, 4, 4), label="background")
        results.append(session.predict())
    np.testing.assert_array_equal(*results)


def test_undo_takes_a_refined_answer_back():
    session = refining_session(radius=1)
    session.set_image(two_blocks())
    session.add_click((2, 2, 2), label="left")
    once = session.predict().copy()
    session.add_click((8, 8, 8), label="right")
    assert (session.predict() != once).any()
    session.undo()
    np.testing.assert_array_equal(session.predict(), once)
