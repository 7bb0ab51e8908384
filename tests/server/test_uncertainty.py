"""The uncertainty of a model about images, against a session's own."""

import pytest

from deepedit.errors import Cancelled
from deepedit.inference.session import InteractiveSession
from deepedit.plan import Labels
from deepedit.server.uncertainty import mean_uncertainty
from tests.inference.networks import random_model
from tests.server.studies_folder import image


@pytest.fixture(scope="module")
def model():
    return random_model(spacing=(1.5, 1.2, 2.0), labels=Labels(("a", "b"), (2, 5)), patch=(12, 12, 12))


def test_it_is_the_mean_of_a_sessions_own(tmp_path, model):
    path = image(tmp_path / "a.nii.gz", shape=(20, 24, 18))
    session = InteractiveSession(model, amp="off")
    session.set_image(path)
    found = mean_uncertainty(lambda: model, amp="off")((path,), lambda: False)
    assert found == pytest.approx(session.uncertainty().mean(), rel=1e-6)
    assert 0 < found < 1


def test_it_stops_after_a_window(tmp_path, model):
    path, asked = image(tmp_path / "a.nii.gz", shape=(40, 24, 18)), []

    def is_cancelled():
        asked.append(1)
        return len(asked) > 1

    with pytest.raises(Cancelled):
        mean_uncertainty(lambda: model, amp="off")((path,), is_cancelled)
    assert len(asked) == 2
