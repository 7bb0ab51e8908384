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
    """Where clicks lie, and which voxels tell what logits are there.

    Attributes:
        exact: ``[N, 3]`` float32, voxels; None where all lie at the centres of voxels.
        voxels: ``[N, K, 3]`` int64, those around each place; the ones at the border stand for what lies beyond.
        weight: ``[N, K]`` float32, how much each of them counts in linear interpolation.
    """

    exact: Tensor | None
    voxels: Tensor
    weight: Tensor

    @classmethod
    def between(cls, exact: Tensor, shape: Sequence[int]) -> "Places":
        """Places ``[N, 3]`` between the voxels of a volume ``(X, Y, Z)``."""
        corners = torch.cartesian_prod(*[torch.arange(2)] * 3)
        steps = upload(torch.cat([corners, torch.tensor([shape]) - 1]), exact.device)
        first = exact.floor()
        share = (exact - first)[:, None]
        weight = torch.where(steps[:8] == 1, share, 1 - share).prod(2)
        return cls(exact, _clamped(first.long()[:, None] + steps[:8], steps[8]), weight)

    def of(self, logits: Tensor, batch: Tensor) -> Tensor:
        """``[N, C]`` float32: what logits ``[B, C, X, Y, Z]`` are at the places, in the samples ``[N]``."""
        around = logits[(batch[:, None], slice(None), *self.voxels.unbind(2))].float()
        return torch.bmm(self.weight[:, None], around)[:, 0]


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
    last = upload([side - 1 for side in logits.shape[2:]], logits.device)
    position = _clamped(clicks.position, last)
    known = clicks.valid & (position == clicks.position).all(1)
    if places is None:
        places = Places(None, position[:, None], torch.ones((len(position), 1), device=last.device))
    cells = _Cells(logits, clicks)
    missing = _missing(places.of(logits, clicks.batch), clicks.label, known, margin)
    _raise_balls(cells, position, places, missing, last, sigma)
    # A neighbour's ball may have taken the lead back: the clicked places themselves have the last word.
    missing = _missing(places.of(logits, clicks.batch), clicks.label, known, margin)
    cells.lift(places.voxels, missing[:, None] * (places.weight > 0))
    return logits


def _clamped(voxels: Tensor, last: Tensor) -> Tensor:
    """Voxels ``[..., 3]``, those outside of the volume moved to its border; `last` is its last voxel."""
    return voxels.clamp(min=0).minimum(last)


def _missing(at_click: Tensor, label: Tensor, known: Tensor, margin: float) -> Tensor:
    """``[N]``: how far each clicked class is from leading in ``[N, C]`` by the margin; 0 where it does."""
    own = at_click.gather(1, label[:, None])
    others = at_click.scatter(1, label[:, None], -math.inf).amax(1)
    return (others + margin - own[:, 0]).clamp_(min=0) * known


def _raise_balls(
    cells: "_Cells", position: Tensor, places: Places, missing: Tensor, last: Tensor, sigma: float
) -> None:
    """Raise the clicked class around each click by a Gaussian that is worth what is missing at the click itself."""
    reach = math.ceil(3 * sigma)
    ball = torch.cartesian_prod(*[torch.arange(-reach, reach + 1)] * 3)
    reached = position[:, None] + upload(ball, last.device)
    voxels = _clamped(reached, last)
    inside = (voxels == reached).all(2)
    if places.exact is None:
        weight = upload(torch.exp(-0.5 * ball.square().sum(1) / sigma**2), last.device)
    else:
        # Of clicks outside of the volume it may be 0, where nothing is missing.
        at_click = (_gaussian(places.voxels, places.exact, sigma) * places.weight).sum(1).clamp_(min=1e-6)
        missing, weight = missing / at_click, _gaussian(reached, places.exact, sigma)
    cells.lift(voxels, missing[:, None] * weight * inside)


def _gaussian(voxels: Tensor, exact: Tensor, sigma: float) -> Tensor:
    """``[N, M]`` float32: 1 at each place, less at voxels ``[N, M, 3]`` farther away from it."""
    return (voxels - exact[:, None]).square_().sum(2).mul_(-0.5 / sigma**2).exp_()


class _Cells:
    """The logits of the clicked classes, by where in memory they lie."""

    def __init__(self, logits: Tensor, clicks: Clicks) -> None:
        of_sample, of_class, *of_voxel = logits.stride()
        size = 1 + sum((side - 1) * step for side, step in zip(logits.shape, logits.stride(), strict=True))
        self.memory = logits.as_strided((size,), (1,))
        self.channel = clicks.batch * of_sample + clicks.label * of_class
        self.strides = upload(of_voxel, logits.device)

    def lift(self, voxels: Tensor, by: Tensor) -> None:
        """Raise the logits of each click's class at its voxels ``[N, M, 3]`` by ``[N, M]``, in place.

        Where two clicks name one place, the greater amount counts.
        """
        cells = ((voxels * self.strides).sum(2) + self.channel[:, None]).flatten()
        raised = self.memory[cells] + by.flatten().to(self.memory.dtype)
        self.memory.scatter_reduce_(0, cells, raised, "amax")
