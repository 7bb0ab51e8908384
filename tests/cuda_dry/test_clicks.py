"""Click simulation on CUDA: few kernels, little traffic, no wait; counted at 128^3, four samples, seven labels."""

import pytest
import torch

from deepedit.clicks import (
    Annotator,
    chessboard_distance,
    error_regions,
    render_guidance,
    sample_clicks,
    simulate_clicks,
)

SHAPE, CLASSES, SAMPLES = (128, 128, 128), 8, 4


@pytest.fixture
def batch(dry):
    pytest.importorskip("triton", reason="the fused kernels are written in Triton, which is not installed")
    return (torch.zeros(SAMPLES, *SHAPE, dtype=dtype, device="cuda") for dtype in (torch.int64, torch.uint8))


def test_from_error_regions_to_guidance_in_14_kernels_and_600_megabytes(dry, batch):
    prediction, label = batch
    generator = torch.Generator("cuda").manual_seed(0)
    with dry.recording() as record:
        clicks = sample_clicks(error_regions(prediction, label, CLASSES), CLASSES, generator)
        guidance = render_guidance(clicks, SHAPE, CLASSES, batch_size=SAMPLES)
    assert guidance.shape == (SAMPLES, CLASSES, *SHAPE)
    assert record.launches <= 14, record.kernels
    assert record.bytes <= 0.6e9
    assert not record.waits
    assert not record.uploads


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int64])
def test_distances_are_not_waited_for(dry, batch, dtype):
    chessboard_distance(next(batch).to(dtype))
    assert not dry.record.waits
    assert not dry.record.uploads


@pytest.mark.parametrize(
    "annotator",
    [
        Annotator(),
        Annotator.perfect(),
        Annotator.steady(),
        Annotator(deepest=0, redundant=1),
        Annotator(deepest=0, neighbour=1),
        Annotator(deepest=0, centre=0),
        Annotator(deepest=0.5, jitter=3),
    ],
)
@pytest.mark.parametrize("shape", [(128, 128, 128), (1, 5, 300)])
def test_no_annotator_waits_for_the_device(dry, batch, annotator, shape):
    del batch
    prediction, label = (torch.zeros(SAMPLES, *shape, dtype=torch.uint8, device="cuda") for _ in range(2))
    sources = [torch.Generator().manual_seed(seed) for seed in range(SAMPLES)]
    clicks = simulate_clicks(prediction, label, CLASSES, annotator, sources, clicks_per_sample=2)
    assert len(clicks) == 2 * SAMPLES
    assert not dry.record.waits, [str(each) for each in dry.record.waits]
    assert not dry.record.uploads, [str(each) for each in dry.record.uploads]


@pytest.mark.parametrize("combine", ["max", "sum-normalized"])
def test_guidance_is_not_waited_for(dry, batch, combine):
    clicks = sample_clicks(next(batch), CLASSES, torch.Generator("cuda"))
    assert render_guidance(clicks, SHAPE, CLASSES, SAMPLES, combine=combine).device.type == "cuda"
    assert not dry.record.waits
    assert not dry.record.uploads
