"""Sessions that share an image, what they hold in memory, and steps that are taken back for good."""

import gc
import types

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from deepedit.errors import ClickError, FileError
from deepedit.inference import timeline
from deepedit.inference.segmentation import Segmentation
from deepedit.inference.session import InteractiveSession
from tests.inference.test_session_steps import SHAPES, assert_same, counted, new_session, some_clicks
from tests.obedient import obedient_model, two_blocks


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@given(
    seed=st.integers(0, 2**32), steps=st.integers(0, 5), kept=st.sampled_from([1, 50_000, 2**28]), whole=st.booleans()
)
@settings(max_examples=8, deadline=None)
def test_a_fork_is_a_session_of_its_own_with_the_first_steps(shape, seed, steps, kept, whole):
    clicks = some_clicks(5, shape, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timeline, "KEPT_BYTES", kept)
        session, untouched, fresh = (new_session(shape, whole and seed % 2) for _ in range(3))
        for each in (session, untouched):
            if whole:
                each.predict()
            for click in clicks:
                each.add_click(*click)
        for click in clicks[:steps]:
            fresh.add_click(*click)
        fork = session.fork(steps)
        for each in (fork, fresh):
            each.add_click(*some_clicks(1, shape, seed + 1)[0])
        assert_same(fork, fresh)
        for each in (fork, fresh):
            each.undo()
        assert_same(fork, fresh)
        fork.reset()
        assert_same(session, untouched)
        session.take_back(steps)
        assert_same(session, fresh)
        assert session.redo() is None


@pytest.mark.parametrize("steps", [-1, 4])
def test_steps_that_were_not_made_cannot_be_kept_and_nothing_changes(steps):
    session = new_session(SHAPES["one window"])
    for click in some_clicks(3, SHAPES["one window"]):
        session.add_click(*click)
    before = session.predict()
    for keep in (session.take_back, session.fork):
        with pytest.raises(ClickError, match=f"there are 3 steps, so {steps} of them cannot be kept"):
            keep(steps)
    assert len(session.clicks) == 3
    assert_array_equal(session.predict(), before)


def test_a_fork_without_steps_shares_the_automatic_result_and_with_none_only_the_image():
    session = new_session(SHAPES["several windows"])
    session.predict()
    for click in some_clicks(3, SHAPES["several windows"]):
        session.add_click(*click)
    passes = counted(session)
    fork, empty = session.fork(0), session.fork(None)
    automatic = fork.predict()
    assert not passes
    assert fork._timeline.scene.image is session._timeline.scene.image is empty._timeline.scene.image
    assert_array_equal(empty.predict(), automatic)
    assert passes
    assert not fork.clicks
    assert len(session.clicks) == 3


def reachable_memory(*roots):
    """The bytes of all tensors and arrays that can be reached from objects, but for those of networks."""
    held, seen, left = {}, set(), list(roots)
    while left:
        each = left.pop()
        if id(each) in seen or isinstance(each, type | types.ModuleType | types.FunctionType | torch.nn.Module):
            continue
        seen.add(id(each))
        if isinstance(each, torch.Tensor):
            held[each.untyped_storage().data_ptr()] = each.untyped_storage().nbytes()
        elif isinstance(each, np.ndarray):
            if each.base is None:
                held[each.ctypes.data] = each.nbytes
            else:
                left.append(each.base)
        else:
            left += gc.get_referents(each)
    return large(held)


def large(held):
    """Without single values, such as whether a click was heard, and what takes no more than they do."""
    return {address: size for address, size in held.items() if size > 100}


@pytest.mark.parametrize("kept", [50_000, 2**28])
@pytest.mark.parametrize("initial", [False, True])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_memory_of_a_session_is_what_can_be_reached_from_it(shape, initial, kept, monkeypatch):
    monkeypatch.setattr(timeline, "KEPT_BYTES", kept)
    session = new_session(shape, initial)
    for click in some_clicks(4, shape):
        session.add_click(*click)
        assert large(session.memory) == reachable_memory(session._timeline)
    for act in (session.predict, session.undo, lambda: session.lock("a"), lambda: session.lock("b"), session.undo):
        act()
        assert large(session.memory) == reachable_memory(session._timeline)
    fork = session.fork(2)
    assert large(session.memory | fork.memory) == reachable_memory(session._timeline, fork._timeline)
    assert len(session.memory.keys() & fork.memory.keys()) >= 1


def test_an_image_of_other_channels_leaves_the_session_as_it_was():
    session = InteractiveSession(obedient_model(radius=2))
    session.set_image(two_blocks())
    session.add_click((2, 2, 2), "right")
    before = session.predict()
    with pytest.raises(FileError, match="2 channel"):
        session.set_image(np.zeros((2, 4, 4, 4)))
    with pytest.raises(FileError):
        session.set_image(np.zeros((4, 4, 4)), np.zeros((4, 4)))
    assert_array_equal(session.predict(), before)
    assert len(session.clicks) == 1


def test_notes_on_a_segmentation_go_with_it():
    session = InteractiveSession(obedient_model())
    session.set_image(two_blocks())
    segmentation = two_blocks()
    segmentation[0] = 7
    session.set_segmentation(segmentation)
    assert len(session.notes) == 1
    session.set_segmentation(segmentation)
    assert len(session.notes) == 1
    session.reset()
    assert not session.notes


def test_removing_a_click_copies_the_segmentation_once(monkeypatch):
    session = new_session()
    for click in some_clicks(3, SHAPES["one window"]):
        session.add_click(*click)
    copies, copy = [], Segmentation.copy
    monkeypatch.setattr(Segmentation, "copy", lambda self: copies.append(1) or copy(self))
    session.remove_click(1)
    assert len(copies) == 1
