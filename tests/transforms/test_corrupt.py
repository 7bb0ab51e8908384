import numpy as np
import pytest
import torch

from deepedit.transforms.corrupt import corrupt_segmentation, redraw_borders


def label_map(dtype=torch.uint8):
    """``[20, 24, 16]``: two blocks beside each other."""
    label = torch.zeros((20, 24, 16), dtype=dtype)
    label[4:16, 4:12, 4:12] = 1
    label[4:16, 12:20, 4:12] = 2
    return label


def corrupted(severity, seed=0, label=None):
    label = label_map() if label is None else label
    return corrupt_segmentation(label, 3, severity, torch.Generator().manual_seed(seed))


def wrong_share(severity, seed):
    label = label_map()
    return float((corrupted(severity, seed) != label).sum() / (label > 0).sum())


def test_severity_0_changes_nothing_and_returns_a_copy():
    label = label_map()
    result = corrupted(0.0, label=label)
    assert torch.equal(result, label)
    assert result.data_ptr() != label.data_ptr()


def test_the_truth_itself_is_left_alone():
    label = label_map()
    corrupted(1.0, label=label)
    assert torch.equal(label, label_map())


@pytest.mark.parametrize("seed", range(20))
def test_shape_type_and_classes_stay(seed):
    for dtype in (torch.uint8, torch.int16, torch.int64):
        result = corrupted(0.8, seed, label_map(dtype))
        assert (result.shape, result.dtype) == (label_map().shape, dtype)
        assert set(result.unique().tolist()) <= {0, 1, 2}


def test_more_severity_is_more_wrong_in_the_mean():
    shares = [np.mean([wrong_share(severity, seed) for seed in range(40)]) for severity in (0.1, 0.3, 0.6, 1.0)]
    assert shares == sorted(shares)
    assert shares[0] < 0.2
    assert shares[-1] > 0.4


def test_what_goes_wrong_depends_on_the_generator_alone():
    assert torch.equal(corrupted(0.7, 3), corrupted(0.7, 3))
    different = {corrupted(0.7, seed).numpy().tobytes() for seed in range(10)}
    assert len(different) > 8


def test_the_generator_moves_on_alike_for_every_severity_and_content():
    draws = []
    for severity, label in [(0.0, label_map()), (1.0, label_map()), (0.5, torch.zeros(4, 5, 6, dtype=torch.uint8))]:
        generator = torch.Generator().manual_seed(0)
        corrupt_segmentation(label, 3, severity, generator)
        draws.append(torch.rand((), generator=generator).item())
    assert len(set(draws)) == 1


def test_labels_grow_shrink_and_are_taken_for_another():
    label = label_map()
    results = [corrupted(0.7, seed) for seed in range(40)]
    volumes = torch.tensor([[(result == index).sum() for index in (1, 2)] for result in results])
    truth = torch.tensor([(label == index).sum() for index in (1, 2)])
    assert (volumes > truth).any()
    assert (volumes < truth).any()
    assert any(((result > 0) & (label > 0) & (result != label)).any() for result in results)


def test_an_empty_map_and_one_without_known_labels_stay_as_they_are():
    empty = torch.zeros((4, 5, 6), dtype=torch.uint8)
    assert torch.equal(corrupted(1.0, label=empty), empty)
    beyond = torch.full((4, 5, 6), 7, dtype=torch.uint8)
    assert torch.equal(corrupted(1.0, label=beyond), beyond)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 9, 9), (30, 2, 3)])
def test_thin_volumes_are_no_trouble(shape):
    label = torch.ones(shape, dtype=torch.uint8)
    for seed in range(10):
        assert corrupted(1.0, seed, label).shape == shape


def redrawn(seed=0, label=None):
    return redraw_borders(label_map() if label is None else label, 3, torch.Generator().manual_seed(seed))


def border_of(label):
    """Mean place along the second axis where label 1 ends and label 2 begins, in the middle of both blocks."""
    return float((label[6:14, :, 6:10] == 1).sum(1).float().mean())


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int64])
def test_another_hand_keeps_shape_type_classes_and_the_truth_itself(dtype):
    label = label_map(dtype)
    for seed in range(10):
        result = redrawn(seed, label)
        assert (result.shape, result.dtype) == (label.shape, dtype)
        assert set(result.unique().tolist()) == {0, 1, 2}
    assert torch.equal(label, label_map(dtype))


def test_another_hand_moves_borders_between_labels_and_hardly_the_surface():
    results = [redrawn(seed) for seed in range(40)]
    truth = label_map() > 0
    surface = np.mean([float((truth != (result > 0)).sum() / truth.sum()) for result in results])
    shifts = np.array([border_of(result) - border_of(label_map()) for result in results])
    assert 0 < surface < 0.1
    assert 1 < shifts.std() < 3
    assert abs(shifts.mean()) < 3 * shifts.std() / len(shifts) ** 0.5


def test_a_border_along_slices_moves_to_another_slice_and_stays_there_up_to_the_surface():
    # A slanting tube, the labels of which meet between two slices.
    x, y, z = torch.meshgrid(*map(torch.arange, (24, 30, 20)), indexing="ij")
    tube = (x - 6 - y // 3) ** 2 + (z - 9) ** 2 <= 25

    def cut_at(slice_):
        return torch.where(tube, 1 + (y >= slice_), 0).to(torch.uint8)

    for axis in range(3):
        label = cut_at(15).movedim(1, axis)
        as_good = [cut_at(slice_).movedim(1, axis) for slice_ in range(8, 23)]
        results = [redrawn(seed, label) for seed in range(30)]
        unbent = [result for result in results if torch.equal(result > 0, label > 0)]
        assert 8 <= len(unbent) <= 26
        found = [[torch.equal(result, each) for each in as_good].index(True) for result in unbent]
        assert len(set(found)) > 3


def test_a_surface_is_bent_as_little_where_no_label_borders_on_another():
    ball = (label_map() > 0).to(torch.uint8)
    shares = [float((redrawn(seed, ball) != ball).sum() / ball.sum()) for seed in range(40)]
    assert 0 < np.mean(shares) < 0.1
    assert max(shares) < 0.25


def test_another_hand_depends_on_the_generator_alone_and_moves_it_on_alike():
    assert torch.equal(redrawn(3), redrawn(3))
    assert len({redrawn(seed).numpy().tobytes() for seed in range(40)}) > 10
    draws = []
    for label in (label_map(), torch.zeros(4, 5, 6, dtype=torch.uint8)):
        generator = torch.Generator().manual_seed(0)
        redraw_borders(label, 3, generator)
        draws.append(torch.rand((), generator=generator).item())
    assert len(set(draws)) == 1


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 9, 9), (30, 2, 3)])
@pytest.mark.parametrize("value", [0, 1, 7])
def test_another_hand_takes_any_map(shape, value):
    label = torch.full(shape, value, dtype=torch.uint8)
    for seed in range(5):
        assert torch.equal(redrawn(seed, label), label)
    label[0, 0, 0] = 1
    assert redrawn(0, label).shape == shape
