"""The last resort: a voxel that was clicked takes the label that it was clicked for."""

import math

import torch
from torch import Tensor

from deepedit.clicks.types import Clicks
from deepedit.devices import upload

MARGIN = 0.1
"""By how much a clicked class leads afterwards, in logits."""


def obey_clicks(logits: Tensor, clicks: Clicks, sigma: float = 2.0) -> Tensor:
    """Logits in which every click is obeyed.

    Where the clicked class does not lead at its click, its logit is raised there until it does, and around it by as
    much times a Gaussian, so that what follows the click is a small ball and not a single voxel.

    Args:
        logits: ``[B, C, X, Y, Z]`` float; changed in place.
        clicks: clicks outside of the volume are skipped. Of two clicks on one voxel the later one should be given
            alone.
        sigma: width of that Gaussian, voxels.

    Returns:
        `logits`. No host synchronisation.
    """
    last = upload([side - 1 for side in logits.shape[2:]], logits.device)
    position = _clamped(clicks.position, last)
    known = clicks.valid & (position == clicks.position).all(1)
    cells = _Cells(logits, clicks)
    missing = _missing(logits, clicks, position, known)
    _raise_balls(cells, position, missing, last, sigma)
    # A neighbour's ball may have taken the lead back: the clicked voxels themselves have the last word.
    missing = _missing(logits, clicks, position, known)
    cells.lift(position[:, None], missing[:, None])
    return logits


def _clamped(voxels: Tensor, last: Tensor) -> Tensor:
    """Voxels ``[..., 3]``, those outside of the volume moved to its border; `last` is its last voxel."""
    return voxels.clamp(min=0).minimum(last)


def _missing(logits: Tensor, clicks: Clicks, position: Tensor, known: Tensor) -> Tensor:
    """``[N]``: how far each clicked class is from leading at its click by the margin; 0 where it does."""
    at_click = logits[(clicks.batch, slice(None), *position.unbind(1))].float()
    own = at_click.gather(1, clicks.label[:, None])
    others = at_click.scatter(1, clicks.label[:, None], -math.inf).amax(1)
    return torch.where(known, (others + MARGIN - own[:, 0]).clamp(min=0), 0.0)


def _raise_balls(cells: "_Cells", position: Tensor, missing: Tensor, last: Tensor, sigma: float) -> None:
    """Raise the clicked class around each click by what is missing there times a Gaussian."""
    reach = math.ceil(3 * sigma)
    steps = torch.arange(-reach, reach + 1)
    ball = torch.cartesian_prod(steps, steps, steps)
    weight = upload(torch.exp(-0.5 * ball.square().sum(1) / sigma**2), last.device)
    reached = position[:, None] + upload(ball, last.device)
    voxels = _clamped(reached, last)
    inside = (voxels == reached).all(2)
    cells.lift(voxels, missing[:, None] * weight * inside)


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
