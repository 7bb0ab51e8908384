"""The last resort: where the network leaves a click wrong, the clicked voxel takes its label all the same."""

import math

import torch
from torch import Tensor

from deepedit.clicks.types import Clicks
from deepedit.devices import upload


def enforce_clicks(
    logits: Tensor, clicks: Clicks, places: Tensor | None = None, margin: float = 0.1, sigma: float = 2.0
) -> Tensor:
    """Logits in which every clicked class leads where it was clicked.

    Where a clicked class does not lead at its click, its logits are raised there until it does, and around it by as
    much times a Gaussian, so that what follows the click is a small ball and not a single voxel. A place between
    voxels has the value that linear interpolation gives it.

    Args:
        logits: ``[B, C, X, Y, Z]`` float; changed in place.
        clicks: clicks outside of the volume are skipped. Two clicks of different labels on one voxel contradict each
            other; give the newer one alone.
        places: ``[N, 3]`` float, where exactly each click lies, in voxels; by default at its voxel's centre. Where two
            clicks of different labels lie less than a voxel apart there may be no logits that obey both.
        margin: by how much a clicked class leads afterwards, in logits.
        sigma: width of the Gaussian, voxels.

    Returns:
        `logits`. No host synchronisation.
    """
    last = upload([side - 1 for side in logits.shape[2:]], logits.device)
    places = (clicks.position if places is None else places).to(torch.float64)
    position = _clamped(clicks.position, last)
    known = clicks.valid & (position == clicks.position).all(1)
    corners = _Corners.of(places, last)
    cells = _Cells(logits, clicks)
    missing = _missing(logits, clicks, corners, known, margin)
    _raise_balls(cells, position, places, corners, missing, last, sigma)
    # A neighbour's ball may have taken the lead back: the clicked places themselves have the last word.
    missing = _missing(logits, clicks, corners, known, margin)
    cells.lift(corners.voxels, missing[:, None] * (corners.weight > 0))
    return logits


def class_at(logits: Tensor, place: Tensor) -> Tensor:
    """The class that leads at a place between voxels.

    Args:
        logits: ``[C, X, Y, Z]`` float.
        place: ``[3]`` float, voxels.

    Returns:
        A single class index, on the logits' device.
    """
    corners = _Corners.of(place[None].to(torch.float64), upload([side - 1 for side in logits.shape[1:]], place.device))
    x, y, z = corners.voxels[0].unbind(1)
    return (logits[:, x, y, z].float() * corners.weight[0]).sum(1).argmax()


class _Corners:
    """The voxels around places, and how much each counts in linear interpolation.

    Attributes:
        voxels: ``[N, 8, 3]`` int64; the voxels at the border stand for what lies beyond.
        weight: ``[N, 8]`` float32.
    """

    def __init__(self, voxels: Tensor, weight: Tensor) -> None:
        self.voxels, self.weight = voxels, weight

    @classmethod
    def of(cls, places: Tensor, last: Tensor) -> "_Corners":
        step = upload(torch.cartesian_prod(*[torch.arange(2)] * 3), places.device)
        first = places.floor()
        share = (places - first)[:, None]
        weight = torch.where(step == 1, share, 1 - share).prod(2).float()
        return cls(_clamped(first.long()[:, None] + step, last), weight)


def _clamped(voxels: Tensor, last: Tensor) -> Tensor:
    """Voxels ``[..., 3]``, those outside of the volume moved to its border; `last` is its last voxel."""
    return voxels.clamp(min=0).minimum(last)


def _missing(logits: Tensor, clicks: Clicks, corners: _Corners, known: Tensor, margin: float) -> Tensor:
    """``[N]``: how far each clicked class is from leading at its click by the margin; 0 where it does."""
    at_corners = logits[(clicks.batch[:, None], slice(None), *corners.voxels.unbind(2))].float()
    at_click = (at_corners * corners.weight[..., None]).sum(1)
    own = at_click.gather(1, clicks.label[:, None])
    others = at_click.scatter(1, clicks.label[:, None], -math.inf).amax(1)
    return torch.where(known, (others + margin - own[:, 0]).clamp(min=0), 0.0)


def _raise_balls(
    cells: "_Cells",
    position: Tensor,
    places: Tensor,
    corners: _Corners,
    missing: Tensor,
    last: Tensor,
    sigma: float,
) -> None:
    """Raise the clicked class around each click by a Gaussian that is worth what is missing at the click itself."""
    reach = math.ceil(3 * sigma)
    steps = torch.arange(-reach, reach + 1)
    reached = position[:, None] + upload(torch.cartesian_prod(steps, steps, steps), last.device)
    voxels = _clamped(reached, last)
    inside = (voxels == reached).all(2)
    # Of clicks outside of the volume it may be 0, where nothing is missing.
    at_click = (_gaussian(corners.voxels, places, sigma) * corners.weight).sum(1).clamp(min=1e-6)
    cells.lift(voxels, (missing / at_click)[:, None] * _gaussian(reached, places, sigma) * inside)


def _gaussian(voxels: Tensor, places: Tensor, sigma: float) -> Tensor:
    """``[N, M]`` float32: 1 at each place, less at voxels ``[N, M, 3]`` farther away from it."""
    return torch.exp(-0.5 * (voxels - places[:, None]).square().sum(2) / sigma**2).float()


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
