"""Whatever a page shows and asks for, what it is sent makes that of it which a session of its own would show."""

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from deepedit.boxes import bounding_box
from deepedit.errors import Cancelled, ClickError
from deepedit.inference import timeline
from deepedit.inference.session import InteractiveSession
from deepedit.server.changes import changes, uncertainty
from deepedit.server.display import Axes, counts_of, difference
from deepedit.server.requested import EMPTY, Place, Question
from deepedit.server.sessions import Sessions
from deepedit.server.steps import Clicked, Lock, Unlock
from tests.server.two_images import GRIDS, LABELS, LARGE, NAMES


def own_session(model, place, steps):
    """A session that gets the steps one by one; None where a lock forbids a click."""
    session = InteractiveSession(model, tta=place.tta)
    session.set_image(place.images[0])
    if place.start is not None:
        session.set_segmentation(np.zeros(session.image.shape, int) if place.start == EMPTY else place.start)
    session.predict()
    try:
        for step in steps:
            if "lock" in step:
                session.lock(step["lock"])
            elif "unlock" in step:
                session.unlock(step["unlock"])
            else:
                session.add_clicks([(voxel, label) for label, voxel in step["clicks"]])
    except ClickError:
        return None
    return session


def random_step(rng, shape):
    kind = rng.integers(6)
    if kind < 2:
        return {("lock", "unlock")[kind]: NAMES[rng.integers(4)]}
    count = (1, 1, 3, 0)[rng.integers(4)]
    return {"clicks": [(NAMES[rng.integers(4)], tuple(rng.integers(0, shape).tolist())) for _ in range(count)]}


class Tab:
    """A page: what it shows, in the order of the display."""

    def __init__(self, image, shape, affine):
        self.image, self.shape, self.axes = image, shape, Axes.of(affine, shape)
        self.ranks = np.zeros(self.axes.display_shape[::-1], np.uint8)
        self.known, self.steps = None, []

    def change(self, rng):
        """Do something, undo, or take any step away."""
        for _ in range(rng.integers(4) * rng.integers(2)):
            if self.steps:
                del self.steps[-1 if rng.integers(2) else rng.integers(len(self.steps))]
        self.steps += [random_step(rng, self.shape) for _ in range(rng.integers(3))]

    def ask(self, sessions, place, cancelled=None):
        def look(visit):
            return changes(visit, sessions.told(visit.cached.about.image, self.known)), visit.cached

        shown, cached = sessions.visit(place, look, cancelled=cancelled)
        before = self.ranks.copy()
        if shown.header["whole"]:
            self.ranks[:] = 0
        self.ranks[tuple(slice(*span) for span in reversed(shown.header["box"]))] = shown.voxels
        self.known = shown.header["state"]
        return shown, before, cached


