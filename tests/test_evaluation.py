import dataclasses
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from deepedit.evaluation import (
    ClickEffect,
    Corruption,
    Row,
    corrupt_to_range,
    evaluate_dataset,
    redundant_click,
    summarise,
)
from deepedit.evaluation.starts import mean_dice
from deepedit.io.msd import Case
from deepedit.io.nifti import write_label
from deepedit.volume import Volume
from tests.obedient import obedient_model, two_blocks, write_case


@pytest.fixture
def one_wrong(tmp_path):
    """A case with three wrong voxels: two in a row without their label, then a single one too many."""
    truth = two_blocks()
    predicted = truth.copy()
    predicted[3, 8, 8:10] = 0
    predicted[8, 1, 1] = 2
    return write_case(tmp_path, "case", predicted, truth)


def not_enforcing(model):
    """The model with a policy that leaves it to the network whether a click is obeyed."""
    policy = dataclasses.replace(model.plan.merge, enforce=False)
    return dataclasses.replace(model, plan=dataclasses.replace(model.plan, merge=policy))


def forgetful_model():
    """Gives up everything at the second click: sees background, in all of the volume, for good."""

    class Forgetful(type(obedient_model().network)):
        def forward(self, x):
            logits = super().forward(x)
            if (x[:, 1:4] > 0.999).sum() > 1:
                logits[:, 0] = 99
            return logits

    model = obedient_model()
    model.network.__class__ = Forgetful
    return model


def of(rows, label, name):
    return [getattr(row, name) for row in rows if row.label == label]


def dice(hit, predicted, true):
    return 2 * hit / (predicted + true)


# Rows: one voxel put right with each click.


def test_each_click_of_an_obedient_model_puts_one_voxel_right(one_wrong):
    rows = evaluate_dataset(obedient_model(), [one_wrong], max_clicks=4)
    assert [(row.clicks, row.label) for row in rows] == [(n, label) for n in range(5) for label in ("left", "right")]
    assert_allclose(of(rows, "left", "dice"), [dice(382, 382, 384), dice(383, 383, 384), 1, 1, 1])
    assert_allclose(of(rows, "right", "dice"), [dice(384, 385, 384)] * 3 + [1, 1])
    assert of(rows, "left", "obeyed") == [None, True, True, True, None]


def test_the_clicks_are_the_evaluation_annotators(one_wrong):
    clicks = of(evaluate_dataset(obedient_model(), [one_wrong], max_clicks=3), "left", "click")[1:]
    assert [(click.label, click.voxel) for click in clicks] == [
        ("left", (3, 8, 8)),  # the larger error first; of two equally deep voxels the first
        ("left", (3, 8, 9)),
        ("background", (8, 1, 1)),
    ]
    assert [(click.region, click.region_left) for click in clicks] == [(2, 1), (1, 0), (1, 0)]
    assert [(click.replaced, click.replaced_before, click.replaced_after) for click in clicks][2] == ("right", 385, 384)
    assert all(click.kept and click.changed_far == 0 for click in clicks)


def test_rows_repeat_the_last_state_once_nothing_is_wrong(one_wrong):
    rows = evaluate_dataset(obedient_model(), [one_wrong], max_clicks=6)
    last = [row for row in rows if row.clicks > 3]
    assert len(last) == 6
    assert all((row.dice, row.nsd) == (1, 1) for row in last)
    assert all((row.obeyed, row.obeyed_alone, row.seconds, row.click) == (None,) * 4 for row in last)


def test_clicks_that_do_nothing_are_counted_as_such(one_wrong):
    rows = evaluate_dataset(not_enforcing(obedient_model(radius=-1)), [one_wrong], max_clicks=3)
    assert len(set(of(rows, "left", "dice"))) == 1
    assert of(rows, "left", "obeyed") == [None, False, False, False]
    summary = summarise(rows).clicks
    assert (summary.count, summary.obeyed, summary.kept, summary.removing) == (3, 0, 0, 0)


def test_the_sessions_last_resort_obeys_but_not_the_network_alone(one_wrong):
    rows = evaluate_dataset(obedient_model(radius=-1), [one_wrong], max_clicks=3)
    assert of(rows, "left", "obeyed") == [None, True, True, True]
    assert of(rows, "left", "obeyed_alone") == [None, False, False, False]
    summary = summarise(rows).clicks
    assert (summary.obeyed, summary.obeyed_alone, summary.obeyed_alone_after) == (1, 0, (0, 0, 0))


