"""Augmentation: image and label move together, a sample's changes are its own, and nothing happens unasked."""

import dataclasses

import pytest
import torch

from deepedit.transforms.augment import augment
from deepedit.transforms.augmentation import Augmentation

STILL = Augmentation(spatial_probability=0.0, rotation_probability=0.0, intensity_probability=0.0)


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
    settings = dataclasses.replace(STILL, spatial_probability=1.0, rotation_probability=1.0)
    image, classes = augment(label[:, None].float(), label, (24, 24, 24), settings, generators(0, 1, 2, 3))
    agreement = ((image[:, 0] > 0.5) == (classes == 1)).float().mean((1, 2, 3))
    assert (agreement > 0.98).all()
    assert all(not torch.equal(classes[i], label[i]) for i in range(4))


def test_scaling_changes_the_size_along_each_axis_by_itself_within_its_range():
    label = torch.zeros(1, 60, 60, 60, dtype=torch.uint8)
    label[:, 20:40, 20:40, 20:40] = 1
    settings = dataclasses.replace(STILL, spatial_probability=1.0, shift=0.0, scaling=(0.8, 1.25))
    sizes = []
    for seed in range(20):
        _, classes = augment(label[:, None].float(), label, (60, 60, 60), settings, generators(seed))
        voxels = classes[0].nonzero()
        sizes.append((voxels.amax(0) - voxels.amin(0) + 1).tolist())
        assert classes.sum() == torch.tensor(sizes[-1]).prod()
    assert min(map(min, sizes)) in range(15, 19)
    assert max(map(max, sizes)) in range(22, 27)
    assert sum(len(set(each)) == 3 for each in sizes) > 5


def test_a_border_along_slices_lies_along_slices_where_nothing_turns():
    label = (volume(1, 16, 20, 14) > 0.3).byte()
    label[:, :, 9:] *= 2
    settings = dataclasses.replace(Augmentation(), rotation_probability=0.0)
    for seed in range(20):
        _, classes = augment(label[:, None].float(), label, (12, 16, 10), settings, generators(seed))
        assert not ((classes == 1).any(3).any(1) & (classes == 2).any(3).any(1)).any()


def test_as_many_samples_turn_as_asked_for():
    label = torch.zeros(1, 20, 20, 20, dtype=torch.uint8)
    label[:, 5:15, 5:15, 5:15] = 1
    settings = dataclasses.replace(STILL, rotation_probability=0.2)
    turned = [
        not torch.equal(augment(label[:, None].float(), label, (20, 20, 20), settings, generators(seed))[1], label)
        for seed in range(200)
    ]
    assert 25 <= sum(turned) <= 55


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
