"""Normalisation of intensities to the range that the network is trained on, and the choice of its mode."""

import re
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from deepedit.defaults import PERCENTILES
from deepedit.plan import Intensity


def normalise(image: Tensor, intensity: Intensity) -> Tensor:
    """Normalise every channel independently, over the whole volume.

    Args:
        image: ``[C, X, Y, Z]``, any real type. NaN counts as the channel's lowest value, infinities as the lowest
            and highest finite ones.
        intensity: the mode and its range.

    Returns:
        ``[C, X, Y, Z]`` float32, a new tensor: in [0, 1] for ``"window"`` and ``"percentile"``, of mean 0 and standard
        deviation 1 for ``"zscore"``; a constant channel becomes zeros.
    """
    result = image.to(torch.float32, copy=True)
    for volume in result:
        # In memory order, whatever the order of axes: one pass over adjacent values each time.
        channel = volume.permute(sorted(range(3), key=volume.stride, reverse=True)).view(-1)
        _make_finite(channel)
        if intensity.mode == "window":
            lower, upper = intensity.lower, intensity.upper
        else:
            lower, upper = _range(channel, intensity.lower, intensity.upper)
        if lower == upper:
            channel.zero_()
            continue
        channel.clamp_(lower, upper)
        if intensity.mode == "zscore":
            deviation, mean = torch.std_mean(channel, correction=0)
            channel.sub_(mean).div_(deviation)
        else:
            channel.sub_(lower).div_(upper - lower)
    return result


def choose_intensity(modality: str | None, sample: Sequence[Tensor | np.ndarray]) -> Intensity:
    """How to normalise images of a modality. If none is named, a few images' values decide whether they are CT.

    Args:
        modality: as in ``dataset.json``; CT of any kind gets a soft-tissue window, everything else z-scores.
        sample: a few images of any shape, in file units; used only without a modality.
    """
    if modality and modality.strip():
        ct = _names_ct(modality)
    else:
        ct = bool(sample) and sum(_looks_like_ct(image) for image in sample) * 2 > len(sample)
    return Intensity() if ct else Intensity("zscore", *PERCENTILES)


def _make_finite(channel: Tensor) -> None:
    """Replace, in place, values that are not finite."""
    if all(torch.isfinite(extreme) for extreme in torch.aminmax(channel)):
        return
    finite = channel[torch.isfinite(channel)]
    low, high = (finite.min().item(), finite.max().item()) if len(finite) else (0.0, 0.0)
    channel.nan_to_num_(nan=low, posinf=high, neginf=low)


def _range(channel: Tensor, lower: float, upper: float) -> tuple[float, float]:
    """The two percentiles, or the extremes if the percentiles coincide, as in an image with one small object only."""
    # torch.quantile refuses more than 2**24 values. A sort is slow on a CPU, a partition is not.
    if channel.device.type == "cpu":
        low, high = np.percentile(channel.numpy(), (lower, upper)).tolist()
    else:
        ordered = channel.sort().values
        low, high = (_percentile(ordered, percent) for percent in (lower, upper))
    if low < high:
        return low, high
    least, most = torch.aminmax(channel)
    return least.item(), most.item()


def _percentile(ordered: Tensor, percent: float) -> float:
    position = percent / 100 * (len(ordered) - 1)
    below = min(int(position), len(ordered) - 1)
    above = min(below + 1, len(ordered) - 1)
    return torch.lerp(ordered[below].double(), ordered[above].double(), position - below).item()


def _names_ct(modality: str) -> bool:
    # By whole words: SPECT and OCT are not CT, and a PET-CT dataset does not hold CT alone.
    words = re.findall(r"[a-z]+", modality.lower())
    if "pet" in words or "mr" in words or "mri" in words:
        return False
    return "computed" in words or any(re.fullmatch(r"(cb|ld|md|hr|ce|nc|m)?cta?", word) for word in words)


def _looks_like_ct(image: Tensor | np.ndarray) -> bool:
    """Whether values look like Hounsfield units: air or fat far below 0, and nearly all else between air and bone."""
    values = torch.as_tensor(image).flatten()
    values = values[:: max(1, len(values) // 2**20)].float()
    values = values[torch.isfinite(values)]
    # Scanners and converters pad with values below air, such as -2048.
    values = values[values >= -1100]
    return len(values) > 0 and values.min().item() <= -200 and (values <= 500).float().mean().item() >= 0.8