def test_what_the_network_obeyed_by_itself_is_told_click_by_click(one_wrong):
    rows = evaluate_dataset(forgetful_model(), [one_wrong], max_clicks=3)
    assert of(rows, "left", "obeyed_alone") == of(rows, "right", "obeyed_alone") == [None, True, False, False]
    assert of(rows, "left", "obeyed") == [None, True, True, True]
    summary = summarise(rows).clicks
    assert_allclose(summary.obeyed_alone, 1 / 3)
    assert summary.obeyed_alone_after == (1, 0, 0)


def test_a_click_taken_back_by_a_later_one_was_obeyed_but_not_kept(one_wrong):
    rows = evaluate_dataset(not_enforcing(forgetful_model()), [one_wrong], max_clicks=2)
    assert of(rows, "left", "obeyed") == [None, True, False]
    assert [click.kept for click in of(rows, "left", "click")[1:]] == [False, False]
    assert (summarise(rows).clicks.obeyed, summarise(rows).clicks.kept) == (0.5, 0)


def test_what_changes_far_from_a_click_is_seen():
    from deepedit.evaluation.protocol import click_effect
    from deepedit.plan import Labels

    labels = Labels(("left",), (1,))
    truth, before, after = np.zeros((3, 30, 9, 9), np.uint8)
    truth[2, 4, 4] = 1
    after[2, 4, 4] = 1
    after[12, 4, 4] = 1  # ten voxels away: not farther than ten
    after[13, 4, 4] = 1
    effect = click_effect(before, after, truth, (2, 4, 4), 1, labels)
    i, j, k = np.indices(truth.shape)
    beyond = np.count_nonzero((i - 2) ** 2 + (j - 4) ** 2 + (k - 4) ** 2 > 100)
    assert effect.changed_far == 1 / beyond
    small = (slice(0, 5),) * 3
    assert click_effect(before[small], after[small], truth[small], (2, 4, 4), 1, labels).changed_far is None


def test_scores_are_of_the_files_own_voxels_in_millimetres(tmp_path):
    truth, predicted = two_blocks(), two_blocks()
    predicted[7:9, 4:12, 4:12] = 1
    case = write_case(tmp_path, "case", predicted, truth)
    row = evaluate_dataset(obedient_model(), [case], max_clicks=0)[0]
    assert row.nsd == 1
    strict = evaluate_dataset(obedient_model(), [case], max_clicks=0, tolerance=1.0)[0]
    assert strict.nsd < 1
    assert strict.dice == row.dice == dice(384, 512, 384)


@pytest.mark.parametrize(
    ("options", "windows"), [({}, 5), ({"overlap": 0.0}, 3), ({"overlap": 0.0, "skip_air": True}, 1)]
)
def test_a_volume_larger_than_a_window_is_gone_through_as_asked(tmp_path, options, windows):
    truth = np.zeros((48, 16, 16), np.uint8)
    truth[:16] = two_blocks()
    case, model, passes = write_case(tmp_path, "case", truth, truth), obedient_model(), []
    model.network.register_forward_hook(lambda network, given, answer: passes.append(len(answer)))
    rows = evaluate_dataset(model, [case], max_clicks=0, amp="off", **options)
    assert sum(passes) == windows
    assert {row.dice for row in rows} == {1}


# Starts.


def test_segmentations_of_a_folder_are_what_is_corrected(tmp_path, one_wrong):
    given = np.zeros_like(two_blocks())
    given[1:7, 4:12, 4:12] = 1
    (tmp_path / "given").mkdir()
    write_label(tmp_path / "given" / "case.nii.gz", given, Volume(given))
    rows = evaluate_dataset(obedient_model(), [one_wrong], max_clicks=1, initial=tmp_path / "given")
    assert of(rows, "left", "dice") == [1, 1]
    assert_allclose(of(rows, "right", "dice"), [0, dice(1, 1, 384)])


def test_a_case_without_an_initial_segmentation_is_a_failure(tmp_path, one_wrong):
    (tmp_path / "given").mkdir()
    with pytest.warns(UserWarning, match="case is left out: .*given: has no segmentation case.nii.gz"):
        assert evaluate_dataset(obedient_model(), [one_wrong], initial=tmp_path / "given") == []


@pytest.mark.parametrize(("lowest", "highest"), [(0.60, 0.75), (0.93, 0.96)])
def test_a_corruption_has_a_dice_in_its_range_and_depends_on_its_key_alone(lowest, highest):
    truth = two_blocks()
    found = [corrupt_to_range(truth, 3, Corruption(lowest, highest), f"0:{name}") for name in "aabcdef"]
    assert all(lowest <= mean_dice(each, truth) <= highest for each in found)
    assert_array_equal(found[0], found[1])
    assert len({each.tobytes() for each in found}) == 6
    assert_array_equal(truth, two_blocks())


