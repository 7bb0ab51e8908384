"""Augmentation: image and label move together, a sample's changes are its own, and nothing happens unasked."""

import dataclasses

import pytest
import torch

from deepedit.transforms.augment import Augmentation, augment

STILL = Augmentation(spatial_probability=0.0, intensity_probability=0.0)


def generators(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def volume(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("source", [(12, 10, 8), (13, 10, 9), (16, 14, 12)])
def test_without_changes_the_middle_is_cut_out(source):
    shape = (12, 10, 8)
    image, label = volume(2, 1, *source), (volume(2, *source) * 3).byte()
    moved, classes = augment(image, label, shape, STILL, generators(0, 1))
    start = [(n - m) // 2 for n, m in zip(source, shape, strict=True)]
    middle = tuple(slice(a, a + m) for a, m in zip(start, shape, strict=True))
    torch.testing.assert_close(moved, image[(..., *middle)], atol=1e-4, rtol=0)
    assert torch.equal(classes, label[(slice(None), *middle)])
    assert classes.dtype == label.dtype


def test_image_and_label_move_together():
    label = torch.zeros(4, 24, 24, 24, dtype=torch.uint8)
    label[:, 6:16, 8:18, 7:15] = 1
    settings = dataclasses.replace(STILL, spatial_probability=1.0)
    image, classes = augment(label[:, None].float(), label, (24, 24, 24), settings, generators(0, 1, 2, 3))
    agreement = ((image[:, 0] > 0.5) == (classes == 1)).float().mean((1, 2, 3))
    assert (agreement > 0.98).all()
    assert all(not torch.equal(classes[i], label[i]) for i in range(4))


def test_scaling_changes_the_size_within_its_range():
    label = torch.zeros(1, 32, 32, 32, dtype=torch.uint8)
    label[:, 11:21, 11:21, 11:21] = 1
    for seed in range(20):
        settings = dataclasses.replace(STILL, spatial_probability=1.0, rotation=0.0, shift=0.0, scaling=(0.8, 1.25))
        _, classes = augment(label[:, None].float(), label, (32, 32, 32), settings, generators(seed))
        assert 0.8**3 * 0.75 < classes.sum() / 1000 < 1.25**3 * 1.25


def test_flips_happen_along_the_axes_asked_for_only():
    image, label = volume(1, 1, 6, 6, 6), torch.zeros(1, 6, 6, 6, dtype=torch.uint8)
    seen = set()
    for seed in range(40):
        settings = dataclasses.replace(STILL, flip_axes=(1,))
        moved, _ = augment(image, label, (6, 6, 6), settings, generators(seed))
        flipped = torch.allclose(moved, image.flip(3), atol=1e-5)
        assert flipped or torch.allclose(moved, image, atol=1e-5)
        seen.add(flipped)
    assert seen == {True, False}


def test_a_sample_is_changed_as_if_it_were_alone():
    image, label = volume(3, 2, 10, 10, 10), (volume(3, 10, 10, 10) * 3).byte()
    together = augment(image, label, (8, 8, 8), Augmentation(), generators(7, 8, 9))
    alone = augment(image[1:2], label[1:2], (8, 8, 8), Augmentation(), generators(8))
    assert torch.equal(together[0][1], alone[0][0])
    assert torch.equal(together[1][1], alone[1][0])


def test_intensities_change_and_labels_stay():
    image, label = volume(1, 1, 8, 8, 8), (volume(1, 8, 8, 8) * 3).byte()
    settings = dataclasses.replace(STILL, intensity_probability=1.0)
    changed, classes = augment(image, label, (8, 8, 8), settings, generators(3))
    assert not torch.allclose(changed, image, atol=1e-2)
    assert torch.equal(classes, label)


@pytest.mark.parametrize("value", [0.0, -3.0, 1e6])
def test_a_constant_image_stays_finite(value):
    image = torch.full((1, 1, 8, 8, 8), value)
    label = torch.zeros(1, 8, 8, 8, dtype=torch.uint8)
    settings = Augmentation(spatial_probability=1.0, intensity_probability=1.0)
    for seed in range(10):
        changed, _ = augment(image, label, (8, 8, 8), settings, generators(seed))
        assert torch.isfinite(changed).all()


def test_the_global_random_state_is_left_alone():
    before = torch.random.get_rng_state()
    augment(volume(1, 1, 8, 8, 8), torch.zeros(1, 8, 8, 8, dtype=torch.uint8), (8, 8, 8), Augmentation(), generators(0))
    assert torch.equal(before, torch.random.get_rng_state())
