"""A session, held against networks whose every answer is known."""

import dataclasses

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from deepedit.errors import ClickError
from deepedit.inference.session import InteractiveSession
from deepedit.plan import Labels, MergePolicy
from tests.inference.conftest import ball, box_of
from tests.inference.networks import plan, random_model, sweeping_model
from tests.obedient import ObedientNetwork, obedient_model, two_blocks


def test_without_clicks_it_segments_automatically(session):
    assert_array_equal(session.predict(), two_blocks())
    assert session.clicks == []


def test_a_click_changes_its_neighbourhood_to_its_label_and_nothing_else(session):
    expected = two_blocks()
    expected[ball(expected.shape, (12, 8, 3), 2)] = 1
    changed = session.add_click((12, 8, 3), "left")
    assert_array_equal(session.predict(), expected)
    assert changed == box_of(expected != two_blocks())


def test_a_background_click_takes_away(session):
    before = session.predict()
    session.add_click((4, 8, 8), "background")
    after = session.predict()
    assert after[4, 8, 8] == 0
    assert_array_equal(after[after != before], 0)
    assert (after == 1).sum() < (before == 1).sum()


def answered_twice(model):
    """Background's probability from end to end, after a click at one end and one for the background at the other."""
    session = InteractiveSession(model, amp="off")
    session.set_image(np.zeros((24, 8, 8)))
    session.add_click((3, 4, 4), "left")
    first = session.probabilities("background")[:, 4, 4]
    session.add_click((20, 4, 4), "background")
    return first, session.probabilities("background")[:, 4, 4]


def background(logits):
    """Its probability where the three logits are these."""
    return np.exp(logits[0]) / np.exp(logits).sum()


@pytest.mark.parametrize("enforce", [True, False])
def test_an_answer_replaces_the_one_before_it(enforce):
    model = sweeping_model(patch=(24, 8, 8))
    model.plan = dataclasses.replace(model.plan, merge=MergePolicy(enforce=enforce))
    first, second = answered_twice(model)
    # The second answer's logits are 12, 8 and 0, the first one's 4, 8 and 0.
    assert first == pytest.approx(np.full(24, background([4, 8, 0])), abs=1e-3)
    own = slice(12 if enforce else 0, None)  # around the first click its label is raised, if it has to be obeyed
    assert second[own] == pytest.approx(background([12, 8, 0]), abs=1e-3)


@pytest.mark.parametrize(("tta", "answers"), [(False, 1), (True, 2)])
def test_a_click_takes_one_answer_or_with_test_time_augmentation_two(tta, answers):
    model, passes = random_model(), []
    model.network.register_forward_hook(lambda *_: passes.append(1))
    session = InteractiveSession(model, amp="off", tta=tta)
    session.set_image(np.zeros((40, 16, 16)))
    session.predict()
    before = len(passes)
    session.add_click((20, 8, 8), "left")
    assert len(passes) - before == answers


def test_later_clicks_keep_what_earlier_ones_did(session):
    session.add_click((4, 8, 8), "right")
    session.add_click((12, 8, 8), "left")
    assert session.predict()[4, 8, 8] == 2
    assert session.predict()[12, 8, 8] == 1
    assert [click.label for click in session.clicks] == ["right", "left"]


def test_of_two_clicks_on_one_voxel_the_newer_counts(session):
    session.add_click((8, 8, 8), "left")
    session.add_click((8, 8, 8), "right")
    assert session.predict()[8, 8, 8] == 2
    session.add_click((8, 8, 8), "background")
    assert session.predict()[8, 8, 8] == 0


def test_a_click_that_changes_nothing_says_so(session):
    session.add_click((4, 8, 8), "left")
    assert session.add_click((4, 8, 8), "left") is None
    assert_array_equal(session.predict(), two_blocks())
    assert session.undo() is None
    assert len(session.clicks) == 1


@pytest.mark.parametrize("shape", [(16, 16, 16), (70, 16, 16)])
@pytest.mark.parametrize("label", ["background", "left", "right"])
def test_no_click_is_ignored_even_by_a_network_that_looks_away(label, shape):
    deaf = InteractiveSession(obedient_model(radius=-1), amp="off")
    deaf.set_image(np.where(np.arange(16) < 8, 1, 2) * np.ones(shape, np.uint8))
    index = deaf.model.plan.labels.class_names.index(label)
    for voxel in ((4, 8, 8), (15, 0, 15), (5, 8, 8)):
        before = deaf.predict()
        deaf.add_click(voxel, label)
        assert deaf.predict()[voxel] == index
        changed = deaf.predict() != before
        assert_array_equal(deaf.predict()[changed], index)
        assert not changed[~ball(shape, voxel, 3)].any()


