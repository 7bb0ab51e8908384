"""Which voxels lie near clicks."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from deepedit.clicks import dispatch
from deepedit.devices import upload


def within_reach(position: Tensor, valid: Tensor, reach: Tensor, shape: Sequence[int], softness: float) -> Tensor:
    """How far each voxel lies within reach of its nearest click, in [0, 1].

    ``sigmoid((reach - distance) / softness)``: one half at a distance of `reach`, more where a click is nearer. In a
    sample without clicks every voxel counts as clicked, as its distance is 0.

    Args:
        position: ``[B, N, 3]`` int64, voxels; clicks may lie outside of the volume.
        valid: ``[B, N]`` bool, which clicks count.
        reach: ``[B]`` float32, voxels; may be infinite.
        shape: ``(X, Y, Z)``.
        softness: voxels by which a click has to be nearer for the sigmoid of 1.

    Returns:
        ``[B, X, Y, Z]`` float32. No host synchronisation.
    """
    samples, count = valid.shape
    kernels = dispatch.kernels_for((samples, *shape), position.device)
    if kernels:
        clicks = (each.contiguous() for each in (position, valid, reach))
        return kernels.within_reach(*clicks, tuple(shape), softness)
    # Squares of the distances where no click is nearer.
    without = torch.zeros(samples, device=position.device).masked_fill_(valid.any(1), math.inf)[:, None, None, None]
    axes = upload(torch.cat([torch.arange(side) for side in shape]), position.device).split(list(shape))
    x, y, z = ((axis - at[..., None]).float().square_() for axis, at in zip(axes, position.unbind(2), strict=True))
    x = x.masked_fill(~valid[..., None], math.inf)
    reach = reach[:, None, None, None]
    # A CPU goes from slab to slab, each small enough to stay in its caches.
    at_once = 2**16 if position.device.type == "cpu" else 2**26
    rows = max(1, at_once // (samples * shape[1] * shape[2]))
    weight = torch.empty((samples, *shape), device=position.device)
    for start in range(0, shape[0], rows):
        slab = slice(start, start + rows)
        nearest = without.expand_as(weight[:, slab]).clone()
        squares = torch.empty_like(nearest)
        for click in range(count):
            across = y[:, click, None, :, None] + z[:, click, None, None]
            torch.add(x[:, click, slab, None, None], across, out=squares)
            torch.minimum(nearest, squares, out=nearest)
        weight[:, slab] = (reach - nearest.sqrt_()).div_(softness).sigmoid_()
    return weight
