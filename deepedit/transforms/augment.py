"""Random augmentation of a batch of patches, image and label alike, on the device that trains."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from deepedit.devices import upload
from deepedit.transforms.augmentation import Augmentation


def augment(
    image: Tensor,
    label: Tensor,
    shape: tuple[int, int, int],
    settings: Augmentation,
    generators: Sequence[torch.Generator],
) -> tuple[Tensor, Tensor]:
    """Cut a patch out of the middle of every sample, rotated, scaled and with changed intensities.

    Args:
        image: ``[B, C, X, Y, Z]`` float.
        label: ``[B, X, Y, Z]`` class indices; interpolated by nearest neighbour.
        shape: sides of the result in voxels, at most X, Y, Z. Voxels that come from beyond a sample's border are 0.
        settings: the ranges.
        generators: one CPU generator for each sample, so that its changes do not depend on the other samples.

    Returns:
        Image ``[B, C, *shape]`` and label ``[B, *shape]``, of the types of the arguments.
    """
    matrices = torch.stack([_random_affine(shape, settings, generator) for generator in generators])
    grid = _sampling_grid(upload(matrices, image.device), shape, image.shape[2:])
    moved = F.grid_sample(image, grid.to(image.dtype), mode="bilinear", padding_mode="zeros", align_corners=False)
    classes = F.grid_sample(label[:, None].float(), grid, mode="nearest", padding_mode="zeros", align_corners=False)
    changed = [
        _change_intensity(sample, settings, generator) for sample, generator in zip(moved, generators, strict=True)
    ]
    return torch.stack(changed), classes[:, 0].round().to(label.dtype)


def _random_affine(shape: Sequence[int], settings: Augmentation, generator: torch.Generator) -> Tensor:
    """``[3, 4]``: offsets from the result's centre to offsets from the source's centre, both in voxels."""
    draw = _Draw(generator)
    moves, turns = draw.bernoulli(settings.spatial_probability), draw.bernoulli(settings.rotation_probability)
    angles = [math.radians(draw.between(-settings.rotation, settings.rotation)) for _ in range(3)]
    # Drawn as a logarithm: doubling is as likely as halving.
    low, high = map(math.log, settings.scaling)
    zoom = torch.tensor([math.exp(draw.between(low, high)) for _ in range(3)])
    shift = [draw.between(-settings.shift, settings.shift) * side for side in shape]
    matrix = torch.eye(3, 4)
    if turns:
        matrix[:, :3] = _rotation(angles)
    if moves:
        matrix[:, :3] /= zoom[:, None]
        matrix[:, 3] = torch.tensor(shift)
    return matrix


def _rotation(angles: Sequence[float]) -> Tensor:
    """Product of the rotations about the three axes; angles in radians."""
    result = torch.eye(3)
    for axis, angle in enumerate(angles):
        i, j = (axis + 1) % 3, (axis + 2) % 3
        turn = torch.eye(3)
        turn[i, i] = turn[j, j] = math.cos(angle)
        turn[i, j], turn[j, i] = -math.sin(angle), math.sin(angle)
        result = result @ turn
    return result


def _sampling_grid(matrices: Tensor, shape: Sequence[int], source: Sequence[int]) -> Tensor:
    """``[B, *shape, 3]`` as `grid_sample` takes it: last axis first, with the source's edges at -1 and 1."""
    # An odd difference of sides would put the centres half a voxel apart and blur every patch.
    rest = torch.tensor([(big - small) % 2 / 2 for big, small in zip(source, shape, strict=True)])
    axes = [torch.arange(side, dtype=torch.float32) - (side - 1) / 2 for side in shape]
    known = torch.cat([*axes, rest, torch.tensor(source)])
    *axes, rest, sides = upload(known, matrices.device).split([*shape, 3, 3])
    offsets = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    points = (
        torch.einsum("bij,xyzj->bxyzi", matrices[:, :, :3], offsets) + (matrices[:, :, 3] - rest)[:, None, None, None]
    )
    return (points * 2 / sides).flip(-1)


def _change_intensity(sample: Tensor, settings: Augmentation, generator: torch.Generator) -> Tensor:
    """The sample ``[C, X, Y, Z]`` with the same changes to all of its channels."""
    draw = _Draw(generator)
    dims = (1, 2, 3)
    if draw.bernoulli(settings.intensity_probability):
        sample = sample + draw.between(-settings.brightness, settings.brightness) * sample.std(dims, keepdim=True)
    if draw.bernoulli(settings.intensity_probability):
        mean = sample.mean(dims, keepdim=True)
        sample = mean + (sample - mean) * draw.between(*settings.contrast)
    if draw.bernoulli(settings.intensity_probability):
        low, high = sample.amin(dims, keepdim=True), sample.amax(dims, keepdim=True)
        width = (high - low).clamp_min(1e-6)
        sample = low + ((sample - low) / width) ** draw.between(*settings.gamma) * width
    if draw.bernoulli(settings.intensity_probability):
        spread = draw.between(0, settings.noise) * sample.std(dims, keepdim=True)
        device_generator = torch.Generator(sample.device).manual_seed(draw.integer())
        noise = torch.empty_like(sample).normal_(generator=device_generator)
        sample = sample + spread * noise
    return sample


class _Draw:
    """Python numbers from a CPU generator."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * torch.rand((), generator=self.generator, dtype=torch.float64).item()

    def bernoulli(self, probability: float) -> bool:
        return self.between(0, 1) < probability

    def integer(self) -> int:
        return int(torch.randint(2**62, (), generator=self.generator))
