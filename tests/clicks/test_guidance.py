import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from deepedit.clicks import Clicks, render_guidance
from deepedit.clicks import guidance as guidance_module
from tests.clicks.oracles import slow_guidance

PARITY = Path(__file__).resolve().parents[2].parent / "shared" / "parity"


@pytest.fixture(params=["boxes", "scatter"])
def paint(request, monkeypatch):
    """Both ways to render: the one for a CPU, and the one for a GPU, here on the CPU."""
    if request.param == "scatter":
        monkeypatch.setattr(guidance_module, "_paint_boxes", guidance_module._scatter_boxes)
        monkeypatch.setattr(guidance_module, "_SCRATCH_VOXELS", 20_000)
    return request.param


@st.composite
def click_sets(draw, shape, num_classes, batch_size):
    """Clicks inside, at the border of and beyond a volume, some of them not valid."""
    count = draw(st.integers(0, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    position = np.stack([rng.integers(-6, side + 6, count) for side in shape], axis=1)
    parts = rng.integers(0, batch_size, count), rng.integers(0, num_classes, count), position, rng.random(count) < 0.8
    return Clicks(*(torch.from_numpy(part) for part in parts))


@pytest.mark.parametrize("shape", [(9, 12, 7), (1, 5, 1), (1, 1, 1)])
@pytest.mark.parametrize(("sigma", "spacing"), [(2.0, None), (0.3, None), (3.0, (0.7, 1.0, 5.0)), ((1, 2, 3), None)])
def test_rendering_equals_the_formula(paint, shape, sigma, spacing):
    @settings(max_examples=20)
    @given(clicks=click_sets(shape, num_classes=2, batch_size=2))
    def equal(clicks):
        guidance = render_guidance(clicks, shape, 2, batch_size=2, sigma=sigma, spacing=spacing)
        expected = slow_guidance(clicks, shape, 2, 2, np.broadcast_to(sigma, 3) / np.array(spacing or (1, 1, 1)))
        assert guidance.dtype == torch.float32
        assert_allclose(guidance.numpy(), expected, atol=5e-6)

    equal()


def test_a_click_never_weakens_another():
    one = Clicks([0], [1], [[5, 5, 5]])
    alone = render_guidance(one, (12, 12, 12), 2)
    both = render_guidance(Clicks.cat([one, Clicks([0], [1], [[5, 6, 5]])]), (12, 12, 12), 2)
    assert (both >= alone).all()
    assert both[0, 1, 5, 5, 5] == both[0, 1, 5, 6, 5] == 1


def test_a_channel_without_clicks_is_zero():
    guidance = render_guidance(Clicks([1, 0], [0, 2], [[1, 1, 1]] * 2, [True, False]), (4, 4, 4), 3, batch_size=2)
    assert guidance[1, 0].amax() == 1
    guidance[1, 0] = 0
    assert not guidance.any()


def test_thousands_of_clicks_at_once(paint):
    generator = torch.Generator().manual_seed(0)
    position = torch.randint(0, 24, (2000, 3), generator=generator)
    label = torch.randint(0, 3, (2000,), generator=generator)
    guidance = render_guidance(Clicks(torch.zeros(2000), label, position), (24, 24, 24), 3, sigma=0.5)
    assert (guidance[(0, label, *position.T)] == 1).all()
    assert guidance.max() == 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_types_are_the_rounded_result(paint, dtype):
    clicks = Clicks([0, 0], [0, 1], [[3, 3, 3], [0, 5, 6]])
    exact = render_guidance(clicks, (8, 8, 8), 2)
    guidance = render_guidance(clicks, (8, 8, 8), 2, dtype=dtype)
    assert guidance.dtype == dtype
    assert torch.equal(guidance, exact.to(dtype))


@pytest.mark.parametrize("options", [{"sigma": 0}, {"sigma": -1.0}, {"spacing": (1, 0, 1)}, {"combine": "sum"}])
def test_options_without_sense_are_refused(options):
    with pytest.raises(ValueError, match=r"must be positive|combine is"):
        render_guidance(Clicks.empty(), (4, 4, 4), 2, **options)


@pytest.mark.skipif(not PARITY.is_dir(), reason="the golden vectors are not beside the project")
@pytest.mark.parametrize("label", ["spleen", "background", "liver"])
def test_sum_normalized_equals_the_reference(label):
    case = json.loads((PARITY / "guidance.json").read_text())
    position = torch.tensor(case["clicks"][label], dtype=torch.int64).reshape(-1, 3)
    clicks = Clicks(torch.zeros(len(position)), torch.zeros(len(position)), position)
    guidance = render_guidance(clicks, case["shape"], 1, sigma=case["sigma"], combine="sum-normalized")
    with np.load(PARITY / "guidance.npz") as golden:
        assert_allclose(guidance[0, 0].numpy(), golden[label], atol=1e-5)


def test_sum_normalized_skips_what_is_not_valid_and_fills_its_range():
    clicks = Clicks([0, 0, 5], [1, 1, 9], [[4, 4, 4], [4, 5, 4], [0, 0, 0]], [True, True, False])
    guidance = render_guidance(clicks, (9, 9, 9), 3, sigma=1.0, combine="sum-normalized")
    assert guidance.dtype == torch.float32
    assert guidance.aminmax() == (0, 1)
    assert not guidance[0, [0, 2]].any()


@given(clicks=click_sets((9, 12, 7), num_classes=3, batch_size=2), sigma=st.sampled_from([1.0, 4.0, (1.0, 2.0, 3.0)]))
@settings(max_examples=20)
def test_nearness_is_the_guidance_of_the_nearest_click_of_any_class(clicks, sigma):
    nearness = clicks.nearness((9, 12, 7), sigma, batch_size=2)
    expected = slow_guidance(clicks, (9, 12, 7), 3, 2, np.broadcast_to(sigma, 3)).max(1)
    assert_allclose(nearness.numpy(), expected, atol=5e-6)
