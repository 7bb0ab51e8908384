"""The last resort: where the network leaves a click wrong, the clicked voxel takes its label all the same."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from deepedit.clicks.types import Clicks
from deepedit.devices import upload


@dataclass(frozen=True)
class Places:
    """Where clicks lie between voxels, and which voxels tell what logits are there.

    Attributes:
        exact: ``[N, 3]`` float32, voxels.
        voxels: ``[N, 8, 3]`` int64, those around each place; the ones at the border stand for what lies beyond.
        weight: ``[N, 8]`` float32, how much each of them counts in linear interpolation.
    """

    exact: Tensor
    voxels: Tensor
    weight: Tensor

    @classmethod
    def between(cls, exact: Tensor, shape: Sequence[int]) -> "Places":
        """Places ``[N, 3]`` between the voxels of a volume ``(X, Y, Z)``."""
        corners = torch.cartesian_prod(*[torch.arange(2)] * 3)
        steps, opposite, border = upload(torch.cat([corners, 1 - corners, _border(shape)]), exact.device).split(
            [8, 8, 2]
        )
        first = exact.floor()
        weight = (opposite - (exact - first)[:, None]).abs_().prod(2)
        return cls(exact, (first.long()[:, None] + steps).clamp(*border), weight)

    def of(self, logits: Tensor, batch: Tensor) -> Tensor:
        """``[N, C]`` float32: what logits ``[B, C, X, Y, Z]`` are at the places, in the samples ``[N]``."""
        return torch.bmm(self.weight[:, None], _logits_at(logits, batch, self.voxels))[:, 0]


def enforce_clicks(
    logits: Tensor, clicks: Clicks, places: Places | None = None, margin: float = 0.1, sigma: float = 2.0
) -> Tensor:
    """Logits in which every clicked class leads where it was clicked.

    Where a clicked class does not lead at its click, its logits are raised there until it does, and around it by as
    much times a Gaussian, so that what follows the click is a small ball and not a single voxel.

    Args:
        logits: ``[B, C, X, Y, Z]`` float; changed in place.
        clicks: clicks outside of the volume are skipped. Two clicks of different labels on one voxel contradict each
            other; give the newer one alone.
        places: where exactly the clicks lie; default: at the centres of their voxels. Where two clicks of different
            labels lie less than a voxel apart there may be no logits that obey both.
        margin: by how much a clicked class leads afterwards, in logits.
        sigma: width of the Gaussian, voxels.

    Returns:
        `logits`. No host synchronisation.
    """
    reach = math.ceil(3 * sigma)
    ball = torch.cartesian_prod(*[torch.arange(-reach, reach + 1)] * 3)
    numbers = torch.cat([_border(logits.shape[2:]), torch.tensor([logits.stride()[2:]]), ball])
    border, strides, steps = upload(numbers, logits.device).split([2, 1, len(ball)])
    position = clicks.position.clamp(*border)
    known = clicks.valid & (position == clicks.position).all(1)
    cells = _Cells(logits, clicks, strides)
    reached = position[:, None] + steps
    voxels = reached.clamp(*border)
    missing = _missing(logits, clicks, places, position, known, margin)
    if places is None:
        weight = upload(torch.exp(-0.5 * ball.square().sum(1) / sigma**2), logits.device)
    else:
        # Of clicks outside of the volume it may be 0, where nothing is missing.
        at_click = (_gaussian(places.voxels, places.exact, sigma) * places.weight).sum(1).clamp_(min=1e-6)
        missing, weight = missing / at_click, _gaussian(reached, places.exact, sigma)
    cells.lift(voxels, missing[:, None] * weight * (voxels == reached).all(2))
    # A neighbour's ball may have taken the lead back: the clicked places themselves have the last word.
    missing = _missing(logits, clicks, places, position, known, margin)[:, None]
    if places is None:
        cells.lift(position[:, None], missing)
    else:
        cells.lift(places.voxels, missing * (places.weight > 0))
    return logits


def _border(shape: Sequence[int]) -> Tensor:
    """The first and the last voxel of a volume ``(X, Y, Z)``."""
    return torch.tensor([[0] * 3, [side - 1 for side in shape]])


def _logits_at(logits: Tensor, batch: Tensor, voxels: Tensor) -> Tensor:
    """``[N, ..., C]`` float32: logits ``[B, C, X, Y, Z]`` in the samples ``[N]`` at voxels ``[N, ..., 3]``."""
    samples = batch.view(-1, *[1] * (voxels.ndim - 2))
    x, y, z = voxels.unbind(-1)
    return logits[samples, :, x, y, z].float()


def _missing(
    logits: Tensor, clicks: Clicks, places: Places | None, position: Tensor, known: Tensor, margin: float
) -> Tensor:
    """``[N]``: how far each clicked class is from leading by the margin where it was clicked; 0 where it does."""
    at_click = _logits_at(logits, clicks.batch, position) if places is None else places.of(logits, clicks.batch)
    own = at_click.gather(1, clicks.label[:, None])
    others = at_click.scatter(1, clicks.label[:, None], -math.inf).amax(1)
    return (others + margin - own[:, 0]).clamp_(min=0) * known


def _gaussian(voxels: Tensor, exact: Tensor, sigma: float) -> Tensor:
    """``[N, M]`` float32: 1 at each place, less at voxels ``[N, M, 3]`` farther away from it."""
    return (voxels - exact[:, None]).square_().sum(2).mul_(-0.5 / sigma**2).exp_()


class _Cells:
    """The logits of the clicked classes, by where in memory they lie; `strides` are those of the axes of voxels."""

    def __init__(self, logits: Tensor, clicks: Clicks, strides: Tensor) -> None:
        of_sample, of_class = logits.stride()[:2]
        size = 1 + sum((side - 1) * step for side, step in zip(logits.shape, logits.stride(), strict=True))
        self.memory = logits.as_strided((size,), (1,))
        self.channel = clicks.batch * of_sample + clicks.label * of_class
        self.strides = strides

    def lift(self, voxels: Tensor, by: Tensor) -> None:
        """Raise the logits of each click's class at its voxels ``[N, M, 3]`` by ``[N, M]``, in place.

        Where two clicks name one place, the greater amount counts.
        """
        cells = ((voxels * self.strides).sum(2) + self.channel[:, None]).flatten()
        raised = self.memory[cells] + by.flatten().to(self.memory.dtype)
        self.memory.scatter_reduce_(0, cells, raised, "amax")
