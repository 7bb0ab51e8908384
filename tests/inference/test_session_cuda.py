"""A session on a GPU shows what one on the host shows, and clicks hold there as well."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from deepedit.inference.session import InteractiveSession
from deepedit.volume import Volume
from tests.devices import NEEDS_GPU
from tests.inference.networks import random_model
from tests.inference.test_session_steps import LABELS, NAMES, SHAPES, some_clicks

pytestmark = [pytest.mark.usefixtures("one_thread"), *NEEDS_GPU]


@pytest.fixture(autouse=True)
def float32_as_on_the_host():
    """Convolutions in float32 round as on the host, which a GPU's own format for them, TF32, does not. Unless told
    otherwise, torch uses it for these and not for other products."""
    allowed = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = allowed


AFFINE = np.array([[-0.8, 0.1, 0, 5], [0.1, 1.3, 0, -3], [0, 0, 1.1, 2], [0, 0, 0, 1.0]])


def new_session(device, shape, initial, amp="off"):
    model = random_model(labels=LABELS, patch=(12, 12, 12))
    model.to(device)
    session = InteractiveSession(model, amp=amp)
    rng = np.random.default_rng(0)
    session.set_image(rng.uniform(0, 2, shape).astype(np.float32), AFFINE)
    if initial:
        session.set_segmentation(np.array((0, 2, 5, 300))[rng.integers(0, 4, shape)])
    return session


def steps(session, shape, path):
    """What is shown after each of all kinds of steps."""
    yield session.predict()
    for number, click in enumerate(some_clicks(4, shape)):
        session.add_click(*click)
        yield session.predict() if number % 2 else session.shown()
    session.add_clicks(some_clicks(40, shape, seed=2))
    session.lock("b")
    shown = LABELS.to_classes(session.predict())
    session.add_clicks([each for each in some_clicks(30, shape, seed=3) if allowed(shown, *each)])
    yield session.predict()
    session.remove_click(1)
    yield session.predict()
    session.save_session(path)
    session.undo()
    session.redo()
    yield session.predict()


def allowed(shown, voxel, label):
    """Whether a lock of b lets a voxel take a label."""
    now = NAMES[shown[voxel]]
    return now == label or "b" not in (now, label)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("initial", [False, True])
def test_all_that_is_shown_is_what_the_host_shows(tmp_path, shape, initial):
    sessions = [new_session(device, shape, initial) for device in ("cuda", "cpu")]
    pairs = zip(*(steps(each, shape, tmp_path / each.model.device.type) for each in sessions), strict=True)
    for number, (found, expected) in enumerate(pairs):
        # Where two labels are equally likely to within the rounding of a GPU's sums, either may be shown.
        assert (found != expected).mean() < 0.01, number
    probabilities = [each.probabilities() for each in sessions]
    np.testing.assert_allclose(*probabilities, atol=0.02)
    assert sessions[0].clicks == sessions[1].clicks


@pytest.mark.parametrize("amp", ["off", "auto"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_every_click_holds_at_once_and_at_the_end(shape, amp):
    session, wanted = new_session("cuda", shape, False, amp), {}
    for voxel, label in some_clicks(20, shape, seed=5):
        session.add_click(voxel, label)
        wanted[voxel] = label
        assert NAMES[LABELS.to_classes(session.shown())[voxel]] == label
    shown = LABELS.to_classes(session.predict())
    assert {voxel: NAMES[shown[voxel]] for voxel in wanted} == wanted


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_click_that_is_removed_leaves_nothing_behind(shape):
    clicks = some_clicks(6, shape)
    with_it, without = (new_session("cuda", shape, True) for _ in range(2))
    for click in clicks:
        with_it.add_click(*click)
    with_it.remove_click(2)
    for click in clicks[:2] + clicks[3:]:
        without.add_click(*click)
    assert (with_it.predict() != without.predict()).mean() < 1e-3


def test_a_session_in_a_file_goes_on_on_the_host(tmp_path):
    shape = SHAPES["several windows"]
    session = new_session("cuda", shape, False)
    for click in some_clicks(3, shape):
        session.add_click(*click)
    shown = session.predict()
    session.save_session(tmp_path / "case.session")
    other = new_session("cpu", shape, False)
    image = np.random.default_rng(0).uniform(0, 2, shape).astype(np.float32)
    other.load_session(tmp_path / "case.session", Volume(image, AFFINE))
    assert_array_equal(other.predict(), shown)
