"""How far each voxel is from clicks."""

from collections.abc import Sequence

import torch
from torch import Tensor

from deepedit.clicks import dispatch
from deepedit.devices import upload

FAR = 1e6
"""A distance beyond all others, voxels."""


def click_distances(position: Tensor, groups: Tensor, shape: Sequence[int]) -> Tensor:
    """Euclidean distance of each voxel to the nearest click of a group.

    Args:
        position: ``[B, N, 3]`` int64, voxels; clicks may lie outside of the volume.
        groups: ``[G, B, N]`` bool, which clicks belong to which group.
        shape: ``(X, Y, Z)``.

    Returns:
        ``[G, B, X, Y, Z]`` float32, voxels; 1e6 where a group has no click. No host synchronisation.
    """
    samples, count = position.shape[:2]
    kernels = dispatch.kernels_for((samples, *shape), position.device)
    if kernels:
        return kernels.click_distances(position.contiguous(), groups.contiguous(), tuple(shape), FAR)
    axes = upload(torch.cat([torch.arange(side) for side in shape]), position.device).split(list(shape))
    x, y, z = ((axis - at[..., None]).float().square_() for axis, at in zip(axes, position.unbind(2), strict=True))
    x = x.masked_fill(~groups[..., None], FAR**2)
    result = torch.full((len(groups), samples, *shape), FAR**2, device=position.device)
    # A CPU goes from slab to slab, each small enough to stay in its caches.
    at_once = 2**17 if position.device.type == "cpu" else 2**27
    plane = len(groups) * samples * shape[1] * shape[2]
    together = max(1, min(count, at_once // plane))
    rows = max(1, at_once // (plane * together))
    for first in range(0, count, together):
        part = slice(first, first + together)
        across = y[:, part, :, None] + z[:, part, None]
        for start in range(0, shape[0], rows):
            slab = slice(start, start + rows)
            nearest = (x[:, :, part, slab, None, None] + across[:, :, None]).amin(2)
            torch.minimum(result[:, :, slab], nearest, out=result[:, :, slab])
    return result.sqrt_()