# Clicks that cannot be meant -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("position", "space", "named"),
    [
        ((16, 0, 0), "voxel", r"\(16, 0, 0\).*16 x 16 x 16"),
        ((0, -0.6, 0), "voxel", "outside"),
        ((3, 3, 40), "ras", r"\(3, 3, 40\) \(ras\) is voxel \(3, 3, 40\), outside the image of 16 x 16 x 16"),
        ((3, 3, 3), "lps", r"voxel \(-3, -3, 3\)"),
        ((1e300, 0, 0), "voxel", "outside"),
        ((float("nan"), 0, 0), "voxel", "outside"),
        ((1, 2), "voxel", "three numbers"),
    ],
)
def test_a_click_outside_is_refused_by_both_names_and_changes_nothing(session, position, space, named):
    session.add_click((4, 8, 8), "right")
    before = session.predict()
    with pytest.raises(ClickError, match=named):
        session.add_click(position, "left", space)
    assert_array_equal(session.predict(), before)
    assert len(session.clicks) == 1


def test_the_outermost_voxels_can_be_clicked(session):
    for corner in ((0, 0, 0), (15, 15, 15), (15, 0, 15)):
        session.add_click(corner, "right")
        assert session.predict()[corner] == 2


def test_an_unknown_label_is_answered_with_the_nearest(session):
    with pytest.raises(ClickError, match="did you mean right"):
        session.add_click((4, 8, 8), "rigth")


# Undo, redo, reset ---------------------------------------------------------------------------------------------------


def state(session):
    return session.predict(), session.probabilities(), session.uncertainty(), session.clicks


def assert_same(one, other):
    for a, b in zip(one, other, strict=True):
        assert_array_equal(a, b) if isinstance(a, np.ndarray) else (a == b or pytest.fail(f"{a} is not {b}"))


@pytest.mark.parametrize("given", [False, True])
def test_every_state_comes_back_exactly(moody, given):
    rng = np.random.default_rng(1)
    if given:
        moody.set_segmentation(rng.choice([0, 2, 5, 300], (34, 20, 31)))
    states = [state(moody)]
    for _ in range(5):
        shown = states[-1][0]
        box = moody.add_click(rng.integers(0, (34, 20, 31)), str(rng.choice(["background", "a", "b", "c"])))
        states.append(state(moody))
        different = states[-1][0] != shown
        assert (box is None and not different.any()) or box == box_of(different)
    for expected in states[-2::-1]:
        moody.undo()
        assert_same(state(moody), expected)
    for expected in states[1:]:
        moody.redo()
        assert_same(state(moody), expected)
    moody.undo()
    moody.undo()
    moody.add_click((1, 1, 1), "a")
    assert moody.redo() is None
    moody.reset()
    if not given:
        assert_same(state(moody), states[0])
    assert moody.clicks == []


def test_undo_says_what_it_changed(session):
    changed = session.add_click((8, 8, 8), "right")
    assert session.undo() == changed
    assert session.redo() == changed


def test_reset_forgets_a_given_segmentation_too(session):
    session.set_segmentation(np.zeros((16, 16, 16), np.uint8))
    session.add_click((8, 8, 8), "right")
    session.reset()
    assert_array_equal(session.predict(), two_blocks())


def test_more_than_255_labels():
    labels = Labels(tuple(f"label_{value}" for value in range(1, 301)), tuple(range(1, 301)))
    model = obedient_model()
    model.plan = plan(labels=labels)
    model.network = ObedientNetwork(301, 1.5, 1).eval()
    session = InteractiveSession(model, amp="off")
    session.set_image(np.zeros((6, 5, 4)))
    given = np.zeros((6, 5, 4), np.int32)
    given[0, 0, 0] = 299
    session.set_segmentation(given)
    session.add_click((4, 3, 2), "label_300")
    result = session.predict()
    assert result[0, 0, 0] == 299
    assert result[4, 3, 2] == 300
