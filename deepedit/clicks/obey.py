"""The last resort: a voxel that was clicked takes the label that it was clicked for."""

import math

import torch
from torch import Tensor

from deepedit.clicks.types import Clicks

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
    sides = torch.tensor(logits.shape[2:], device=logits.device)
    known = clicks.valid & ((clicks.position >= 0) & (clicks.position < sides)).all(1)
    position = torch.minimum(clicks.position.clamp(min=0), sides - 1)
    missing = _missing(logits, clicks, position, known)
    _raise_balls(logits, clicks, position, missing, sigma)
    # A neighbour's ball may have taken the lead back: the clicked voxels themselves have the last word.
    missing = _missing(logits, clicks, position, known)
    index = (clicks.batch, clicks.label, *position.unbind(1))
    logits.index_put_(index, missing.to(logits.dtype), accumulate=True)
    return logits


def _missing(logits: Tensor, clicks: Clicks, position: Tensor, known: Tensor) -> Tensor:
    """``[N]``: how far each clicked class is from leading at its click by the margin; 0 where it does."""
    at_click = logits[(clicks.batch, slice(None), *position.unbind(1))].float()
    own = at_click.gather(1, clicks.label[:, None])
    others = at_click.scatter(1, clicks.label[:, None], -math.inf).amax(1)
    return torch.where(known, (others + MARGIN - own[:, 0]).clamp(min=0), 0.0)


def _raise_balls(logits: Tensor, clicks: Clicks, position: Tensor, missing: Tensor, sigma: float) -> None:
    reach = math.ceil(3 * sigma)
    steps = torch.arange(-reach, reach + 1, device=logits.device)
    offsets = torch.cartesian_prod(steps, steps, steps)
    weight = torch.exp(-0.5 * offsets.square().sum(1) / sigma**2)
    voxels = position[:, None] + offsets
    _, classes, *sides = logits.shape
    size = torch.tensor(sides, device=logits.device)
    inside = ((voxels >= 0) & (voxels < size)).all(2)
    x, y, z = torch.minimum(voxels.clamp(min=0), size - 1).unbind(2)
    channel = (clicks.batch * classes + clicks.label)[:, None]
    index = ((channel * sides[0] + x) * sides[1] + y) * sides[2] + z
    # Joined by maximum: two clicks on one spot raise it no higher than the one that needs more.
    raised = torch.zeros(logits.numel(), device=logits.device)
    raised.scatter_reduce_(0, index.flatten(), (missing[:, None] * weight * inside).flatten(), "amax")
    logits.add_(raised.view(logits.shape).to(logits.dtype))
