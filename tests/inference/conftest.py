"""Sessions to ask, and what their answers are held against."""

import numpy as np
import pytest

from deepedit.inference.session import InteractiveSession
from deepedit.plan import Labels
from tests.inference.networks import random_model
from tests.obedient import obedient_model, two_blocks


def ball(shape, centre, radius):
    distance = np.sum((np.moveaxis(np.indices(shape), 0, -1) - centre) ** 2, axis=-1)
    return distance <= radius**2


def box_of(mask):
    places = np.argwhere(mask)
    return tuple(slice(a, b + 1) for a, b in zip(places.min(0).tolist(), places.max(0).tolist(), strict=True))


@pytest.fixture
def session():
    """Clicks reach 2 voxels; the image says what the network predicts."""
    session = InteractiveSession(obedient_model(radius=2), amp="off")
    session.set_image(two_blocks())
    return session


@pytest.fixture
def moody():
    """A network with random weights, an image on another grid than its own, several windows."""
    model = random_model(spacing=(1.5, 1.2, 2.0), labels=Labels(("a", "b", "c"), (2, 5, 300)), patch=(12, 12, 12))
    session = InteractiveSession(model, amp="off")
    image = np.random.default_rng(0).uniform(0, 2, (34, 20, 31)).astype(np.float32)
    session.set_image(image, np.diag([-1.0, 1.3, 1.0, 1.0]))
    return session
