from itertools import pairwise

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from deepedit.inference.annotation import annotate
from deepedit.inference.session import InteractiveSession
from tests.obedient import obedient_model, two_blocks


def rounds_of(predicted, truth, radius, max_clicks, given=None):
    session = InteractiveSession(obedient_model(radius=radius), amp="off")
    session.set_image(predicted)
    if given is not None:
        session.set_segmentation(given)
    return list(annotate(session, truth, max_clicks))


def test_nothing_is_clicked_where_nothing_is_wrong():
    (only,) = rounds_of(two_blocks(), two_blocks(), radius=1, max_clicks=5)
    assert (only.clicks, only.voxel, only.label) == (0, None, None)
    assert_array_equal(only.classes, two_blocks())


def test_the_deepest_voxel_of_the_largest_error_is_clicked_until_nothing_is_wrong():
    predicted = two_blocks()
    predicted[9:15, 4:12, 4:12] = 0  # all of the right block missed
    predicted[2, 2, 2] = 1  # and a speck too much
    rounds = rounds_of(predicted, two_blocks(), radius=20, max_clicks=5)
    assert rounds[1].label == 2
    assert rounds[1].voxel == (11, 6, 6)
    # So far-reaching a network turns everything over; the annotator goes on against that.
    assert rounds[2].label in (0, 1)


def test_an_obedient_network_gets_better_with_every_click():
    predicted = two_blocks()
    predicted[9:15, 4:12, 4:12] = 0
    rounds = rounds_of(predicted, two_blocks(), radius=1.5, max_clicks=4)
    wrong = [(each.classes != two_blocks()).sum() for each in rounds]
    assert [each.clicks for each in rounds] == [0, 1, 2, 3, 4]
    assert all(later < sooner for sooner, later in pairwise(wrong))
    assert all(each.seconds > 0 for each in rounds)
    assert [each.obeyed_alone for each in rounds] == [None, True, True, True, True]


@pytest.mark.parametrize("max_clicks", [0, 3])
def test_a_given_segmentation_is_the_first_round(max_clicks):
    given = np.roll(two_blocks(), 2, axis=1)
    rounds = rounds_of(two_blocks(), two_blocks(), radius=1, max_clicks=max_clicks, given=given)
    assert_array_equal(rounds[0].classes, given)
    assert len(rounds) == max_clicks + 1
