"""Whatever is done in whatever order, a session is what its remaining steps make of a fresh one."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deepedit.errors import Cancelled, ClickError
from deepedit.inference import timeline
from deepedit.inference.history import clicks_of
from deepedit.inference.segmentation import Segmentation
from tests.inference.test_session_steps import NAMES, SHAPES, new_session, some_clicks

OPERATIONS = ("click", "click", "clicks", "undo", "redo", "remove", "lock", "unlock", "predict", "cancelled", "file")


def act(session, operation, rng, shape, path):
    """Do one thing with a session; what is refused or cancelled is part of the game."""
    if operation == "click":
        session.add_click(*some_clicks(1, shape, rng.integers(2**32))[0])
    elif operation == "clicks":
        session.add_clicks(some_clicks(3, shape, rng.integers(2**32)))
    elif operation == "remove" and session.clicks:
        session.remove_click(int(rng.integers(len(session.clicks))))
    elif operation == "cancelled":
        questions = iter(range(int(rng.integers(4))))
        session.add_clicks(some_clicks(2, shape, rng.integers(2**32)), cancelled=lambda: next(questions, None) is None)
    elif operation in ("lock", "unlock"):
        getattr(session, operation)(NAMES[rng.integers(4)])
    elif operation in ("undo", "redo", "predict"):
        getattr(session, operation)()
    elif operation == "file":
        session.save_session(path)
        image = np.random.default_rng(0).uniform(0, 2, shape).astype(np.float32)
        session.load_session(path, image)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("initial", [False, True])
@given(seed=st.integers(0, 2**32), operations=st.lists(st.sampled_from(OPERATIONS), min_size=4, max_size=14))
@settings(max_examples=8, deadline=None)
def test_a_session_is_what_its_steps_make_of_a_fresh_one(tmp_path_factory, shape, initial, seed, operations):
    rng = np.random.default_rng(seed)
    path = tmp_path_factory.mktemp("sessions") / "case.session"
    session = new_session(shape, initial)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timeline, "KEPT_BYTES", int(rng.choice([1, 50_000, 2**28])))
        for operation in operations:
            try:
                act(session, operation, rng, shape, path)
            except (ClickError, Cancelled):
                continue
        session.predict()
    found, done = session._timeline.state, session._timeline.done
    expected = Segmentation.begin(session._timeline.scene)
    for number, entry in enumerate(done):
        expected.apply(entry.step, clicks_of(done[:number]))
    for name in ("logits", "classes"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name
    for name in ("decided", "result"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
    for click in clicks_of(done):
        newest = [each.label for each in clicks_of(done) if each.voxel == click.voxel][-1]
        assert found.result[click.voxel] == newest or found.locks is not None
