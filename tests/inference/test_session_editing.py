"""The third mode: a segmentation that is there already is corrected."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from deepedit.errors import FileError
from deepedit.inference.session import InteractiveSession
from deepedit.io.nifti import write_label
from deepedit.volume import Volume
from tests.inference.conftest import ball
from tests.obedient import obedient_model, two_blocks


@pytest.mark.parametrize("form", ["array", "volume", "file", "booleans", "floats"])
def test_a_given_segmentation_is_returned_as_it_is_before_a_click(session, form, tmp_path):
    given = (np.random.default_rng(2).random((16, 16, 16)) < 0.5).astype(np.uint8)
    volume = Volume(given)
    write_label(tmp_path / "given.nii.gz", given, volume)
    forms = {"array": given, "volume": volume, "file": tmp_path / "given.nii.gz", "booleans": given > 0}
    session.set_segmentation(forms.get(form, given.astype(float)))
    assert_array_equal(session.predict(), given)


def test_clicks_correct_a_given_segmentation_around_them_only(session):
    given = np.zeros((16, 16, 16), np.uint8)
    given[2:14, 2:14, 2:14] = 2
    session.set_segmentation(given)
    session.add_click((8, 8, 8), "background")
    expected = np.where(ball(given.shape, (8, 8, 8), 2), 0, given)
    assert_array_equal(session.predict(), expected)


def test_a_segmentation_finer_than_the_network_keeps_every_voxel_that_no_click_moved():
    given = (np.random.default_rng(3).random((24, 24, 24)) < 0.5).astype(np.uint8)
    session = InteractiveSession(obedient_model(radius=2), amp="off")
    session.set_image(np.zeros((24, 24, 24)), np.diag([0.5, 0.5, 0.5, 1]))
    session.set_segmentation(given)
    session.add_click((12, 12, 12), "right")
    result = session.predict()
    assert result[12, 12, 12] == 2
    far = ~ball(given.shape, (12, 12, 12), 8)
    assert_array_equal(result[far], given[far])


def test_values_of_no_label_count_as_background(session):
    given = two_blocks()
    session.set_segmentation(np.where(given == 2, 9, given))
    assert_array_equal(session.predict(), np.where(given == 2, 0, given))


def test_only_the_grid_differs_so_it_is_brought_over(session):
    flipped = Volume(two_blocks()[::-1], np.array([[-1, 0, 0, 15], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]))
    session.set_image(np.zeros((16, 16, 16)))
    session.set_segmentation(flipped)
    assert_array_equal(session.predict(), two_blocks())
    fine = Volume(two_blocks().repeat(2, 0), np.array([[0.5, 0, 0, -0.25], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]))
    session.set_segmentation(fine)
    assert_array_equal(session.predict(), two_blocks())


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (np.zeros((16, 16, 15)), "shape"),
        (np.full((16, 16, 16), 0.5), "whole numbers"),
        (np.where(two_blocks() == 2, np.inf, 0), "whole numbers"),
        (Volume(np.ones((2, 16, 16, 16))), "2 channels"),
        (Volume(two_blocks(), np.array([[1, 0, 0, 500], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])), "beside"),
        (Volume(np.ones((4, 4, 4), int), np.zeros((4, 4))), "singular"),
    ],
)
def test_what_is_no_segmentation_of_this_image_is_refused_and_the_session_stays(session, given, named):
    session.add_click((8, 8, 8), "right")
    before = session.predict()
    with pytest.raises(FileError, match=named):
        session.set_segmentation(given)
    assert_array_equal(session.predict(), before)
