"""The same promises on a GPU: right, repeatable, and never waiting for the host."""

import numpy as np
import pytest
import torch

from deepedit.clicks import (
    Annotator,
    Clicks,
    chessboard_distance,
    error_regions,
    render_guidance,
    sample_clicks,
    simulate_clicks,
)
from deepedit.clicks.nearest import within_reach
from tests.clicks.oracles import random_reach, slow_chessboard_distance
from tests.devices import NEEDS_GPU

pytestmark = NEEDS_GPU


@pytest.fixture
def no_synchronisation():
    """A synchronisation is an error. A warm-up is for the test to do: first calls load kernels."""
    yield lambda: torch.cuda.set_sync_debug_mode("error")
    torch.cuda.set_sync_debug_mode("default")


def batch_of(samples=2, classes=8, side=48):
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randint(0, classes, (samples, side // 6, side // 6, side // 6), generator=generator)
    label = coarse.repeat_interleave(6, 1).repeat_interleave(6, 2).repeat_interleave(6, 3)
    wrong = torch.rand(label.shape, generator=generator) < 0.3
    return torch.where(wrong, (label + 1) % classes, label).cuda(), label.cuda()


def simulate(prediction, label, generator):
    clicks = sample_clicks(error_regions(prediction, label, 8), 8, generator)
    return clicks, render_guidance(clicks, label.shape[1:], 8, batch_size=len(label))


def test_click_simulation_does_not_wait_for_the_device(no_synchronisation):
    prediction, label = batch_of()
    generator = torch.Generator("cuda").manual_seed(0)
    simulate(prediction, label, generator)
    no_synchronisation()
    simulate(prediction, label, generator)


def test_the_training_annotators_drawn_clicks_do_not_wait_either(no_synchronisation):
    prediction, label = batch_of()
    annotator = Annotator(deepest=0)
    sources = [torch.Generator().manual_seed(seed) for seed in range(2)]
    simulate_clicks(prediction, label, 8, annotator, sources)
    no_synchronisation()
    simulate_clicks(prediction, label, 8, annotator, sources)


def test_distance_equals_scipy():
    prediction, label = batch_of()
    regions = error_regions(prediction, label, 8)
    for sample, distance in zip(regions.cpu().numpy(), chessboard_distance(regions).cpu().numpy(), strict=True):
        np.testing.assert_array_equal(distance, slow_chessboard_distance(sample))


def test_clicks_lie_in_their_regions_and_a_seed_repeats_them():
    prediction, label = batch_of()
    first, guidance = simulate(prediction, label, torch.Generator("cuda").manual_seed(4))
    second, _ = simulate(prediction, label, torch.Generator("cuda").manual_seed(4))
    assert torch.equal(first.position, second.position)
    at = (first.batch, *first.position.T)
    assert (error_regions(prediction, label)[at] == first.label + 1)[first.valid].all()
    on_cpu = render_guidance(first.to("cpu"), label.shape[1:], 8, batch_size=len(label))
    torch.testing.assert_close(guidance.cpu(), on_cpu, atol=1e-6, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_guidance(dtype):
    clicks = Clicks([0, 1], [1, 0], [[3, 4, 5], [-1, 2, 9]])
    expected = render_guidance(clicks, (8, 9, 10), 2, batch_size=2, dtype=dtype)
    assert torch.equal(render_guidance(clicks.to("cuda"), (8, 9, 10), 2, batch_size=2, dtype=dtype).cpu(), expected)


@pytest.mark.parametrize(("samples", "count"), [(4, 12), (1, 200), (2, 0)])
def test_within_reach_equals_that_on_a_cpu_and_is_not_waited_for(no_synchronisation, samples, count):
    clicks = random_reach(0, samples, count, around=90)
    expected = within_reach(*clicks, (70, 65, 81), 2.0)
    on_device = [each.cuda() for each in clicks]
    within_reach(*on_device, (70, 65, 81), 2.0)
    no_synchronisation()
    found = within_reach(*on_device, (70, 65, 81), 2.0)
    torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(found.cpu(), expected, atol=1e-5, rtol=0)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there is no second CUDA device")
def test_kernels_run_on_the_device_of_their_tensors_whichever_is_current():
    prediction, label = (volume.to("cuda:1") for volume in batch_of())
    clicks, guidance = simulate(prediction, label, torch.Generator("cuda:1").manual_seed(0))
    on_cpu = render_guidance(clicks.to("cpu"), label.shape[1:], 8, batch_size=len(label))
    torch.testing.assert_close(guidance.cpu(), on_cpu, atol=1e-6, rtol=0)
