"""The loss against written-out sums, and what each of its parts is for."""

import math

import pytest
import torch

from deepedit.training.losses import segmentation_loss, soft_dice


def confident(target, classes, certainty=20.0):
    one_hot = torch.nn.functional.one_hot(target.long(), classes).movedim(-1, 1).float()
    return certainty * one_hot


def test_soft_dice_equals_the_sum_written_out():
    generator = torch.Generator().manual_seed(0)
    probabilities = torch.rand(2, 3, 2, 3, 2, generator=generator).softmax(1)
    target = torch.randint(0, 3, (2, 2, 3, 2), generator=generator)
    result = soft_dice(probabilities, target, eps=1.0)
    for sample in range(2):
        for label in (1, 2):
            overlap = total = 0.0
            for voxel in torch.cartesian_prod(torch.arange(2), torch.arange(3), torch.arange(2)).tolist():
                p = probabilities[(sample, label, *voxel)].item()
                t = float(target[(sample, *voxel)] == label)
                overlap += p * t
                total += p + t
            assert result[sample, label - 1].item() == pytest.approx((2 * overlap + 1) / (total + 1), rel=1e-5)


def test_a_perfect_answer_costs_nothing_and_an_absent_class_is_no_loss():
    target = torch.zeros(1, 4, 4, 4, dtype=torch.uint8)
    target[0, :2] = 1
    loss = segmentation_loss(confident(target, 3), target, torch.zeros(1, 4, 4, 4), 0.5)
    assert loss.item() < 1e-4


def test_an_error_costs_more_near_a_click_than_far_from_it():
    target = torch.zeros(2, 8, 8, 8, dtype=torch.uint8)
    target[:, 4:] = 1
    answer = confident(target, 2, 4.0)
    answer[:, :, 0, 0, 0] = answer[:, :, 0, 0, 0].flip(1)
    nearness = torch.zeros(2, 8, 8, 8)
    nearness[0, 0, 0, 0], nearness[1, 7, 7, 7] = 1, 1
    near, far = segmentation_loss(answer, target, nearness, 0.5).tolist()
    assert near > far + 1


def test_without_clicks_the_loss_is_dice_and_cross_entropy():
    target = torch.zeros(1, 2, 2, 2, dtype=torch.uint8)
    logits = torch.zeros(1, 2, 2, 2, 2)
    loss = segmentation_loss(logits, target, torch.zeros(1, 2, 2, 2), 100.0)
    assert loss.item() == pytest.approx(1 - 1 / (8 * 0.5 + 1) + math.log(2), rel=1e-5)


def test_half_precision_logits_give_a_finite_loss():
    target = torch.ones(1, 4, 4, 4, dtype=torch.uint8)
    logits = torch.full((1, 2, 4, 4, 4), 300.0, dtype=torch.float16)
    assert torch.isfinite(segmentation_loss(logits, target, torch.ones(1, 4, 4, 4), 1.0)).all()


def test_voxels_to_ignore_cost_nothing_and_teach_nothing():
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(0, 3, (2, 4, 5, 6), generator=generator)
    logits = torch.randn(2, 3, 4, 5, 6, generator=generator, requires_grad=True)
    nearness = torch.rand(2, 4, 5, 6, generator=generator)
    # The last slices are not known: all is as if they were not there.
    expected = segmentation_loss(logits[..., :4], target[..., :4], nearness[..., :4], 0.7)
    target[..., 4:] = 3
    loss = segmentation_loss(logits, target, nearness, 0.7, ignoring=True)
    torch.testing.assert_close(loss, expected)
    loss.sum().backward()
    assert logits.grad[..., 4:].abs().max() == 0
    assert logits.grad[..., :4].abs().min() > 0


def test_where_every_voxel_is_known_ignoring_changes_nothing():
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(0, 3, (2, 4, 5, 6), generator=generator)
    logits, nearness = torch.randn(2, 3, 4, 5, 6, generator=generator), torch.rand(2, 4, 5, 6, generator=generator)
    expected = segmentation_loss(logits, target, nearness, 0.7)
    torch.testing.assert_close(segmentation_loss(logits, target, nearness, 0.7, ignoring=True), expected)


def test_a_patch_of_which_nothing_is_known_gives_a_finite_loss():
    target = torch.full((1, 4, 4, 4), 2, dtype=torch.uint8)
    loss = segmentation_loss(torch.randn(1, 2, 4, 4, 4), target, torch.zeros(1, 4, 4, 4), 1.0, ignoring=True)
    assert loss.item() == pytest.approx(0)
