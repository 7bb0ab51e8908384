"""Locks of a session: what is approved stays, and no other voxel takes its label."""

from contextlib import suppress

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from deepedit.errors import ClickError
from deepedit.inference.session import InteractiveSession
from tests.inference.test_session_steps import LABELS, NAMES, SHAPES, assert_same, new_session, some_clicks
from tests.obedient import obedient_model, two_blocks


@given(
    st.integers(0, 2**32),
    st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True),
    st.tuples(*[st.sampled_from([0.5, 1.0, 1.3, 2.0])] * 3),
)
@settings(max_examples=8, deadline=None)
def test_a_locked_label_neither_loses_a_voxel_nor_gets_one(seed, locked, ratios):
    shape = tuple(round(11 * ratio) for ratio in ratios)
    session = new_session(shape, affine=np.diag([*(1 / np.array(ratios)), 1.0]))
    clicks = iter(some_clicks(12, shape, seed))
    session.add_click(*next(clicks))
    approved = session.predict()
    for label in locked:
        session.lock(label)
    assert_array_equal(session.predict(), approved)
    assert session.locked == [name for name in NAMES if name in locked]
    values = dict(zip(NAMES, (0, 2, 5, 300), strict=True))
    for position, label in clicks:
        now = session.predict()
        if values[label] != now[position] and {label, NAMES[LABELS.to_classes(now)[position]]} & set(locked):
            with pytest.raises(ClickError, match="locked"):
                session.add_click(position, label)
            assert_array_equal(session.predict(), now)
            continue
        session.add_click(position, label)
        result = session.predict()
        for name in locked:
            assert_array_equal(result == values[name], approved == values[name])
        assert_array_equal(session.probabilities().argmax(0), LABELS.to_classes(result))


def test_what_is_unlocked_can_change_again():
    session = InteractiveSession(obedient_model(radius=2), amp="off")
    session.set_image(np.zeros((16, 16, 16)))
    session.add_click((4, 8, 8), "left")
    session.lock("left")
    with pytest.raises(ClickError, match="take it from left, which is locked; unlock it"):
        session.add_click((4, 8, 8), "right")
    with pytest.raises(ClickError, match="give it to left, which is locked; unlock it"):
        session.add_click((12, 8, 8), "left")
    session.add_click((4, 8, 8), "left")  # it is left already
    session.unlock("left")
    assert session.locked == []
    session.add_click((4, 8, 8), "right")
    assert session.predict()[4, 8, 8] == 2


def test_a_label_that_was_locked_while_it_was_nowhere_can_be_clicked_once_it_is_unlocked():
    model, truth = obedient_model(radius=1), two_blocks()
    # It gives voxels to the label again and again, wherever the click is.
    model.network.register_forward_pre_hook(
        lambda network, given: (given[0] * (torch.arange(6) < 1).view(-1, 1, 1, 1),)
    )
    session = InteractiveSession(model, amp="off")
    session.set_image(truth)
    session.set_segmentation(np.where(truth == 2, 0, truth))
    session.lock("right")
    place = tuple(np.argwhere(truth == 2)[0].tolist())
    session.add_click(place, "background")
    assert not (session.predict() == 2).any()
    session.unlock("right")
    session.add_click(place, "right")
    assert_array_equal(session.predict(), truth)


def test_a_click_beside_a_locked_label_stops_at_it():
    session = InteractiveSession(obedient_model(radius=4), amp="off")
    session.set_image(np.zeros((16, 16, 16)))
    session.add_click((4, 8, 8), "left")
    approved = session.predict() == 1
    session.lock("left")
    session.add_click((9, 8, 8), "right")
    result = session.predict()
    assert_array_equal(result == 1, approved)
    assert result[9, 8, 8] == 2


def test_locks_are_steps_that_are_undone_and_redone():
    session = new_session()
    session.add_click((3, 3, 3), "a")
    session.lock("a")
    assert session.undo() is None
    assert session.locked == []
    assert len(session.clicks) == 1
    session.redo()
    assert session.locked == ["a"]
    session.unlock("a")
    session.undo()
    assert session.locked == ["a"]
    session.reset()
    assert session.locked == []


def test_locking_twice_is_locking_once():
    session = new_session()
    session.lock("a")
    session.lock("a")
    session.undo()
    assert session.locked == []


def test_locked_voxels_stay_even_if_the_click_that_made_them_is_removed():
    session = InteractiveSession(obedient_model(radius=2), amp="off")
    session.set_image(np.zeros((16, 16, 16)))
    session.add_click((4, 8, 8), "left")
    session.add_click((12, 8, 8), "right")
    approved = session.predict() == 1
    session.lock("left")
    session.add_click((12, 4, 8), "right")
    session.remove_click(0)
    result = session.predict()
    assert_array_equal(result == 1, approved)
    assert (result[12, 8, 8], result[12, 4, 8]) == (2, 2)
    assert [click.label for click in session.clicks] == ["right", "right"]
    session.unlock("left")
    session.undo()
    session.add_click((4, 4, 4), "right")
    assert_array_equal(session.predict() == 1, approved)


def test_what_has_a_locked_label_after_a_removal_is_locked_as_well():
    session = InteractiveSession(obedient_model(radius=2), amp="off")
    session.set_image(two_blocks())
    session.add_click((4, 8, 8), "background")
    session.lock("left")
    session.remove_click(0)
    approved = session.predict() == 1
    assert_array_equal(approved, two_blocks() == 1)
    session.add_click((10, 8, 3), "right")
    assert_array_equal(session.predict() == 1, approved)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("affine", [np.eye(4), np.diag([-1.0, 1.4, 1, 1])])
@given(seed=st.integers(0, 2**32), locked=st.lists(st.sampled_from(NAMES), unique=True, min_size=1, max_size=4))
@settings(max_examples=8, deadline=None)
def test_labels_locked_from_the_start_stay_as_they_are(tmp_path_factory, shape, affine, seed, locked):
    rng = np.random.default_rng(seed)
    start = np.array((0, 2, 5, 300))[rng.integers(0, 4, shape)]
    one, other = new_session(shape, affine=affine), new_session(shape, affine=affine)
    one.set_segmentation(start, locked=locked)
    other.set_segmentation(start)
    for label in locked:
        other.lock(label)
    assert one.locked == other.locked
    for click in some_clicks(6, shape, seed):
        for session in (one, other):
            with suppress(ClickError):  # into what is locked
                session.add_click(*click)
    if np.array_equal(affine, np.eye(4)):  # else the order in which they are locked matters where they are resampled
        assert_same(one, other)
    for value in (LABELS.to_values(np.array(LABELS.index(label))) for label in locked):
        assert_array_equal(one.predict() == value, start == value)
    path = tmp_path_factory.mktemp("sessions") / "x.session"
    one.save_session(path)
    again = new_session(shape, affine=affine)
    image = np.random.default_rng(0).uniform(0, 2, shape).astype(np.float32)
    again.load_session(path, image, affine)
    assert_same(one, again)
    for session in (one, again):
        while session.undo() or session.clicks:
            pass
        assert session.locked == other.locked
        assert_array_equal(session.predict(), start)
    one.unlock(locked[0])
    assert locked[0] not in one.locked
    one.reset()
    assert not one.locked
