"""When samples may be mirrored left to right: what the labels are called, and where they lie in the cases."""

import numpy as np
import pytest

from deepedit.plan import Labels
from deepedit.training.data import PreparedCase
from deepedit.training.mirror import mirrored_classes


def labels_named(*names):
    return Labels(names, tuple(range(1, len(names) + 1)))


def cases_of(*places, count=12, lean=0.0, wander=1.5, side=40):
    """Cases with a label at each of `places`, voxels from the image's middle, which vary from case to case."""
    cases = []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        rows = []
        for index, place in enumerate(places, start=1):
            points = rng.normal(scale=2, size=(200, 3))
            points[:, 0] += lean * points[:, 1]
            points += np.array(place) + rng.normal(scale=wander, size=3) + (side - 1) / 2
            rows.append(np.column_stack((np.full(len(points), index), points.round())))
        label = np.zeros((side,) * 3, np.uint8)
        cases.append(PreparedCase(str(seed), label[None], label, np.concatenate(rows).astype(np.int32)))
    return cases


SYMMETRIC = ((-10, 0, 0), (10, 0, 0), (0, 5, 5))


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("LeftParotid", "RightParotid"),
        ("parotid_l", "parotid_r"),
        ("Parotid-L", "Parotid-R"),
        ("parotid left", "parotid right"),
        ("ParotidLT", "ParotidRT"),
        ("2 left", "2 right"),
        ("Ohrspeicheldrüse links", "Ohrspeicheldrüse rechts"),
    ],
)
def test_labels_of_the_two_sides_change_places(left, right):
    assert mirrored_classes(labels_named(left, right, "cord"), cases_of(*SYMMETRIC)) == (0, 2, 1, 3, 4)


def test_a_label_without_a_side_stays():
    assert mirrored_classes(labels_named("cord"), cases_of((0, 5, 5))) == (0, 1, 2)


def test_names_that_differ_in_more_than_the_side_are_no_pair():
    assert mirrored_classes(labels_named("left kidney", "right lung", "cord"), cases_of(*SYMMETRIC)) is None


def test_a_side_without_the_other_is_not_mirrored():
    assert mirrored_classes(labels_named("left kidney"), cases_of((0, 0, 0))) is None


def test_sides_that_the_names_do_not_tell_are_found_in_the_cases():
    assert mirrored_classes(labels_named("one kidney", "other kidney", "cord"), cases_of(*SYMMETRIC)) is None


def test_a_label_on_one_side_of_the_image_is_not_mirrored():
    assert mirrored_classes(labels_named("spleen"), cases_of((-10, 0, 0))) is None


def test_a_label_on_one_side_of_the_others_is_not_mirrored_wherever_the_image_was_cropped():
    assert mirrored_classes(labels_named("head", "tail"), cases_of((-4, 8, 0), (4, -8, 0), wander=0.5)) is None


def test_a_single_label_that_leans_to_one_side_is_not_mirrored():
    assert mirrored_classes(labels_named("hippocampus"), cases_of((0, 0, 0), lean=1.0)) is None


def test_a_few_cases_tell_nothing():
    assert mirrored_classes(labels_named("cord"), cases_of((0, 5, 5), count=7)) is None


def test_cases_that_lack_a_label_do_not_count_for_it():
    cases = cases_of(*SYMMETRIC, count=16)
    bare = [PreparedCase(case.name, case.image, case.label, case.voxels[:0]) for case in cases[:4]]
    labels = labels_named("left", "right", "cord")
    assert mirrored_classes(labels, bare + cases[4:]) == (0, 2, 1, 3, 4)
    assert mirrored_classes(labels, bare + cases[4:11]) is None


def test_no_label_anywhere_is_nothing_to_go_by():
    cases = [PreparedCase(case.name, case.image, case.label, case.voxels[:0]) for case in cases_of((0, 0, 0))]
    assert mirrored_classes(labels_named("cord"), cases) is None
