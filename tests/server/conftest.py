"""What tests of several modules begin with."""

import pytest

from tests.inference.networks import random_model
from tests.server.two_images import LABELS, PATCH, write_two_images


@pytest.fixture
def root(tmp_path):
    """A folder that may be filled, in one that tells whether something lands outside of it."""
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture(scope="module")
def model():
    return random_model(labels=LABELS, patch=PATCH)


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    """Two images, and a label map of the first."""
    return write_two_images(tmp_path_factory.mktemp("studies"))
