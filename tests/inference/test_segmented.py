"""What a session shows and tells, which asking does not change."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from deepedit.inference.session import InteractiveSession
from deepedit.io.nifti import read_label
from tests.inference.networks import random_model
from tests.obedient import obedient_model, two_blocks


def test_probabilities_sum_to_one_and_agree_with_the_segmentation(moody):
    for click in (None, ((20, 9, 9), "b")):
        if click:
            moody.add_click(*click)
        chances = moody.probabilities()
        assert chances.shape == (4, 34, 20, 31)
        np.testing.assert_allclose(chances.sum(0), 1, atol=1e-5)
        shown = moody.model.plan.labels.to_classes(moody.predict())
        best, chosen = chances.max(0), np.take_along_axis(chances, shown[None].astype(int), 0)[0]
        np.testing.assert_allclose(chosen, best, atol=1e-6)
        assert_array_equal(moody.probabilities("b"), chances[2])
        assert_array_equal(moody.probabilities("background"), chances[0])


def test_uncertainty_is_one_where_all_is_open_and_zero_where_nothing_is(session, moody):
    assert session.uncertainty().max() < 0.05
    uncertainty = moody.uncertainty()
    assert uncertainty.shape == (34, 20, 31)
    assert 0 <= uncertainty.min() < uncertainty.max() <= 1


def test_labels_leave_with_the_values_that_they_came_in_with(moody, tmp_path):
    result = moody.predict()
    assert result.dtype == np.uint16
    assert set(np.unique(result)) <= {0, 2, 5, 300}
    moody.save(tmp_path / "seg.nii.gz")
    assert_array_equal(read_label(tmp_path / "seg.nii.gz").data, result)
    np.testing.assert_allclose(read_label(tmp_path / "seg.nii.gz").affine, np.diag([-1.0, 1.3, 1.0, 1.0]), atol=1e-6)


def test_asking_twice_changes_nothing(moody):
    moody.add_click((4, 5, 6), "b")
    first, chances = moody.predict(), moody.probabilities()
    assert_array_equal(moody.predict(), first)
    assert_array_equal(moody.probabilities(), chances)


def test_what_predict_returns_is_the_callers_own(session):
    session.predict()[:] = 7
    assert_array_equal(session.predict(), two_blocks())


def test_results_need_no_gradient_and_leave_the_random_state_alone(moody):
    before = torch.get_rng_state()
    moody.add_click((4, 5, 6), "b")
    moody.probabilities()
    assert torch.equal(torch.get_rng_state(), before)


def test_it_tells_whether_the_network_obeyed_the_newest_click_by_itself(session):
    assert session.obeyed_alone is None
    session.add_click((12, 8, 3), "left")
    assert session.obeyed_alone
    stubborn = InteractiveSession(obedient_model(radius=-1), amp="off")
    stubborn.set_image(two_blocks())
    stubborn.add_click((4, 8, 8), "left")  # what the network sees there anyway
    assert stubborn.obeyed_alone
    stubborn.add_click((12, 8, 8), "background")
    assert stubborn.predict()[12, 8, 8] == 0
    for expected, step in (
        (False, stubborn.undo),
        (True, stubborn.redo),
        (False, stubborn.undo),
        (True, stubborn.undo),
    ):
        assert stubborn.obeyed_alone is expected
        step()
    assert stubborn.obeyed_alone is None


@pytest.mark.parametrize("spacing", [1.0, 1.3])
def test_the_probabilities_of_a_network_whose_logits_overflow_are_numbers(spacing):
    model = random_model()
    with torch.no_grad():
        model.network.head.weight.mul_(1e6)
    session = InteractiveSession(model, amp="off")
    session.set_image(np.random.default_rng(0).uniform(0, 2, (40, 12, 12)), np.diag([spacing, spacing, spacing, 1]))
    for click in (None, ((3, 4, 4), "left"), ((30, 6, 6), "background")):
        if click:
            session.add_click(*click)
        probabilities = session.probabilities()
        assert probabilities.sum(0) == pytest.approx(np.ones((40, 12, 12)), abs=1e-2)
    assert session.predict()[3, 4, 4] == 1


def test_volumes_are_in_ml_and_tell_what_the_newest_click_changed():
    session = InteractiveSession(obedient_model(radius=2), amp="off")
    session.set_image(np.zeros((16, 16, 16)), np.diag([1, 1, 2.0, 1]))
    assert session.volumes() == {"left": (0, 0), "right": (0, 0)}
    session.add_click((4, 8, 8), "left")
    first = int((session.predict() == 1).sum())
    assert session.volumes()["left"] == pytest.approx((first * 2 / 1000, first * 2 / 1000))
    session.add_click((12, 8, 8), "right")
    second = int((session.predict() == 2).sum())
    assert session.volumes()["left"] == pytest.approx((first * 2 / 1000, 0))
    assert session.volumes()["right"] == pytest.approx((second * 2 / 1000, second * 2 / 1000))
    session.undo()
    assert session.volumes()["left"] == pytest.approx((first * 2 / 1000, first * 2 / 1000))
