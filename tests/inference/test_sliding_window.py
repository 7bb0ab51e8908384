import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from deepedit.clicks import Clicks, render_guidance
from deepedit.inference import sliding_window as module
from deepedit.inference.sliding_window import (
    crop,
    cut,
    gaussian_weight,
    sliding_window,
    window_around,
    window_shape,
    window_starts,
)
from deepedit.network.inputs import assemble_input
from deepedit.plan import Labels
from tests.inference.networks import plan, pointwise_model, random_model

shapes = st.tuples(*[st.integers(1, 40)] * 3)
windows = st.tuples(*[st.integers(1, 17)] * 3)


def seeded(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def whole_pass(model, image, clicks=None, previous=None):
    shape = image.shape[1:]
    clicks = Clicks.empty() if clicks is None else clicks
    guidance = render_guidance(clicks, shape, model.plan.labels.num_classes, sigma=model.plan.sigma)
    previous = torch.zeros(shape, dtype=torch.uint8) if previous is None else previous
    with torch.no_grad():
        return model.network(assemble_input(image[None], guidance, previous[None]))[0]


def test_a_volume_of_one_window_gets_the_networks_own_answer():
    model, image = random_model(), seeded(1, 16, 12, 16)
    assert torch.equal(sliding_window(model, image, amp="off"), whole_pass(model, image))


def test_a_volume_smaller_than_the_network_allows_is_padded_with_zeros_around_it():
    model, image = random_model(), seeded(1, 14, 11, 16)
    padded = F.pad(image, (0, 0, 1, 0, 1, 1))
    expected = whole_pass(model, padded)[:, 1:-1, 1:]
    assert torch.equal(sliding_window(model, image, amp="off"), expected)


def test_test_time_augmentation_is_the_mean_with_an_answer_from_a_voxel_further_on():
    model, shape = random_model(), (16, 12, 16)
    image, previous = seeded(1, *shape), (seeded(*shape) > 0).to(torch.uint8)
    place = torch.tensor([[10, 4, 15], [3, 2, 9]])
    expected = whole_pass(model, image, Clicks([0, 0], [1, 0], place), previous)
    moved = [F.pad(tensor, (-1, 1) * 3) for tensor in (image, previous)]
    second = whole_pass(model, moved[0], Clicks([0, 0], [1, 0], place - 1), moved[1])
    expected[:, 1:, 1:, 1:] = (expected[:, 1:, 1:, 1:] + second[:, :-1, :-1, :-1]) / 2
    result = sliding_window(model, image, Clicks([0, 0], [1, 0], place), previous, amp="off", tta=True)
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-5)


def test_both_answers_at_once_give_what_one_after_another_gives(monkeypatch):
    model, image = random_model(), seeded(1, 14, 11, 16)
    clicks = Clicks([0, 0], [1, 0], [[10, 4, 15], [3, 2, 9]])
    expected = sliding_window(model, image, clicks, amp="off", tta=True)
    model, passes = counted(model)
    monkeypatch.setattr(module, "windows_at_once", lambda window, plan, device: 4)
    torch.testing.assert_close(
        sliding_window(model, image, clicks, amp="off", tta=True), expected, rtol=1e-4, atol=1e-5
    )
    assert len(passes) == 1


