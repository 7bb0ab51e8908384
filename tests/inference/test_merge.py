"""What an answer may change."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deepedit.clicks import Clicks
from deepedit.inference.merge import agreement, keep_locked, merge, rim_weight, to_keep
from deepedit.plan import MergePolicy
from tests.clicks.oracles import random_reach, slow_within_reach

POLICY = MergePolicy()


def slow_large_errors(initial, clicks, sample):
    """Whether of more than one in five clicks of a sample neither the voxel nor one beside it has the label."""
    shape, inside = initial.shape[1:], []
    rows = (each.tolist() for each in (clicks.batch, clicks.label, clicks.position, clicks.valid))
    for batch, label, position, valid in zip(*rows, strict=True):
        if batch == sample and valid and all(0 <= at < side for at, side in zip(position, shape, strict=True)):
            beside = [at for at in np.ndindex(*shape) if np.abs(np.subtract(at, position)).sum() <= 1]
            inside.append(all(initial[sample][at] != label for at in beside))
    return 5 * sum(inside) > len(inside)


@given(st.integers(0, 2**32), st.integers(0, 12))
@settings(max_examples=40, deadline=None)
def test_an_answer_counts_everywhere_only_if_clicks_are_inside_of_errors(seed, count):
    generator = torch.Generator().manual_seed(seed)
    shape = (4, 3, 5)
    # Few voxels differ from their neighbours, so that clicks of both kinds occur.
    initial = (torch.rand(2, *shape, generator=generator) < 0.1).to(torch.uint8)
    before, answer = torch.zeros(2, 2, *shape), torch.full((2, 2, *shape), 9.0)
    position = torch.stack([torch.randint(-1, side + 1, (2 * count,), generator=generator) for side in shape], dim=1)
    label, valid = torch.randint(0, 2, (2, 2 * count), generator=generator)
    clicks = Clicks(torch.arange(2).repeat_interleave(count), label, position, valid.bool())
    # Any agreement counts as none.
    policy = dataclasses.replace(POLICY, enforce=False, agreement=(8.0, 9.0), reach=1e-3, softness=1e-3)
    merged = merge(before, answer, clicks, torch.ones(2 * count, dtype=torch.bool), policy, initial=initial)
    for sample in range(2):
        near = {
            tuple(at)
            for at, of, ok in zip(position.tolist(), clicks.batch, clicks.valid, strict=True)
            if ok and of == sample
        }
        for at in np.ndindex(shape):
            if not near:
                continue
            everywhere = slow_large_errors(initial, clicks, sample)
            assert bool(merged[sample, 0][at] > 1) is (everywhere or at in near)


@pytest.mark.parametrize("fading", [True, False])
def test_an_answer_replaces_what_was_there_but_for_the_rim(fading):
    generator = torch.Generator().manual_seed(0)
    shape = (6, 5, 4)
    before, answer = torch.randn(2, 3, 2, *shape, generator=generator)
    before = before.half()
    position, newest, _ = random_reach(0, 3, 4)
    clicks = Clicks(torch.arange(3).repeat_interleave(4), torch.zeros(12), position.flatten(0, 1))
    rim = torch.rand(shape, generator=generator) if fading else torch.ones(shape)
    policy = dataclasses.replace(POLICY, enforce=False)
    merged = merge(before, answer, clicks, newest.flatten(), policy, rim=rim if fading else None)
    torch.testing.assert_close(merged, before.float() + rim * (answer - before.float()), atol=1e-5, rtol=0)


@pytest.mark.parametrize("fading", [True, False])
@pytest.mark.parametrize("edited", [None, [True, False, True]])
def test_where_an_initial_segmentation_is_corrected_it_counts_near_the_newest_clicks(fading, edited):
    """In the second sample all clicks are on the border of their label; in the others some are inside of errors."""
    generator = torch.Generator().manual_seed(0)
    shape = (6, 5, 4)
    before = torch.randn(3, 3, *shape, generator=generator).half()
    answer = before + 0.3 * torch.randn(3, 3, *shape, generator=generator)
    initial = before.argmax(1)
    initial[0].masked_fill_(initial[0] == 2, 1)
    initial[2] = answer[2].argmax(0) == 0  # the network agrees with the first two, and not with the last
    position, valid, _ = random_reach(0, 3, 4)
    _, newest, _ = random_reach(1, 3, 4)
    position[:, 0] %= torch.tensor(shape)
    valid[:, 0] = True
    labels = torch.tensor([2, 0, 2]).repeat_interleave(4)
    clicks = Clicks(torch.arange(3).repeat_interleave(4), labels, position.flatten(0, 1), valid.flatten())
    assert [slow_large_errors(initial, clicks, sample) for sample in range(3)] == [True, False, True]
    rim = torch.rand(shape, generator=generator) if fading else None
    policy = dataclasses.replace(POLICY, enforce=False, agreement=(0.2, 1.9))
    chosen = None if edited is None else torch.tensor(edited)
    merged = merge(before, answer, clicks, newest.flatten(), policy, rim=rim, initial=initial, edited=chosen)
    lowest, highest = policy.agreement
    trust = ((agreement(initial, answer) - lowest) / (highest - lowest)).clamp(0, 1).tolist()
    assert 0 < trust[0] < 1
    assert trust[2] == 0
    reach = [policy.reach / trust[0], policy.reach, math.inf]
    reach = [each if began else math.inf for each, began in zip(reach, edited or [True] * 3, strict=True)]
    weight = slow_within_reach(position.numpy(), (valid & newest).numpy(), reach, shape, policy.softness)
    weight = torch.as_tensor(weight * (1 if rim is None else rim.numpy()), dtype=torch.float32)
    expected = before.float() + weight[:, None] * (answer - before.float())
    torch.testing.assert_close(merged, expected, atol=1e-4, rtol=0)


def test_what_a_pass_without_clicks_shows_is_the_answer():
    before, answer = torch.randn(2, 2, 3, 6, 6, 6, generator=torch.Generator().manual_seed(0))
    none = torch.zeros(0, dtype=torch.bool)
    merged = merge(before, answer, Clicks.empty(), none, POLICY)
    assert torch.equal(merged, answer)
    assert torch.equal(merge(before, answer, Clicks.empty(), none, MergePolicy.plain()), answer)


def test_a_first_answer_replaces_what_was_there_and_nothing_else_is_touched():
    generator = torch.Generator().manual_seed(0)
    before, answer = torch.randn(2, 1, 3, 6, 6, 6, generator=generator)
    kept = before.clone(), answer.clone()
    label = int(answer[0, :, 2, 3, 4].argmax())
    answer[0, label, 2, 3, 4] += 1
    kept[1].copy_(answer)
    merged = merge(before, answer, Clicks([0], [label], [[2, 3, 4]]), torch.tensor([True]), POLICY)
    torch.testing.assert_close(merged, answer)
    assert torch.equal(before, kept[0])
    assert torch.equal(answer, kept[1])


@pytest.mark.parametrize("enforce", [True, False])
def test_a_clicked_voxel_takes_its_label_if_the_policy_says_so(enforce):
    before = answer = torch.stack([torch.full((5, 5, 5), 4.0), torch.zeros(5, 5, 5)])[None]
    policy = dataclasses.replace(POLICY, enforce=enforce)
    merged = merge(before, answer, Clicks([0], [1], [[2, 2, 2]]), torch.tensor([True]), policy)
    assert bool(merged.argmax(1)[0, 2, 2, 2] == 1) is enforce


def test_the_plain_policy_shows_the_answer():
    generator = torch.Generator().manual_seed(0)
    before, answer = torch.randn(2, 1, 3, 6, 6, 6, generator=generator)
    clicks = Clicks([0, 0], [1, 2], [[0, 0, 0], [5, 5, 5]])
    merged = merge(before, answer, clicks, torch.tensor([False, True]), MergePolicy.plain())
    assert torch.equal(merged, answer)


def test_an_initial_segmentation_is_kept_far_from_the_click_as_long_as_the_network_agrees_with_it():
    initial = torch.zeros(1, 40, 12, 12, dtype=torch.uint8)
    initial[:, 2:38, 2:10, 2:10] = 1
    before = 8.0 * (torch.nn.functional.one_hot(initial.long(), 2).movedim(-1, 1) - 0.5)

    def after(answered):
        answer = 8.0 * (torch.nn.functional.one_hot(answered.long(), 2).movedim(-1, 1) - 0.5)
        click = Clicks([0], [0], [[5, 6, 6]])
        return merge(before, answer, click, torch.tensor([True]), POLICY, initial=initial).argmax(1)

    nearly = initial.clone()
    nearly[:, :4] = nearly[:, 36:] = 0
    merged = after(nearly)
    assert (merged[:, 2:4, 4:9, 4:9] == 0).all()  # near the click the answer counts
    assert (merged[:, 36:38, 2:10, 2:10] == 1).all()  # far away the initial segmentation does
    other = torch.zeros_like(initial)
    other[:, 30:, :, 6:] = 1
    assert torch.equal(after(other), other)  # with one that is found all wrong the network has its way


def foreground_dice(one, other):
    """Voxels of different labels count as different."""
    return 2 * ((one == other) & (one > 0)).sum().item() / ((one > 0).sum() + (other > 0).sum()).item()


@pytest.mark.parametrize("scale", [0.5, 2, 100])
def test_agreement_is_a_share_of_that_with_a_truth_drawn_by_the_probabilities(scale):
    generator = torch.Generator().manual_seed(0)
    answer = scale * torch.randn(2, 3, 20, 20, 20, generator=generator)
    initial = torch.randint(0, 3, (2, 20, 20, 20), generator=generator)
    found = agreement(initial, answer)
    for sample in range(2):
        classes, probabilities = answer[sample].argmax(0), answer[sample].softmax(0)
        truth = torch.multinomial(probabilities.movedim(0, -1).reshape(-1, 3), 1, generator=generator)
        share = foreground_dice(initial[sample], classes) / foreground_dice(truth.view(classes.shape), classes)
        assert found[sample].item() == pytest.approx(share, rel=0.03)


@pytest.mark.parametrize("value", [0, 1])
def test_an_answer_without_foreground_replaces_an_initial_segmentation(value):
    answer = torch.zeros(1, 2, 20, 4, 4)
    answer[:, 0] = 200
    initial = torch.full((1, 20, 4, 4), value)
    click = Clicks([0], [1 - value], [[0, 0, 0]])
    policy = dataclasses.replace(POLICY, enforce=False)
    merged = merge(torch.zeros_like(answer), answer, click, torch.tensor([True]), policy, initial=initial)
    assert torch.equal(merged, answer)


@given(st.integers(0, 2**32), st.integers(2, 5))
@settings(max_examples=30, deadline=None)
def test_locked_voxels_keep_their_class_and_no_other_takes_it(seed, classes):
    generator = torch.Generator().manual_seed(seed)
    logits = 5 * torch.randn(2, classes, 5, 4, 3, generator=generator)
    # A locked class has all of its voxels locked, or it could not be shown elsewhere.
    locked = torch.randint(0, classes, (2, 5, 4, 3), generator=generator)
    # The voxels of a class that is locked may also all be elsewhere.
    closed = {*(locked[locked > 0].unique() - 1).tolist(), 0}
    kept = keep_locked(logits.clone(), locked, closed, POLICY.margin)
    decided = kept.argmax(1)
    assert torch.equal(decided[locked > 0], locked[locked > 0] - 1)
    assert not closed & set(decided[locked == 0].tolist())


def test_where_all_classes_are_locked_free_voxels_stay_as_they_are():
    logits = torch.randn(1, 2, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    locked = torch.zeros(1, 4, 4, 4, dtype=torch.uint8)
    assert torch.equal(keep_locked(logits.clone(), locked, {0, 1}, 0.1), logits)


def test_where_nothing_is_locked_nothing_changes():
    logits = torch.randn(1, 3, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(keep_locked(logits.clone(), torch.zeros(1, 4, 4, 4, dtype=torch.uint8), (), 0.1), logits)


def test_logits_that_float16_cannot_hold_are_kept_as_its_largest():
    logits = torch.tensor([1e9, 65504.0, 70000.0, math.inf, -math.inf, -1e6, 0.1, 1e-9])
    kept = to_keep(logits)
    assert kept.dtype == torch.float16
    assert kept.tolist() == [65504.0] * 4 + [-65504.0] * 2 + [torch.tensor(0.1).half().item(), 0.0]


def test_a_single_answer_fades_towards_rims_inside_of_the_volume_only():
    weight = rim_weight((slice(0, 16), slice(8, 24), slice(4, 20)), (40, 24, 40))
    assert weight[8, 8, 8] == 1
    assert weight[0, 8, 8] == 1  # the volume's own rim
    assert weight[8, 15, 8] == 1
    for rim in (weight[15, 8, 8], weight[8, 0, 8], weight[8, 8, 0], weight[8, 8, 15]):
        assert 0 < rim <= 0.25
