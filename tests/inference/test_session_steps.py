"""Steps of a session: several clicks together, clicks that are removed; and calls that are cancelled or fail."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from deepedit.errors import Cancelled, ClickError
from deepedit.inference import timeline
from deepedit.inference.session import InteractiveSession
from deepedit.plan import Labels
from tests.inference.conftest import box_of
from tests.inference.networks import random_model
from tests.obedient import obedient_model

NAMES = ("background", "a", "b", "c")
LABELS = Labels(NAMES[1:], (2, 5, 300))
SHAPES = {"one window": (12, 10, 12), "several windows": (40, 10, 12)}


def new_session(shape=SHAPES["one window"], initial=False, affine=None):
    """A network with random weights, which answers every click all over its window."""
    session = InteractiveSession(random_model(labels=LABELS, patch=(12, 12, 12)), amp="off")
    rng = np.random.default_rng(0)
    session.set_image(rng.uniform(0, 2, shape).astype(np.float32), affine)
    if initial:
        session.set_segmentation(np.array((0, 2, 5, 300))[rng.integers(0, 4, shape)])
    return session


def some_clicks(count, shape, seed=1):
    rng = np.random.default_rng(seed)
    return [(tuple(rng.integers(0, shape).tolist()), NAMES[rng.integers(4)]) for _ in range(count)]


def assert_same(one, other):
    """To the bit, in all that can be seen and in what follows from it."""
    assert_array_equal(one.predict(), other.predict())
    assert_array_equal(one.probabilities(), other.probabilities())
    assert one.clicks == other.clicks
    assert one.locked == other.locked


def counted(session):
    passes = []
    session._answering.network.register_forward_hook(lambda *_: passes.append(1))
    return passes


# Several clicks together ---------------------------------------------------------------------------------------------


def test_clicks_that_are_added_together_are_one_answer_and_one_step():
    session = new_session()
    before = session.predict()
    passes = counted(session)
    clicks = some_clicks(5, before.shape)
    changed = session.add_clicks(clicks)
    assert len(passes) == 1
    after = session.predict()
    assert changed == box_of(after != before)
    wanted = dict(clicks)
    assert {voxel: NAMES[LABELS.to_classes(after)[voxel]] for voxel in wanted} == wanted
    assert len(session.clicks) == 5
    assert session.undo() == changed
    assert_array_equal(session.predict(), before)
    assert session.clicks == []


def test_clicks_far_apart_cost_the_windows_that_they_need_each_once():
    session = new_session((60, 12, 12))
    session.predict()
    passes = counted(session)
    session.add_clicks([((4, 6, 6), "a"), ((50, 6, 6), "b"), ((5, 5, 5), "c"), ((51, 7, 6), "a")])
    assert len(passes) == 2


def test_no_clicks_are_no_step():
    session = new_session()
    assert session.add_clicks([]) is None
    assert session.undo() is None


def test_one_bad_click_keeps_all_from_being_added():
    session = new_session()
    before = session.predict()
    with pytest.raises(ClickError, match="outside"):
        session.add_clicks([((1, 1, 1), "a"), ((99, 1, 1), "b")])
    assert_array_equal(session.predict(), before)
    assert session.clicks == []


# Removal -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("initial", [False, True])
@pytest.mark.parametrize("number", [0, 3])
def test_a_removed_click_has_never_been(shape, initial, number):
    clicks = some_clicks(5, shape)
    session, other = new_session(shape, initial), new_session(shape, initial)
    for each, left in ((session, clicks), (other, clicks[:number] + clicks[number + 1 :])):
        alone = 2 if each is session or number > 1 else 1
        for position, label in left[:alone]:
            each.add_click(position, label)
        each.add_clicks(left[alone:])
    before = session.predict()
    changed = session.remove_click(number)
    after = session.predict()
    assert changed == (box_of(after != before) if (after != before).any() else None)
    assert_same(session, other)
    assert session.redo() is None
    for each in (session, other):
        each.undo()
    assert_same(session, other)


@pytest.mark.parametrize("number", [-1, 2, 99])
def test_a_click_that_is_not_there_cannot_be_removed(number):
    session = new_session()
    session.add_clicks(some_clicks(2, SHAPES["one window"]))
    before = session.predict()
    with pytest.raises(ClickError, match=f"no click {number}"):
        session.remove_click(number)
    assert_array_equal(session.predict(), before)


# Before all is worked out --------------------------------------------------------------------------------------------


def test_a_first_click_in_a_large_volume_costs_its_window_and_the_result_is_the_same_in_the_end():
    shape = (60, 12, 12)
    session, other = new_session(shape), new_session(shape)
    passes = counted(session)
    assert not session.shown().any()
    changed = session.add_click((30, 6, 6), "a")
    assert len(passes) == 2  # what is there before the click, and the answer
    assert session.is_partial
    assert session.shown()[30, 6, 6] == 2
    assert session.shown(changed).shape == tuple(span.stop - span.start for span in changed)
    assert not session.shown()[:20].any()
    session.add_click((33, 6, 6), "b")
    assert len(passes) == 3 + (33 - 30 > 0)  # the window lies elsewhere, and a part of it is new
    other.predict()
    other.add_click((30, 6, 6), "a")
    other.add_click((33, 6, 6), "b")
    assert not other.is_partial
    assert_same(session, other)
    assert not session.is_partial
    for each in (session, other):
        each.undo()
    assert_same(session, other)


def test_what_was_undone_before_all_was_worked_out_can_be_redone_after():
    shape = (60, 12, 12)
    session, other = new_session(shape), new_session(shape)
    other.predict()
    for each in (session, other):
        each.add_click((30, 6, 6), "a")
        each.add_click((33, 6, 6), "b")
        each.undo()
    session.predict()
    for each in (session, other):
        each.redo()
    assert_same(session, other)


# Bounds --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_hundred_clicks_stay_within_bounds_and_can_all_be_undone(shape, monkeypatch):
    session = InteractiveSession(obedient_model(radius=2), amp="off")
    session.set_image(np.zeros(shape))
    results = [session.predict()]
    bound = 6 * 3 * 2 * 16**3
    monkeypatch.setattr(timeline, "KEPT_BYTES", bound)
    for position, label in some_clicks(100, shape):
        session.add_click(position, {"a": "left", "b": "right"}.get(label, "background"))
        results.append(session.predict())
        held = [entry.change for entry in session._timeline.done if entry.change.kept]
        assert len(held) < 60
        assert sum(change.bytes for change in held) <= bound
    back = len(held) + 2
    for expected in results[-2 : -2 - back : -1]:
        session.undo()
        assert_array_equal(session.predict(), expected)
    for expected in results[-back:]:
        session.redo()
        assert_array_equal(session.predict(), expected)
    session.reset()
    assert_array_equal(session.predict(), results[0])


# Cancelled -----------------------------------------------------------------------------------------------------------


def after(count):
    """Says yes from the `count`-th question on."""
    asked = []

    def cancelled():
        asked.append(1)
        return len(asked) > count

    return cancelled


CALLS = {
    "predict": lambda session, **watch: session.predict(**watch),
    "click": lambda session, **watch: session.add_click((2, 2, 2), "c", **watch),
    "clicks": lambda session, **watch: session.add_clicks([((2, 2, 2), "c"), ((36, 2, 2), "a")], **watch),
    "remove": lambda session, **watch: session.remove_click(0, **watch),
    "undo": lambda session, **watch: session.undo(**watch),
    "lock": lambda session, **watch: session.lock("a", **watch),
}


@pytest.mark.parametrize("partial", [True, False])
@pytest.mark.parametrize("call", CALLS)
def test_a_call_that_is_cancelled_leaves_the_session_as_it_was(call, partial, monkeypatch):
    monkeypatch.setattr(timeline, "KEPT_BYTES", 1)  # so that undoing asks the network, too
    session, other = new_session((40, 12, 12)), new_session((40, 12, 12))
    for each in (session, other):
        if not partial:
            each.predict()
        for position, label in (((8, 6, 6), "a"), ((32, 6, 6), "b"), ((20, 6, 6), "c")):
            each.add_click(position, label)
    shown = session.shown()
    count = 0
    while True:
        try:
            CALLS[call](session, cancelled=after(count))
            break
        except Cancelled:
            assert_array_equal(session.shown(), shown)
            assert session.clicks == other.clicks
            assert session.is_partial == partial
            count += 1
    CALLS[call](other)
    assert_same(session, other)


def test_progress_counts_the_windows_of_a_call():
    session, told = new_session((60, 12, 12)), []
    session.predict(on_progress=lambda done, needed: told.append((done, needed)))
    assert told == [(number, len(told)) for number in range(1, len(told) + 1)]
    assert len(told) > 3


# Found by looking for trouble ----------------------------------------------------------------------------------------


def test_the_box_of_a_first_click_in_a_large_volume_holds_all_that_became_visible():
    session = InteractiveSession(obedient_model(radius=2), amp="off")
    session.set_image(np.ones((70, 16, 16)))
    before = session.shown()
    box = session.add_click((30, 8, 8), "right")
    assert box == box_of(session.shown() != before)
    session.undo()
    assert session.shown()[30, 8, 8] == 1


CALLS_THAT_FAIL = {
    "click": lambda session: session.add_click((0, 2, 2), "c"),
    "undo": lambda session: session.undo(),
    "lock": lambda session: session.lock("c"),
    "remove": lambda session: session.remove_click(0),
}


@pytest.mark.parametrize("call", CALLS_THAT_FAIL)
@pytest.mark.parametrize("place", ["labels_to_native", "bounding_box", "copy"])
def test_a_call_that_fails_after_the_network_leaves_the_session_as_it_was(call, place, monkeypatch):
    from deepedit.inference import segmentation
    from deepedit.transforms.geometry import GridMap

    monkeypatch.setattr(timeline, "KEPT_BYTES", 3 * 4 * 2 * 12**3)
    session, other = new_session(), new_session()
    for each in (session, other):
        for position, label in some_clicks(3, SHAPES["one window"]):
            each.add_click(position, label)
        each.lock("b")
    owner = {"labels_to_native": GridMap, "bounding_box": segmentation, "copy": segmentation.Segmentation}[place]
    with monkeypatch.context() as patch:

        def fails(*arguments):
            patch.undo()  # once
            raise MemoryError

        patch.setattr(owner, place, fails)
        try:
            CALLS_THAT_FAIL[call](session)
        except MemoryError:
            assert_same(session, other)
            assert session.probabilities().tobytes() == other.probabilities().tobytes()
            while session.clicks:
                assert session.undo() == other.undo()
                assert_same(session, other)


@pytest.mark.parametrize("position", [("a", "b", "c"), (1, 2), None, (1, 2, None), (10**400, 1, 1), 5])
def test_a_position_that_is_none_is_refused(position):
    session = new_session()
    with pytest.raises(ClickError, match="three numbers"):
        session.add_click(position, "a")
    assert session.clicks == []
