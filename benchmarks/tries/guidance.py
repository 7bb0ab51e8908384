"""Other guidance: how clicks are drawn for the network."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from deepedit.clicks import Clicks
from deepedit.inference import sliding_window
from deepedit.training import batch

FAR = 1e6
"""Square of a distance, in voxels, beyond all volumes."""


def squared_distances(clicks: Clicks, shape: Sequence[int]) -> Tensor:
    """``[N, X, Y, Z]`` from every click; far for those that are not valid."""
    x, y, z = (
        (torch.arange(side, device=at.device)[None] - at[:, None]).float().square()
        for side, at in zip(shape, clicks.position.unbind(1), strict=True)
    )
    squares = x[:, :, None, None] + y[:, None, :, None] + z[:, None, None, :]
    return squares.masked_fill_(~clicks.valid[:, None, None, None], FAR)


def by_channel(clicks: Clicks, values: Tensor, num_classes: int, batch_size: int) -> Tensor:
    """``[B, C, X, Y, Z]``: the greatest value of the clicks of each sample and class, at least 0."""
    channels = torch.zeros(batch_size * num_classes, *values.shape[1:], device=values.device)
    index = clicks.batch * num_classes + clicks.label.where(clicks.valid, 0)
    channels.scatter_reduce_(0, index.view(-1, 1, 1, 1).expand_as(values), values, "amax")
    return channels.unflatten(0, (batch_size, num_classes))


def cone(radius: float) -> Callable[[Clicks, Tensor, float, int], Tensor]:
    """Guidance that falls off in proportion to the distance, to 0 at a radius: a truncated distance map."""
    return lambda clicks, squares, sigma, samples: (1 - squares.sqrt() / radius).clamp_(min=0)


def two_widths(narrow: float, wide: float) -> Callable[[Clicks, Tensor, float, int], Tensor]:
    """Guidance that is the mean of two Gaussians."""
    return lambda clicks, squares, sigma, samples: (
        0.5 * torch.exp(-0.5 * squares / narrow**2) + 0.5 * torch.exp(-0.5 * squares / wide**2)
    )


def newest_is_higher(others: float) -> Callable[[Clicks, Tensor, float, int], Tensor]:
    """Guidance in which all clicks of a sample but the newest are lower."""

    def values(clicks: Clicks, squares: Tensor, sigma: float, samples: int) -> Tensor:
        valid = clicks.valid.unflatten(0, (samples, -1))
        order = torch.arange(valid.shape[1], device=valid.device)
        newest = torch.where(valid, order, -1).amax(1, keepdim=True)
        height = torch.where(order == newest, 1.0, others).flatten() * clicks.valid
        return torch.exp(-0.5 * squares / sigma**2) * height[:, None, None, None]

    return values


def change_guidance(values: Callable[[Clicks, Tensor, float, int], Tensor]) -> None:
    plain = sliding_window.render_guidance

    def render(
        clicks: Clicks, shape: Sequence[int], num_classes: int, batch_size: int, sigma: float, combine: str
    ) -> Tensor:
        if not len(clicks):
            return plain(clicks, shape, num_classes, batch_size, sigma, combine=combine)
        return by_channel(
            clicks, values(clicks, squared_distances(clicks, shape), sigma, batch_size), num_classes, batch_size
        )

    sliding_window.render_guidance = batch.render_guidance = render
