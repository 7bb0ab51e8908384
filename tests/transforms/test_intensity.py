import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from deepedit.plan import Intensity
from deepedit.transforms.intensity import choose_intensity, normalise

MODES = [Intensity(), Intensity("percentile", 1, 99), Intensity("zscore", 0.5, 99.5)]
seeds = st.integers(0, 2**32 - 1)


def mri(seed, scale=1.0):
    """Values such as a scanner without calibration gives: background, tissue, a few bright vessels."""
    rng = np.random.default_rng(seed)
    image = rng.gamma(2, 40, (1, 12, 13, 14))
    image[:, :4] = 0
    image[0, 5, 5, :3] = 5000
    return torch.from_numpy((image * scale).astype(np.float32))


def test_the_window_maps_its_ends_to_zero_and_one_and_clips():
    image = torch.tensor([-3000, -175, 37.5, 250, 3000]).view(1, 5, 1, 1)
    assert_allclose(normalise(image, Intensity()).flatten(), [0, 0, 0.5, 1, 1])


@given(seed=seeds, scale=st.floats(0.01, 1e4))
@settings(max_examples=30, deadline=None)
@pytest.mark.parametrize("mode", ["percentile", "zscore"])
def test_a_scanners_scale_does_not_matter(mode, seed, scale):
    intensity = Intensity(mode, 0.5, 99.5)
    assert_allclose(normalise(mri(seed, scale), intensity), normalise(mri(seed), intensity), atol=1e-3)


def test_zscore_clips_to_the_percentiles_then_standardises():
    image = mri(3)
    low, high = np.percentile(image.numpy(), (0.5, 99.5))
    clipped = np.clip(image.numpy().astype(np.float64), low, high)
    expected = (clipped - clipped.mean()) / clipped.std()
    assert_allclose(normalise(image, Intensity("zscore", 0.5, 99.5)), expected, atol=1e-4)


def test_percentiles_map_to_zero_and_one():
    image = mri(4)
    low, high = np.percentile(image.numpy(), (1, 99))
    expected = np.clip((image.numpy() - low) / (high - low), 0, 1)
    assert_allclose(normalise(image, Intensity("percentile", 1, 99)), expected, atol=1e-5)


@pytest.mark.parametrize("intensity", MODES)
@pytest.mark.parametrize("value", [0, 1e6, -1024, float("nan"), float("inf")])
def test_a_constant_image_gives_finite_constant_values(intensity, value):
    result = normalise(torch.full((2, 3, 4, 5), value), intensity)
    assert torch.isfinite(result).all()
    assert (result == result.flatten()[0]).all()
    if intensity.mode != "window":
        assert not result.any()


@pytest.mark.parametrize("intensity", MODES[1:])
def test_an_image_empty_but_for_a_small_object_still_shows_it(intensity):
    image = torch.zeros(1, 20, 20, 20)
    image[0, 3, 3, 3:5] = 800
    result = normalise(image, intensity)
    assert result[0, 3, 3, 3] > result[0, 0, 0, 0]


@pytest.mark.parametrize("intensity", MODES)
def test_what_is_not_finite_counts_as_the_lowest_or_highest_value(intensity):
    image = torch.linspace(-100, 200, 60).view(1, 3, 4, 5)
    mended = image.clone()
    image[0, 0, 0, :3] = torch.tensor([float("nan"), float("-inf"), float("inf")])
    mended[0, 0, 0, :3] = torch.tensor([image[torch.isfinite(image)].min()] * 2 + [200.0])
    assert torch.equal(normalise(image, intensity), normalise(mended, intensity))


@pytest.mark.parametrize("intensity", MODES)
def test_channels_are_normalised_by_themselves_and_the_input_is_left_alone(intensity):
    image = torch.cat([mri(1), mri(2, 300)])
    before = image.clone()
    result = normalise(image, intensity)
    assert torch.equal(image, before)
    for channel in range(2):
        assert torch.equal(result[channel], normalise(image[channel : channel + 1], intensity)[0])


@pytest.mark.parametrize("dtype", [torch.int16, torch.uint8, torch.uint16, torch.int32, torch.float64, torch.float16])
@pytest.mark.parametrize("intensity", MODES)
def test_any_real_type_in_any_layout_becomes_float32(dtype, intensity):
    image = mri(5).clamp(0, 250).round()
    turned = image.to(dtype).permute(0, 3, 1, 2)[:, ::2]
    result = normalise(turned, intensity)
    assert result.dtype == torch.float32
    assert_allclose(result, normalise(image.permute(0, 3, 1, 2)[:, ::2].contiguous(), intensity), atol=1e-6)


@pytest.mark.parametrize("modality", ["CT", "ct", "Computed Tomography", "contrast-enhanced CT", "CBCT", "CTA"])
def test_ct_gets_a_window(modality):
    assert choose_intensity(modality, []) == Intensity("window", -175, 250)


@pytest.mark.parametrize("modality", ["MRI", "T2", "PET", "SPECT", "OCT", "PET/CT", "ADC", "ultrasound"])
def test_other_modalities_are_standardised(modality):
    hounsfield = [np.full((4, 4, 4), -1000)]
    assert choose_intensity(modality, hounsfield).mode == "zscore"


def hounsfield(seed):
    rng = np.random.default_rng(seed)
    image = rng.normal(40, 30, (20, 20, 20))
    image[:8] = rng.normal(-1000, 20, (8, 20, 20))
    image[15, 15] = 1200
    image[0, 0] = -2048
    return image.astype(np.int16)


@pytest.mark.parametrize("modality", [None, "", " "])
def test_without_a_modality_the_values_decide(modality):
    rng = np.random.default_rng(0)
    phase = rng.integers(-4096, 4096, (20, 20, 20))
    assert choose_intensity(modality, [hounsfield(1), hounsfield(2)]).mode == "window"
    assert choose_intensity(modality, [torch.from_numpy(hounsfield(1))]).mode == "window"
    assert choose_intensity(modality, [mri(1), mri(2, 1000)]).mode == "zscore"
    assert choose_intensity(modality, [phase]).mode == "zscore"
    assert choose_intensity(modality, [rng.normal(0, 1, (20, 20, 20))]).mode == "zscore"
    assert choose_intensity(modality, [np.full((3, 3, 3), np.nan)]).mode == "zscore"
    assert choose_intensity(modality, []).mode == "zscore"
