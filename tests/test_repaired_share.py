"""The oracle of an evaluation, and the share of what it repairs that clicks do repair."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from deepedit.evaluation import Corruption, Row, evaluate_dataset, oracle_dice, repaired_share, summarise
from deepedit.io.nifti import write_label
from deepedit.metrics import dice
from deepedit.volume import Volume
from tests.clicks.oracles import code_maps, slow_error_component, slow_largest_error_click
from tests.obedient import obedient_model, two_blocks, write_case


def slow_oracle(classes, truth, num_classes, max_clicks, max_per_class=None):
    """Click by click: the annotator looks at the state, and all of the error that it clicks is set right."""
    state, made, scores = classes.copy(), Counter(), []
    for _ in range(max_clicks + 1):
        scores.append([dice(state == index, truth == index) for index in range(1, num_classes)])
        used_up = {index for index in range(1, num_classes) if made[index] == max_per_class}
        click = slow_largest_error_click(state, truth, used_up)
        if click is None:
            break
        voxel, label = click
        made[label or int(state[voxel])] += 1
        for repaired in slow_error_component(state, truth, voxel):
            state[repaired] = label
    return scores


@settings(max_examples=150, deadline=None)
@given(
    prediction=code_maps(max_side=6, max_code=3),
    seed=st.integers(0, 2**32 - 1),
    same=st.floats(0, 1),
    max_clicks=st.integers(0, 12),
    max_per_class=st.none() | st.integers(0, 4),
)
def test_one_search_for_errors_gives_what_the_annotator_finds_click_by_click(
    prediction, seed, same, max_clicks, max_per_class
):
    rng = np.random.default_rng(seed)
    truth = np.where(rng.random(prediction.shape) < same, prediction, rng.integers(0, 4, prediction.shape))
    truth = truth.astype(np.uint8)
    before = prediction.copy()
    found = oracle_dice(prediction, truth, 4, max_clicks, max_per_class)
    assert_array_equal(found, slow_oracle(prediction, truth, 4, max_clicks, max_per_class))
    assert (np.diff(found, axis=0) >= 0).all()
    assert_array_equal(prediction, before)


def test_the_share_is_of_what_could_be_repaired():
    assert repaired_share(0.7, 0.8, 0.9) == pytest.approx(0.5)
    assert repaired_share(0.7, 0.9, 0.9) == 1
    assert repaired_share(0.7, 0.6, 0.9) == pytest.approx(-0.5)
    assert repaired_share(0.7, 0.95, 0.9) == pytest.approx(1.25)


def test_there_is_no_share_where_next_to_nothing_is_to_be_repaired():
    assert repaired_share(0.5, 0.5, 0.5) is None
    assert repaired_share(0.5, 0.6, 0.5049) is None
    assert repaired_share(0.5, 0.503, 0.506) == pytest.approx(0.5)


def test_means_are_taken_before_the_ratio():
    def rows(case, dices, oracles):
        pairs = enumerate(zip(dices, oracles, strict=True))
        return [Row(case, "x", clicks, *(each, 0.0), None, None, None, None, best) for clicks, (each, best) in pairs]

    curve = summarise(rows("a", [0.5, 0.6, 0.9], [0.5, 0.9, 1]) + rows("b", [0.9, 0.9, 0.9], [0.9, 0.901, 1])).mean
    assert_allclose(curve.oracle_dice, [0.7, 0.9005, 1.0])
    assert curve.repaired[0] is None
    # The mean of the cases' own shares would be 0.25 or so after the first click, by how little b can gain.
    assert_allclose(curve.repaired[1:], [0.05 / 0.2005, 0.2 / 0.3])
    with pytest.raises(ValueError, match="some without"):
        summarise(rows("a", [0.5], [0.5]) + rows("b", [0.5], [None]))


@pytest.fixture
def missed_corners(tmp_path):
    """A case of which the left block lacks a slab of two slices, the right one a slab of one, and a speck is too much:
    errors of 128, 64 and 1 voxels."""
    truth = two_blocks()
    predicted = truth.copy()
    predicted[1:3, 4:12, 4:12] = 0
    predicted[9, 4:12, 4:12] = 0
    predicted[0, 0, 0] = 2
    return write_case(tmp_path, "case", predicted, truth)


def of(rows, label, name):
    return [getattr(row, name) for row in rows if row.label == label]


def test_the_oracle_repairs_an_error_with_each_click_whatever_the_model_does(missed_corners):
    rows = evaluate_dataset(obedient_model(), [missed_corners], max_clicks=4, oracle=True)
    without = {"left": 2 * 256 / (256 + 384), "right": 2 * 320 / (321 + 384)}
    assert_allclose(of(rows, "left", "oracle_dice"), [without["left"], 1, 1, 1, 1])
    assert_allclose(of(rows, "right", "oracle_dice"), [without["right"], without["right"], 2 * 384 / 769, 1, 1])
    # Each click of this model puts one voxel right, so that it does not get far.
    left, right = summarise(rows).labels
    assert left.repaired[0] is right.repaired[0] is right.repaired[1] is None
    gain = 2 * 257 / (257 + 384) - without["left"]
    assert_allclose(left.repaired[1], gain / (1 - without["left"]))
    assert 0 < left.repaired[4] < 0.05


def test_without_the_oracle_there_is_no_share(missed_corners):
    rows = evaluate_dataset(obedient_model(), [missed_corners], max_clicks=1)
    assert {row.oracle_dice for row in rows} == {None}
    assert summarise(rows).mean.repaired is summarise(rows).mean.oracle_dice is None


def test_the_oracle_changes_nothing_about_the_model(missed_corners):
    with_oracle = evaluate_dataset(obedient_model(), [missed_corners], max_clicks=3, oracle=True)
    alone = evaluate_dataset(obedient_model(), [missed_corners], max_clicks=3)
    assert [(row.dice, row.nsd, row.click) for row in with_oracle] == [(row.dice, row.nsd, row.click) for row in alone]


def test_the_oracle_begins_with_the_segmentation_that_is_corrected(tmp_path, missed_corners):
    given = np.zeros_like(two_blocks())
    given[1:7, 4:12, 4:12] = 1
    (tmp_path / "given").mkdir()
    write_label(tmp_path / "given" / "case.nii.gz", given, Volume(given))
    rows = evaluate_dataset(obedient_model(), [missed_corners], max_clicks=1, initial=tmp_path / "given", oracle=True)
    assert of(rows, "right", "oracle_dice") == [0, 1]
    for start in (Corruption(0.6, 0.75), Corruption(1, 1)):
        rows = evaluate_dataset(obedient_model(), [missed_corners], max_clicks=2, initial=start, oracle=True)
        assert of(rows, "left", "oracle_dice")[0] == of(rows, "left", "dice")[0]
    assert {row.oracle_dice for row in rows} == {1}
    assert summarise(rows).mean.repaired == (None, None, None)


def test_what_is_not_known_is_not_repaired(tmp_path, missed_corners):
    truth = two_blocks()
    truth[1:3, 4:12, 4:12] = 9
    write_label(missed_corners.label, truth, Volume(truth))
    rows = evaluate_dataset(obedient_model(), [missed_corners], max_clicks=1, oracle=True, ignore=9)
    assert of(rows, "left", "oracle_dice") == [1, 1]
    assert_allclose(of(rows, "right", "oracle_dice"), [2 * 320 / (321 + 384), 2 * 384 / 769])


# Clicks counted for each label.


def test_clicks_are_counted_for_the_label_that_they_give_or_remove(tmp_path):
    truth = two_blocks()
    predicted = truth.copy()
    predicted[3, 8, 7:10] = 0
    predicted[0, 0, 0:2] = 2
    predicted[0, 15, 0] = 1
    case = write_case(tmp_path, "case", predicted, truth)
    rows = evaluate_dataset(obedient_model(radius=2), [case], max_clicks=4)
    clicks = [click for click in of(rows, "left", "click") if click]
    assert [(click.label, click.replaced, click.counted) for click in clicks] == [
        ("left", "background", "left"),
        ("background", "right", "right"),
        ("background", "left", "left"),
    ]
    left, right = summarise(rows).labels
    assert left.clicks == (0, 1, 1, 2, 2)
    assert right.clicks == (0, 0, 1, 1, 1)
    assert summarise(rows).mean.clicks == (0, 0.5, 1, 1.5, 1.5)


def test_when_the_clicks_of_a_label_are_used_up_the_others_errors_are_clicked(missed_corners):
    model = obedient_model()
    free = evaluate_dataset(model, [missed_corners], max_clicks=4)
    assert [click.counted for click in of(free, "left", "click")[1:]] == ["left"] * 4
    rows = evaluate_dataset(model, [missed_corners], max_clicks_per_label=2, oracle=True)
    assert [click and click.counted for click in of(rows, "left", "click")] == [None, *["left"] * 2, *["right"] * 2]
    assert max(row.clicks for row in rows) == 4
    assert summarise(rows).labels[0].clicks == (0, 1, 2, 2, 2)
    # The oracle needs one of its two for the left block.
    assert_allclose(of(rows, "right", "oracle_dice")[1:], [2 * 320 / (321 + 384), 2 * 384 / 769, 1, 1])


def test_the_lower_of_two_limits_holds(missed_corners):
    def most(**limits):
        return max(row.clicks for row in evaluate_dataset(obedient_model(), [missed_corners], **limits))

    assert most() == 10
    assert most(max_clicks=1, max_clicks_per_label=2) == 1
    assert most(max_clicks=9, max_clicks_per_label=2) == 4
    assert most(max_clicks_per_label=0) == 0
    with pytest.raises(ValueError, match="at least 0"):
        most(max_clicks_per_label=-1)


def test_a_redundant_click_counts_too(tmp_path):
    case = write_case(tmp_path, "case", two_blocks(), two_blocks())
    start = Corruption(1, 1)
    rows = evaluate_dataset(obedient_model(radius=4), [case], initial=start, max_clicks_per_label=1)
    # It breaks something outside of its block, which may not be mended: the one click is used up.
    assert [click and click.counted for click in of(rows, "left", "click")] == [None, "left", None]