@given(st.tuples(*[st.integers(1, 12)] * 3), st.data())
@settings(max_examples=30, deadline=None)
def test_the_second_answer_leaves_no_trace_where_a_network_looks_at_single_voxels(shape, data):
    model, image = pointwise_model(patch=(12, 12, 12)), seeded(1, *shape)
    voxel = [data.draw(st.integers(0, side - 1)) for side in shape]
    clicks, previous = Clicks([0], [1], [voxel]), (seeded(*shape) > 0).to(torch.uint8)
    result = sliding_window(model, image, clicks, previous, amp="off", tta=True)
    torch.testing.assert_close(result, whole_pass(model, image, clicks, previous), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("overlap", [0.0, 0.5, 0.8])
@pytest.mark.parametrize("channels", [1, 3])
def test_windows_leave_no_trace_where_a_network_looks_at_single_voxels(channels, overlap):
    model, image = pointwise_model(channels, patch=(8, 8, 8)), seeded(channels, 21, 8, 30)
    clicks = Clicks(torch.zeros(2), torch.tensor([1, 0]), torch.tensor([[10, 4, 15], [3, 2, 29]]))
    previous = (seeded(21, 8, 30) > 0).to(torch.uint8)
    result = sliding_window(model, image, clicks, previous, overlap, amp="off")
    torch.testing.assert_close(result, whole_pass(model, image, clicks, previous), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("skip_air", [False, True])
def test_several_windows_at_once_give_what_one_after_another_gives(monkeypatch, skip_air):
    model, image = random_model(), seeded(1, 40, 16, 30)
    clicks = Clicks(torch.zeros(2), torch.tensor([1, 0]), torch.tensor([[10, 4, 15], [30, 2, 29]]))
    previous = (seeded(40, 16, 30) > 0).to(torch.uint8)
    expected = sliding_window(model, image, clicks, previous, amp="off", skip_air=skip_air)
    model, passes = counted(model)
    monkeypatch.setattr(module, "windows_at_once", lambda window, plan, device: 4)
    result = sliding_window(model, image, clicks, previous, amp="off", skip_air=skip_air)
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-5)
    starts = list(window_starts((40, 16, 30), window_shape((40, 16, 30), model.plan.patch_size, (4, 4, 4))))
    assert len(passes) == -(-len(starts) // 4)


@pytest.mark.parametrize(
    ("side", "labels", "device", "count"),
    [(64, 4, "cuda", 8), (128, 4, "cuda", 2), (200, 4, "cuda", 2), (64, 100, "cuda", 2), (8, 4, "cpu", 1)],
)
def test_a_gpu_takes_as_many_windows_at_once_as_fill_it_and_a_cpu_one(side, labels, device, count):
    labels = Labels(tuple(f"label_{value}" for value in range(1, labels + 1)), tuple(range(1, labels + 1)))
    assert module.windows_at_once((side,) * 3, plan(labels=labels), torch.device(device)) == count


@given(shapes, windows, st.floats(0, 0.9))
@settings(max_examples=60, deadline=None)
def test_windows_cover_every_voxel_and_overlap_as_asked(shape, window, overlap):
    covered = np.zeros(shape, bool)
    starts = list(window_starts(shape, window, overlap))
    for start in starts:
        for first, side, size in zip(start, window, shape, strict=True):
            assert (first >= 0 and first + side <= size) or side > size
        covered[tuple(slice(max(a, 0), a + side) for a, side in zip(start, window, strict=True))] = True
    assert covered.all()
    for axis, side in enumerate(window):
        steps = np.diff(sorted({start[axis] for start in starts}))
        # Evenly spread starts are rounded to whole voxels.
        assert (steps <= side * (1 - overlap) + 1).all()


def test_an_overlap_of_one_would_never_end():
    with pytest.raises(ValueError, match="overlap"):
        list(window_starts((9, 9, 9), (3, 3, 3), 1.0))


@given(shapes, windows, st.data())
@settings(max_examples=60, deadline=None)
def test_the_window_around_a_voxel_holds_it_and_stays_inside(shape, window, data):
    voxel = [data.draw(st.integers(0, size - 1)) for size in shape]
    for index, first, side, size in zip(voxel, window_around(voxel, shape, window), window, shape, strict=True):
        assert first <= index < first + side
        if side <= size:
            assert 0 <= first <= size - side
            centred = abs(index - (first + side // 2))
            assert centred == 0 or first in (0, size - side)


def test_a_side_slightly_longer_than_the_patch_is_one_window():
    assert window_shape((64, 70, 81), (64, 64, 64), (8, 8, 8)) == (64, 72, 64)
    assert window_shape((5, 1, 64), (64, 64, 64), (8, 4, 8)) == (8, 4, 64)


def test_the_middle_of_a_window_weighs_most_and_its_corners_still_count():
    weight = gaussian_weight((8, 9, 4))
    assert weight.shape == (8, 9, 4)
    assert torch.equal(weight, weight.flip(0, 1, 2))
    assert weight.argmax() == weight.flatten().argmax()
    assert weight[4, 4, 2] == weight.max()
    assert weight.min() > 0


@given(shapes, windows, st.data())
@settings(max_examples=60, deadline=None)
def test_what_is_cut_is_what_a_padded_volume_has_there(shape, window, data):
    start = [data.draw(st.integers(1 - side, size - 1)) for side, size in zip(window, shape, strict=True)]
    volume = torch.arange(1, 1 + np.prod(shape)).reshape(1, *shape)
    padded = np.pad(volume[0].numpy(), [(side, side) for side in window])
    expected = padded[tuple(slice(a + side, a + 2 * side) for a, side in zip(start, window, strict=True))]
    piece = cut(volume, start, window)
    assert np.array_equal(piece[0].numpy(), expected)
    inside = crop(piece, start, shape)
    assert torch.equal(inside.flatten(), piece[piece > 0])


def counted(model):
    """The model, and the list that grows with every pass of its network."""
    passes = []
    model.network.register_forward_hook(lambda *_: passes.append(1))
    return model, passes


def air_beside_a_body():
    """A volume of 32 x 8 x 8 whose first half is air, at the lowest value of all."""
    image = 0.5 + 0.5 * seeded(1, 32, 8, 8).sigmoid()
    image[:, :16] = 0
    return image


def test_air_is_left_out_only_when_asked_and_is_background():
    model, passes = counted(random_model(patch=(8, 8, 8)))
    image = air_beside_a_body()
    whole = sliding_window(model, image, overlap=0.0, amp="off")
    assert len(passes) == 4
    passes.clear()
    skipped = sliding_window(model, image, overlap=0.0, amp="off", skip_air=True)
    assert len(passes) == 2
    assert torch.equal(skipped[:, 16:], whole[:, 16:])
    assert (skipped[:, :16].argmax(0) == 0).all()


def test_what_is_clicked_or_segmented_is_never_left_out():
    model, passes = counted(random_model(patch=(8, 8, 8)))
    image = air_beside_a_body()
    sliding_window(model, image, Clicks([0], [1], [[3, 3, 3]]), overlap=0.0, amp="off", skip_air=True)
    assert len(passes) == 3
    passes.clear()
    previous = torch.zeros(32, 8, 8, dtype=torch.uint8)
    previous[9, 0, 0] = 1
    sliding_window(model, image, None, previous, overlap=0.0, amp="off", skip_air=True)
    assert len(passes) == 3


def test_logits_are_summed_on_a_gpu_only_where_they_fit(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 2000))
    gpu = torch.device("cuda")
    assert module._fits(499, gpu)
    assert not module._fits(501, gpu)
    assert module._fits(10**15, torch.device("cpu"))
