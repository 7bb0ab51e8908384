"""Chessboard distance inside regions, exact, for every region of a batch in one pass."""

import torch
from torch import Tensor

from deepedit.boxes import bounding_box, grown
from deepedit.clicks import dispatch


def chessboard_distance(regions: Tensor) -> Tensor:
    """Distance of each voxel of a region to the nearest voxel of another code.

    The chessboard distance between two voxels is the greatest of the differences of their three indices. Where regions
    of different codes touch, each ends at the other, so that one pass computes all of them and its cost does not
    depend on their number.

    Args:
        regions: bool or integer ``[..., X, Y, Z]``; 0 is no region, any other value is a region's code.

    Returns:
        int32 of the same shape; 0 where the code is 0. The border of the volume does not end a region: in a volume
        that is all one code, the distance is max(X, Y, Z) everywhere. For a mask that is 0 somewhere, the result equals
        ``scipy.ndimage.distance_transform_cdt(regions, metric="chessboard")``.

    Raises:
        ValueError: if `regions` is not boolean or integer, or has fewer than three axes.

    No host synchronisation on CUDA, and no loop that depends on the data there.
    """
    codes = narrowed(regions)
    limit = max(codes.shape[-3:])
    if codes.device.type != "cpu":
        return region_depth(codes, limit).to(torch.int32).reshape(regions.shape)
    distance = torch.zeros(codes.shape, dtype=torch.int32)
    box = region_box(codes)
    distance[box] = region_depth(codes[box], limit)
    return distance.reshape(regions.shape)


def region_depth(codes: Tensor, limit: int) -> Tensor:
    """`chessboard_distance` of narrow codes ``[B, X, Y, Z]``, in the narrowest type that holds `limit`.

    The depth is first counted from the rim of each region, which is made of the voxels that touch another code. For
    every voxel the rim is exactly one voxel nearer than the nearest other code, whatever the codes are.

    The distance to the rim is not grown voxel by voxel: each round doubles the distance up to which it is known. With
    ``D_R = min(distance, R)``,

        D_2R(p) = D_R(p) + min of D_R over the cube of radius R around p,

    since the chessboard distance of a voxel beyond R is R more than the least distance among the voxels up to R away,
    and for all other voxels that least distance is 0. So a volume of side S takes log2(S) rounds, whatever is in it.
    On a GPU, fused kernels work along one axis after another instead, see `kernels.line_distance`.

    Args:
        codes: uint8 or a signed integer type.
        limit: max(X, Y, Z) of the whole volume, which is the depth where there is no other code.
    """
    kernels = dispatch.kernels_for(codes.shape, codes.device)
    if kernels:
        codes = codes.contiguous()
        depth = kernels.run_distance(codes, limit)
        for axis in (1, 0):
            depth = kernels.line_distance(codes, depth, axis)
        return depth
    # Seen as uint8, since arithmetic of mixed types costs a conversion each time.
    inside = (codes != 0).view(torch.uint8)
    uniform = (_cube_min(codes, 1) == ~_cube_min(~codes, 1)).view(torch.uint8)
    depth = uniform.bitwise_and_(inside).to(_narrowest(limit))
    reach = 1
    while reach < limit - 1:
        # Only where asking costs nothing: on a CPU the rounds end with the deepest region.
        if codes.device.type == "cpu" and (not depth.numel() or int(depth.max()) < reach):
            break
        depth += _cube_min(depth, reach).clamp_(max=limit - 1 - reach)
        reach *= 2
    return depth.clamp_(max=limit - 1).add_(1).mul_(inside)


def _narrowest(limit: int) -> torch.dtype:
    return next(dtype for dtype in (torch.uint8, torch.int16, torch.int64) if limit <= torch.iinfo(dtype).max)


def narrowed(regions: Tensor) -> Tensor:
    """Regions as ``[B, X, Y, Z]`` codes, in the narrowest suitable type that is known without
    waiting for a GPU."""
    if regions.is_floating_point() or regions.is_complex() or regions.ndim < 3:
        raise ValueError(f"regions are bool or integer [..., X, Y, Z]; got {regions.dtype} {tuple(regions.shape)}")
    codes = regions.reshape(-1, *regions.shape[-3:])
    if codes.dtype in (torch.bool, torch.uint8):
        return codes.to(torch.uint8)
    codes = codes if codes.dtype.is_signed else codes.to(torch.int64)
    if codes.device.type == "cpu" and codes.numel() and codes.min() >= 0 and codes.max() <= 255:
        return codes.to(torch.uint8)
    return codes


def region_box(codes: Tensor) -> tuple[slice, ...]:
    """Index of the part of ``[B, X, Y, Z]`` that holds all regions and one voxel around them.

    On a CPU this saves the work outside of that part. On CUDA finding it would wait for the device, so that there the
    index covers the whole tensor.
    """
    if codes.device.type != "cpu" or not codes.numel():
        return (slice(None),) * 4
    # By numpy: torch's threads would cost more than they save here.
    box = bounding_box((codes.numpy() != 0).any(0))
    return (slice(None), *(grown(box, 1, codes.shape[1:]) if box else (slice(0, 1),) * 3))


def _cube_min(volume: Tensor, radius: int) -> Tensor:
    """Minimum over the cube of `radius` around each voxel, as far as it lies within the volume."""
    samples, width, height, depth = volume.shape
    # Rows end in `radius` neutral voxels, so that the last axis can be shifted as one long row: short strided rows
    # would cost ten times as much on a CPU.
    row = depth + radius
    padded = volume.new_full((samples, width, height, row), torch.iinfo(volume.dtype).max)
    padded[..., :depth] = volume
    for shape in (
        (samples, width, height * row),
        (samples * width, height, row),
        (1, samples * width * height * row, 1),
    ):
        padded = _window_min(padded.view(shape), radius)
    return padded.view(samples, width, height, row)[..., :depth]


def _window_min(lines: Tensor, radius: int) -> Tensor:
    """Minimum over ``[p - radius, p + radius]`` along axis 1 of ``[outer, n, inner]``, in log2(radius) steps."""
    reach = 0
    while reach < min(radius, lines.shape[1] - 1):
        # Three windows side by side make the wider one. With a step of at most reach + 1 they also do so near an
        # end, where one of them is missing.
        step = min(reach + 1, radius - reach)
        wider = lines.clone()
        torch.minimum(wider[:, step:], lines[:, :-step], out=wider[:, step:])
        torch.minimum(wider[:, :-step], lines[:, step:], out=wider[:, :-step])
        lines = wider
        reach += step
    return lines