@given(
    seed=st.integers(0, 2**32),
    requests=st.integers(2, 9),
    memory=st.sampled_from([0, 100_000, 250_000, LARGE]),
    kept=st.sampled_from([1, 2**28]),
)
@settings(max_examples=15, deadline=None)
def test_a_page_shows_what_a_session_of_its_own_would(model, studies, seed, requests, memory, kept):
    rng = np.random.default_rng(seed)
    sessions = Sessions(model, memory)
    # Two of one image, so that they are in each other's way.
    tabs = [Tab(studies[n // 2], *GRIDS[("one window", "several windows")[n // 2]]) for n in range(3)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timeline, "KEPT_BYTES", kept)
        for _ in range(requests):
            tab = tabs[rng.integers(3)]
            tab.change(rng)
            start = (None, None, EMPTY, studies[2] if tab is not tabs[2] else None)[rng.integers(4)]
            place = Place((tab.image,), tab.steps, start, bool(rng.integers(6) == 0))
            if rng.integers(4) == 0:
                left = iter(range(int(rng.integers(3))))
                with suppress(Cancelled, ClickError):
                    tab.ask(sessions, place, cancelled=lambda left=left: next(left, None) is None)
            if rng.integers(4) == 0:  # by somebody who speaks MONAI Label's protocol
                sessions.answer(Question((tab.image,), {"a": [(1, 2, 3)]}))
            own = own_session(model, place, tab.steps)
            if own is None:
                with pytest.raises(ClickError):
                    tab.ask(sessions, place)
                tab.steps.clear()
                continue
            shown, before, cached = tab.ask(sessions, place)
            classes = LABELS.to_classes(own.predict())
            assert_array_equal(tab.ranks, tab.axes.view(classes))
            if not shown.header["whole"]:
                differs = bounding_box(tab.ranks != before)
                box = [[span.start, span.stop] for span in reversed(differs or (slice(0, 0),) * 3)]
                assert shown.header["box"] == box
            volumes = own.volumes()
            assert shown.header["volumes_ml"] == pytest.approx({name: each.ml for name, each in volumes.items()})
            assert shown.header["changed_ml"] == pytest.approx({name: each.change for name, each in volumes.items()})
            assert shown.header["locked"] == own.locked
            assert shown.header["obeyed"] == own.obeyed_alone
            assert_array_equal(cached.told.classes, classes)
            assert sessions._cached.held(list(sessions._cached)) <= memory
            for each in sessions._cached:
                told = 0 if each.told is None else each.told.classes.nbytes
                assert sum(each.memory.values()) == sum(each.session.memory.values()) + told


def test_what_was_not_forgotten_is_not_sent_again(model, studies):
    sessions, tab = Sessions(model, LARGE), Tab(studies[0], *GRIDS["one window"])
    first, _, _ = tab.ask(sessions, Place(studies[:1]))
    assert first.header["whole"]
    again, _, _ = tab.ask(sessions, Place(studies[:1]))
    assert not again.header["whole"]
    assert again.header["box"] == [[0, 0]] * 3
    assert again.header["state"] == first.header["state"]
    sessions.forget()
    assert tab.ask(sessions, Place(studies[:1]))[0].header["whole"]


def test_the_state_of_another_image_is_none(model, studies):
    sessions, tab = Sessions(model, LARGE), Tab(studies[1], *GRIDS["several windows"])
    tab.known = sessions.visit(Place(studies[:1]), lambda visit: changes(visit, None)).header["state"]
    assert tab.ask(sessions, Place(studies[1:2]))[0].header["whole"]


def test_steps_that_change_nothing_are_left_out(model, studies):
    sessions, tab = Sessions(model, LARGE), Tab(studies[0], *GRIDS["one window"])
    click = {"clicks": [("a", (1, 1, 1))]}
    steps = [{"lock": "b"}, {"lock": "b"}, {"unlock": "c"}, {"clicks": []}, {"unlock": "b"}, {"unlock": "b"}, click]
    for count in (len(steps), len(steps), 3, len(steps)):
        place = Place(studies[:1], steps[:count])
        tab.ask(sessions, place)
        expected = LABELS.to_classes(own_session(model, place, place.steps).predict())
        assert_array_equal(tab.ranks, tab.axes.view(expected))
    (cached,) = sessions._cached
    assert cached.order == [Lock(2), Unlock(2), Clicked(((1, (1, 1, 1)),))]


def test_without_memory_for_a_session_all_is_sent(model, studies):
    said = []
    sessions, tab = Sessions(model, 1000, said.append), Tab(studies[0], *GRIDS["one window"])
    for steps in ([], [{"clicks": [("a", (1, 1, 1))]}]):
        assert tab.ask(sessions, Place(studies[:1], steps))[0].header["whole"]
    assert len(said) == 2


def test_states_differ_by_all_that_an_answer_depends_on(model, studies):
    sessions = Sessions(model, LARGE)
    click = {"clicks": [("a", (1, 1, 1)), ("b", (2, 2, 2))]}
    apart = [{"clicks": [each]} for each in click["clicks"]]
    places = [
        Place(studies[:1]),
        Place(studies[:1], start=EMPTY),
        Place(studies[:1], start=studies[2]),
        Place(studies[:1], tta=True),
        Place(studies[:1], [click]),
        Place(studies[:1], apart),
        Place(studies[:1], [{"lock": "a"}]),
        Place(studies[:1], [{"lock": "b"}]),
        Place(studies[:1], [{"lock": "a"}, {"unlock": "a"}]),
        Place(studies[1:2]),
    ]
    states = [sessions.visit(place, lambda visit: visit.state) for place in places]
    assert len(set(states)) == len(states)
    nothing = [{"clicks": []}, {"unlock": "b"}]
    assert sessions.visit(Place(studies[:1], nothing), lambda visit: visit.state) == states[0]


def test_uncertainty_is_a_share_of_the_largest_entropy(model, studies):
    sessions, place = Sessions(model, LARGE), Place(studies[1:2], [{"clicks": [("a", (1, 1, 1))]}])
    shown = sessions.visit(place, uncertainty)
    expected = own_session(model, place, place.steps).uncertainty()
    axes = Axes.of(GRIDS["several windows"][1], expected.shape)
    assert_array_equal(shown.voxels, axes.view(np.rint(255 * expected).astype(np.uint8)))
    assert shown.header["box"] == [[0, size] for size in axes.display_shape]


@given(st.data(), st.lists(st.integers(1, 40), min_size=3, max_size=3))
@settings(deadline=None)
def test_the_difference_is_the_box_of_all_that_differs(data, shape):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    before = rng.integers(0, 3, shape, np.uint8)
    after = before.copy()
    for _ in range(data.draw(st.integers(0, 3))):
        after[tuple(rng.integers(0, shape))] += 1
    assert difference(before, after) == bounding_box(before != after)
    assert difference(None, after) == bounding_box(after != 0)
    assert_array_equal(counts_of(after, 6), np.bincount(after.ravel(), minlength=6))
