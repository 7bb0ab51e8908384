"""What requests say was done, against what a session did."""

import numpy as np
import pytest

from deepedit.errors import ClickError
from deepedit.inference.session import InteractiveSession
from deepedit.server.placing import MOST_CLICKS
from deepedit.server.steps import Clicked, Lock, Unlock, make, placed_steps, steps_of
from tests.obedient import obedient_model, two_blocks

SENT = [
    {"lock": "left"},
    {"clicks": [("right", (12, 9, 9)), ("background", (9, 4, 4))]},
    {"unlock": "left"},
    {"clicks": [("left", (2, 9, 9))]},
]
PLACED = (Lock(1), Clicked(((2, (12, 9, 9)), (0, (9, 4, 4)))), Unlock(1), Clicked(((1, (2, 9, 9)),)))


@pytest.fixture
def session():
    session = InteractiveSession(obedient_model(radius=2))
    session.set_image(two_blocks().astype(np.float32))
    return session


def made(session, steps):
    for step in steps:
        make(step, session, None, None)
    return session


def test_steps_are_made_and_told_as_they_were_sent(session):
    steps, notes = placed_steps(SENT, session.model.plan.labels, (16, 16, 16))
    assert steps == PLACED
    assert notes == []
    made(session, steps)
    told = steps_of(session)
    assert placed_steps(told, session.model.plan.labels, (16, 16, 16)) == (PLACED, [])
    assert len(session.steps) == len(PLACED)
    session.undo()
    assert len(session.steps) == len(PLACED) - 1


def test_what_was_locked_from_the_start_is_a_step(session):
    session.set_segmentation(two_blocks(), locked=["right", "left"])
    assert session.start.locked == ("left", "right")
    assert np.array_equal(session.start.initial, two_blocks())
    assert steps_of(session) == [{"lock": "left"}, {"lock": "right"}]
    other = InteractiveSession(session.model)
    other.set_image(two_blocks().astype(np.float32))
    other.set_segmentation(two_blocks())
    assert other.start.locked == ()
    steps, _ = placed_steps(steps_of(session), session.model.plan.labels, (16, 16, 16))
    click = Clicked(((0, (14, 14, 14)), (0, (8, 8, 8))))
    assert np.array_equal(made(other, (*steps, click)).predict(), made(session, [click]).predict())


def test_a_session_without_a_start_begins_with_the_automatic_result(session):
    assert session.start.initial is None
    assert session.start.passes == {"amp": "auto", "overlap": 0.5, "skip_air": False, "tta": False}


@pytest.mark.parametrize(
    "step",
    [
        {"lock": "spleen"},
        {"unlock": "spleen"},
        {"clicks": [("spleen", (1, 1, 1))]},
        {"clicks": [("left", (1, 1, 18))]},
        {"clicks": [("left", (1, 1, 1))] * (MOST_CLICKS + 1)},
    ],
)
def test_what_cannot_be_is_refused(session, step):
    with pytest.raises(ClickError):
        placed_steps([step], session.model.plan.labels, (16, 16, 16))


def test_too_many_steps_are_refused_as_too_many_clicks_are(session):
    steps = [{"lock": "left"}, {"unlock": "left"}] * (MOST_CLICKS // 2)
    assert len(placed_steps(steps, session.model.plan.labels, (16, 16, 16))[0]) == MOST_CLICKS
    with pytest.raises(ClickError, match="at most"):
        placed_steps([*steps, {"lock": "left"}], session.model.plan.labels, (16, 16, 16))


def test_a_click_just_outside_is_moved_and_told(session):
    steps, notes = placed_steps([{"clicks": [("left", (-1, 3, 16))]}], session.model.plan.labels, (16, 16, 16))
    assert steps == (Clicked(((1, (0, 3, 15)),)),)
    (note,) = notes
    assert "just outside" in note
