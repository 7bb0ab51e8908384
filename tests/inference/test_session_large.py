"""Sessions on volumes of many windows, or of more than there is memory for."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from deepedit.errors import DeepEditError
from deepedit.inference.session import InteractiveSession
from tests.inference.conftest import ball, box_of
from tests.inference.networks import sweeping_model
from tests.obedient import obedient_model


def test_a_click_in_a_large_volume_leaves_all_beyond_its_window_untouched():
    session = InteractiveSession(sweeping_model(patch=(16, 16, 16)), amp="off")
    session.set_image(np.zeros((60, 16, 40)), np.diag([-1.0, 1, 1, 1]))
    before = session.probabilities()
    changed = session.add_click((40, 8, 20), "right")
    after, result = session.probabilities(), session.predict()
    window = np.zeros(result.shape, bool)
    window[32:49, :, 12:29] = True
    assert_array_equal(after[:, ~window], before[:, ~window])
    assert not result[~window].any()
    assert result[40, 8, 20] == 2
    assert changed == box_of(result > 0)
    # The whole of the window answers, but for the rims towards the rest, where it fades out.
    assert (result[35:46, :, 15:26] == 2).all()


def test_clicks_in_a_large_volume_meet_the_results_of_the_others():
    predicted = np.zeros((70, 16, 16), np.uint8)
    model = obedient_model(radius=2)
    session = InteractiveSession(model, amp="off")
    session.set_image(predicted)
    expected = predicted.copy()
    for position, label in (((5, 8, 8), 1), ((60, 8, 8), 2), ((12, 8, 8), 2), ((60, 8, 8), 0)):
        session.add_click(position, ("background", "left", "right")[label])
        expected[ball(predicted.shape, position, 2)] = label
        assert_array_equal(session.predict(), expected)


def test_more_memory_than_there_is_is_an_error_with_an_estimate(monkeypatch):
    monkeypatch.setattr("deepedit.inference.memory.available_memory", lambda: 2**20)
    session = InteractiveSession(obedient_model())
    with pytest.raises(DeepEditError, match=r"40 x 40 x 40 voxels, 80 x 40 x 40 .* GiB .*crop"):
        session.set_image(np.zeros((40, 40, 40)), np.diag([2.0, 1, 1, 1]))