def test_a_corruption_that_cannot_be_had_is_said():
    from deepedit.errors import DeepEditError

    truth = np.zeros((5, 5, 5), np.uint8)
    with pytest.raises(DeepEditError, match="empty"):
        corrupt_to_range(truth, 2, Corruption(0.6, 0.7), "key")
    truth[2, 2, 2] = 1
    with pytest.raises(DeepEditError, match=r"from 0\.9 to 0\.95"):
        corrupt_to_range(truth, 2, Corruption(0.9, 0.95), "key")
    with pytest.raises(ValueError, match=r"0\.8 to 0\.7"):
        Corruption(0.8, 0.7)


def test_corrupted_starts_depend_on_seed_and_case_but_not_on_the_company(tmp_path):
    cases = [write_case(tmp_path, name, two_blocks(), two_blocks()) for name in ("a", "b")]
    start = Corruption(0.60, 0.75)
    both = evaluate_dataset(obedient_model(), cases, max_clicks=0, initial=start)
    alone = evaluate_dataset(obedient_model(), cases[1:], max_clicks=0, initial=start)
    other = evaluate_dataset(obedient_model(), cases[1:], max_clicks=0, initial=start, seed=1)
    assert of(both, "left", "dice")[1:] == of(alone, "left", "dice")
    assert of(alone, "left", "dice") != of(other, "left", "dice")
    assert 0.60 <= summarise(alone).mean.dice[0] <= 0.75


def test_a_perfect_start_gets_one_redundant_click_in_the_largest_label(tmp_path):
    truth = two_blocks()
    truth[9:15, 4:12, 12] = 2
    case = write_case(tmp_path, "case", truth, truth)
    rows = evaluate_dataset(obedient_model(radius=2), [case], max_clicks=3, initial=Corruption(1, 1))
    assert {row.dice for row in rows} == {1}
    click = rows[2].click
    assert (click.label, click.region, rows[2].obeyed, click.replaced) == ("right", 0, True, "right")
    assert rows[2].obeyed_alone
    assert [row.click for row in rows if row.clicks > 1] == [None] * 4


def test_what_a_redundant_click_broke_is_clicked_next(tmp_path):
    case = write_case(tmp_path, "case", two_blocks(), two_blocks())
    rows = evaluate_dataset(obedient_model(radius=4), [case], max_clicks=2, initial=Corruption(1, 1))
    assert of(rows, "left", "dice")[0] == 1
    assert of(rows, "left", "dice")[1] < 1
    assert rows[-1].click.label == "background"
    assert rows[-1].clicks == 2


def test_the_redundant_click_is_deepest_in_the_largest_label():
    truth = two_blocks()
    truth[1:6, 4:9, 4:9] = 0
    voxel, label = redundant_click(truth)
    assert label == 2
    assert truth[voxel] == 2
    assert voxel == (11, 6, 6)
    assert redundant_click(np.zeros((3, 3, 3), np.uint8)) is None


# Failures.


def test_one_bad_case_is_reported_and_the_others_are_evaluated(tmp_path, one_wrong):
    damaged = write_case(tmp_path, "damaged", two_blocks(), two_blocks())
    damaged.label.write_bytes(b"not an image")
    other_grid = write_case(tmp_path, "grid", two_blocks(), two_blocks())
    write_label(other_grid.label, two_blocks()[1:], Volume(two_blocks()[1:]))
    unlabelled = Case("unlabelled", one_wrong.image)
    failures = {}
    rows = evaluate_dataset(
        obedient_model(),
        [damaged, other_grid, unlabelled, one_wrong],
        max_clicks=1,
        on_failure=lambda case, reason: failures.update({case.name: reason}),
    )
    assert {row.case for row in rows} == {"case"}
    assert list(failures) == ["damaged", "grid", "unlabelled"]
    assert "damaged.nii.gz" in failures["damaged"]
    assert "15 x 16 x 16" in failures["grid"]
    assert "no label file" in failures["unlabelled"]
    assert not any("\n" in reason for reason in failures.values())


# Summary: figures that can be checked by hand.


def rows_of(case, **curves):
    """Rows with the given Dice curves, NSD half of it, and no clicks."""
    return [
        Row(case, label, clicks, value, value / 2, None, None, 0.1)
        for label, curve in curves.items()
        for clicks, value in enumerate(curve)
    ]


