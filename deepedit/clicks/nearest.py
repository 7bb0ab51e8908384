"""Which voxels are nearer to some clicks than to others."""

from collections.abc import Sequence

import torch
from torch import Tensor

from deepedit.clicks import dispatch
from deepedit.devices import upload

FAR = 1e6
"""A distance beyond all others, voxels."""


def ownership(
    position: Tensor,
    valid: Tensor,
    newest: Tensor,
    shape: Sequence[int],
    softness: float,
    claims: Tensor | None = None,
) -> Tensor:
    """How much the answer to the newest clicks counts at each voxel, in [0, 1].

    One half where the newest click is as far away as the nearest other claim, and by a sigmoid more or less where it is
    nearer or farther; 1 where there is no other claim. Without a newest click, as in a first pass, the answer counts
    everywhere as it otherwise does at that click.

    Args:
        position: ``[B, N, 3]`` int64, voxels; clicks may lie outside of the volume.
        valid: ``[B, N]`` bool, which clicks count.
        newest: ``[B, N]`` bool, which of them were answered; the others are earlier ones, each with a claim.
        shape: ``(X, Y, Z)``.
        softness: voxels by which a claim has to be nearer for the sigmoid of 1.
        claims: ``[B]`` float32, a distance in voxels from which everything is claimed besides; None: nothing is.

    Returns:
        ``[B, X, Y, Z]`` float32. No host synchronisation.
    """
    samples, count = valid.shape
    kernels = dispatch.kernels_for((samples, *shape), position.device)
    if kernels:
        clicks = (each.contiguous() for each in (position, valid, newest))
        return kernels.ownership(*clicks, claims, tuple(shape), softness, FAR)
    groups = torch.stack([valid & newest, valid & ~newest])
    # Squares of the distances that hold where no click is nearer: of the newest clicks, and of the other claims.
    without = torch.full((2, samples), FAR, device=position.device)
    without[0] *= groups[0].any(1)
    if claims is not None:
        without[1] = without[1].minimum(claims)
    without = without.square_()[..., None, None, None]
    axes = upload(torch.cat([torch.arange(side) for side in shape]), position.device).split(list(shape))
    x, y, z = ((axis - at[..., None]).float().square_() for axis, at in zip(axes, position.unbind(2), strict=True))
    x = x.masked_fill(~groups[..., None], FAR**2)
    # A CPU goes from slab to slab, each small enough to stay in its caches.
    at_once = 2**17 if position.device.type == "cpu" else 2**27
    rows = max(1, at_once // (2 * samples * shape[1] * shape[2]))
    weight = torch.empty((samples, *shape), device=position.device)
    for start in range(0, shape[0], rows):
        slab = slice(start, start + rows)
        nearest = without.expand(-1, -1, *weight[0, slab].shape).clone()
        squares = torch.empty_like(nearest)
        for click in range(count):
            across = y[:, click, None, :, None] + z[:, click, None, None]
            torch.add(x[:, :, click, slab, None, None], across, out=squares)
            torch.minimum(nearest, squares, out=nearest)
        own, others = nearest.sqrt_()
        weight[:, slab] = (others - own).div_(softness).sigmoid_()
    return weight