def test_curves_are_means_over_cases_and_their_spread():
    summary = summarise(rows_of("a", x=[0.2, 0.6], y=[0.4, 1.0]) + rows_of("b", x=[0.4, 0.8], y=[0.8, 1.0]))
    x, y = summary.labels
    assert (summary.cases, summary.max_clicks, x.label, y.label) == (2, 1, "x", "y")
    assert_allclose(x.dice, [0.3, 0.7])
    assert_allclose(x.dice_sd, [0.1, 0.1])
    assert_allclose(x.nsd, [0.15, 0.35])
    assert_allclose(y.dice, [0.6, 1.0])
    assert_allclose(summary.mean.dice, [0.45, 0.85])
    # Each case's mean over its labels is 0.3 and 0.6.
    assert_allclose(summary.mean.dice_sd[0], 0.15)


def test_area_under_the_curve_is_that_of_clicks_0_to_5_and_1_at_best():
    area = summarise(rows_of("a", x=[0, 1, 1, 1, 1, 1, 0, 0])).mean.dice_auc
    assert_allclose(area, (0.5 + 4) / 5)
    assert_allclose(summarise(rows_of("a", x=[1] * 11)).mean.dice_auc, 1)
    assert_allclose(summarise(rows_of("a", x=[0.2, 0.4])).mean.dice_auc, 0.3)
    assert_allclose(summarise(rows_of("a", x=[0.2])).mean.dice_auc, 0.2)


def test_clicks_to_reach_a_dice_count_all_clicks_where_it_is_never_reached():
    rows = rows_of("a", x=[0.5, 0.9, 0.8, 0.96]) + rows_of("b", x=[0.86, 0.88, 0.88, 0.88])
    reach = summarise(rows).labels[0].clicks_to_reach
    assert [(each.dice, each.clicks, each.failed) for each in reach] == [(0.85, 0.5, 0), (0.9, 2, 0.5), (0.95, 3, 0.5)]


def test_background_clicks_are_summed_up_by_what_they_removed():
    def effect(label, region, left, before, after, kept=True):
        return ClickEffect(label, (0, 0, 0), kept, "x", before, after, region, left, 0.5)

    effects = [
        effect("background", 10, 5, 100, 90),
        effect("background", 10, 10, 100, 105, kept=False),
        effect("x", 7, 0, 100, 107),
        effect("background", 0, 0, 100, 100),  # redundant: nothing to remove
    ]
    rows = [
        Row("a", label, number, 1.0, 1.0, number != 2, number > 2, number / 10, click)
        for number, click in enumerate([None, *effects])
        for label in ("x", "y")
    ]
    summary = summarise(rows).clicks
    assert (summary.count, summary.obeyed, summary.kept, summary.removing) == (4, 0.75, 0.75, 2)
    assert (summary.obeyed_alone, summary.obeyed_alone_after) == (0.5, (0, 0, 1, 1))
    assert summary.removing_reduced == 0.5
    assert summary.removing_left == 0.75
    assert_allclose(summary.removing_volume, -0.025)
    assert_allclose(summary.seconds, 0.25)
    assert summary.changed_far == 0.5


def test_without_rows_or_with_some_missing_there_is_no_summary():
    with pytest.raises(ValueError, match="no case"):
        summarise([])
    with pytest.raises(ValueError, match="every case needs"):
        summarise(rows_of("a", x=[0.2, 0.4]) + rows_of("b", x=[0.2]))


def test_what_is_to_be_ignored_is_neither_clicked_nor_counted(tmp_path):
    truth = two_blocks()
    predicted = truth.copy()
    predicted[3, 8, 8:10] = 0
    predicted[8, 1, 1] = 2
    truth[3, 8, 8:10] = 9
    case = write_case(tmp_path, "case", predicted, truth)
    for model, options in (
        (obedient_model(), {"ignore": 9}),
        (replace(obedient_model(), plan=replace(obedient_model().plan, ignore=9)), {}),
    ):
        rows = evaluate_dataset(model, [case], max_clicks=2, **options)
        assert of(rows, "left", "dice") == [1, 1, 1]
        assert_allclose(of(rows, "right", "dice"), [dice(384, 385, 384), 1, 1])
        assert [click and click.voxel for click in of(rows, "left", "click")] == [None, (8, 1, 1), None]
    # Without it, 9 is background, and the right answer an error.
    assert of(evaluate_dataset(obedient_model(), [case], max_clicks=0), "left", "dice")[0] == 1
    assert of(evaluate_dataset(obedient_model(), [case], 1, Corruption(1, 1), ignore=9), "left", "dice") == [1, 1]
