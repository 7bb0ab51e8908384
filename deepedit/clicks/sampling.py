"""Error regions of a prediction, and clicks drawn at random in them."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from deepedit.clicks import dispatch
from deepedit.clicks.distance import narrowed, region_box, region_depth
from deepedit.clicks.types import Clicks
from deepedit.devices import upload

Randomness = torch.Generator | Sequence[torch.Generator] | None


def error_regions(prediction: Tensor, label: Tensor, num_classes: int | None = None) -> Tensor:
    """The error region of every class: the voxels of that true class for which another class is predicted.

    Args:
        prediction: ``[B, X, Y, Z]`` integer class indices (any shape will do).
        label: the same shape, the true class indices, not negative.
        num_classes: number of classes, background included, if known. Up to 255 classes the codes fit uint8, which is
            several times faster to compute with.

    Returns:
        Codes of the same shape, true class + 1 where the prediction is wrong, 0 where it is right; uint8 if
        `num_classes` is given and at most 255, else int32 (to find the maximum, the host would wait for a GPU).

    Raises:
        ValueError: if the shapes differ.
    """
    if prediction.shape != label.shape:
        raise ValueError(f"prediction {tuple(prediction.shape)} and label {tuple(label.shape)} differ in shape")
    narrow = num_classes is not None and num_classes <= 255
    kernels = dispatch.kernels_for(label.shape, label.device)
    if kernels:
        return kernels.error_codes(prediction.contiguous(), label.contiguous(), None, None, narrow)
    dtype = torch.uint8 if narrow else torch.int32
    # Seen as uint8, the mask is multiplied without a conversion.
    return (label.to(dtype) + 1).mul_((prediction != label).view(torch.uint8))


def sample_clicks(regions: Tensor, num_classes: int, generator: Randomness = None) -> Clicks:
    """One click in each error region of each sample, near the middle rather than at the rim.

    A voxel at chessboard distance d from the nearest voxel of another code is drawn with probability proportional to
    exp(d) - 1, among those of the same sample and class.

    Args:
        regions: ``[B, X, Y, Z]`` codes as of `error_regions`: class + 1, or 0.
        num_classes: C, number of classes, background included.
        generator: source of randomness (default: torch's own), or one for each sample, so that a sample's clicks do
            not depend on the other samples. A CPU generator also serves tensors on CUDA: it seeds a generator there.

    Returns:
        Always B * C clicks, ordered by sample, then class. A click is not valid (and at voxel 0, 0, 0) where its class
        has no region. The same seed gives the same clicks on the same kind of device. No host synchronisation on CUDA.

    Raises:
        ValueError: if `regions` is no such tensor; on a CPU also if it has a code above `num_classes`, which on a GPU
            is not checked; if the number of generators is not that of the samples.

    Source: Sakinis et al., Interactive segmentation of medical images through fully convolutional neural networks,
    2019; the weight exp(d) - 1 is that of Diaz-Pinto et al., DeepEdit, 2022.
    """
    codes = narrowed(regions)
    limit = max(codes.shape[-3:])
    kernels = dispatch.kernels_for(codes.shape, codes.device)
    if kernels:
        seeds = draw_seeds(generator, len(codes), codes.device)
        keys = codes.new_full((len(codes), num_classes), kernels.NO_VOXEL, dtype=torch.int64)
        kernels.draw(codes.contiguous(), region_depth(codes, limit), seeds, None, keys, None)
        return Clicks(*kernels.clicks_at_keys(keys, codes.shape[1:]))
    box = region_box(codes)
    depth = region_depth(codes[box], limit)
    cell = draw_cells(codes[box], depth, num_classes, generator)
    return clicks_at(cell, codes[box].shape, [part.start or 0 for part in box[1:]])


def draw_cells(codes: Tensor, depth: Tensor, num_classes: int, generator: Randomness) -> Tensor:
    """Flat voxel index drawn for each sample and class, ``[B, C]`` int64; -1 where a class has no region.

    Args:
        codes: ``[B, X, Y, Z]``, class + 1 or 0.
        depth: the same shape; a voxel's weight is w = exp(depth) - 1, used as log w = d + log(1 - exp(-d)), since w
            itself would overflow.
    """
    sources = per_sample(generator, codes.shape[0], codes.device)
    if codes.device.type != "cpu":
        return _draw_dense(codes, depth, num_classes, sources)
    parts = zip(codes.flatten(1), depth.flatten(1), sources, strict=True)
    drawn = [_draw_listed(*part, num_classes) for part in parts]
    return torch.stack(drawn) if drawn else torch.zeros((0, num_classes), dtype=torch.int64)


def clicks_at(cell: Tensor, shape: Sequence[int], offset: Sequence[int]) -> Clicks:
    """Clicks at flat voxel indices ``[B, C]`` of a box ``[..., X, Y, Z]`` that begins at `offset`; -1 is no click."""
    samples, classes = cell.shape
    height, depth = max(shape[-2], 1), max(shape[-1], 1)
    index = cell.reshape(-1)
    axes = (index // (height * depth), index // depth % height, index % depth)
    valid = index >= 0
    position = torch.stack([(axis + start) * valid for axis, start in zip(axes, offset, strict=True)], dim=1)
    batch = torch.arange(samples, device=cell.device).repeat_interleave(classes, output_size=samples * classes)
    label = torch.arange(classes, device=cell.device).repeat(samples)
    return Clicks(batch, label, position, valid)


def per_sample(generator: Randomness, samples: int, device: torch.device) -> list[torch.Generator | None]:
    """One generator for each sample, on `device`; a generator of another device seeds a new one there."""
    return [
        source if source is None or source.device.type == device.type else _moved(source, device)
        for source in _listed(generator, samples)
    ]


def _listed(generator: Randomness, samples: int) -> list[torch.Generator | None]:
    sources: list[torch.Generator | None]
    if generator is None or isinstance(generator, torch.Generator):  # noqa: SIM108  # its types would be joined
        sources = [generator] * samples
    else:
        sources = [*generator]
    if len(sources) != samples:
        raise ValueError(f"one generator for each of {samples} samples is needed; got {len(sources)}")
    return sources


def draw_seeds(generator: Randomness, samples: int, device: torch.device) -> Tensor:
    """A seed for each sample, ``[samples]`` int64 on `device`, drawn on the device of the generator."""
    if generator is None or isinstance(generator, torch.Generator):
        source = device if generator is None else generator.device
        drawn = torch.randint(2**62, (samples,), generator=generator, device=source)
        return drawn if source.type == device.type else upload(drawn, device)
    each = [
        torch.randint(2**62, (1,), generator=source, device=device if source is None else source.device)
        for source in _listed(generator, samples)
    ]
    return torch.cat([seed if seed.device.type == device.type else upload(seed, device) for seed in each])


def _moved(source: torch.Generator, device: torch.device) -> torch.Generator:
    seed = int(torch.randint(2**62, (), generator=source))
    return torch.Generator(device).manual_seed(seed)


def _gumbel_(noise: Tensor, generator: torch.Generator | None) -> Tensor:
    """Fill float64 `noise` with Gumbel noise. Float32 noise would have 2**24 values only, and ties between
    voxels would favour one end of the volume."""
    return noise.exponential_(generator=generator).log_().neg_()


def _draw_listed(codes: Tensor, depth: Tensor, generator: torch.Generator | None, num_classes: int) -> Tensor:
    """The draw on a CPU: first a depth, weighted by how many voxels of the class have it, then one of these voxels.

    All voxels of a class at one depth have the same weight. So this draws from the same distribution with one random
    number for each depth instead of one for each voxel.
    """
    if codes.numel() and not 0 <= int(codes.min()) <= int(codes.max()) <= num_classes:
        raise ValueError(
            f"region codes are class + 1, at most {num_classes}; got {int(codes.min())}..{int(codes.max())}"
        )
    cells = np.flatnonzero((codes != 0).numpy())
    depths = int(depth.max()) + 1 if len(cells) else 1
    kinds = (num_classes + 1) * depths
    # A voxel's kind is its class and depth; in the narrowest type, since these are the only lists of all voxels.
    narrow = np.min_scalar_type(kinds)
    kind = codes.numpy()[cells].astype(narrow) * narrow.type(depths) + depth.numpy()[cells].astype(narrow)
    counts = torch.from_numpy(np.bincount(kind, minlength=kinds)).view(-1, depths)[1:]
    distance = torch.arange(depths, dtype=torch.float64)
    weight = counts.double().log() + distance + torch.log1p(-torch.exp(-distance))
    chosen = (weight + _gumbel_(torch.empty_like(weight), generator)).argmax(1)
    among = counts.gather(1, chosen[:, None])[:, 0]
    rank = (torch.rand(num_classes, dtype=torch.float64, generator=generator) * among).long()

    wanted = (torch.arange(1, num_classes + 1) * depths + chosen).tolist()
    is_wanted = np.zeros(kinds, dtype=bool)
    is_wanted[wanted] = True
    few = np.flatnonzero(is_wanted[kind])
    few_kinds = kind[few]
    drawn = [
        int(cells[few[np.flatnonzero(few_kinds == want)[nth]]]) if count else -1
        for want, nth, count in zip(wanted, rank.tolist(), among.tolist(), strict=True)
    ]
    return torch.tensor(drawn)


def _draw_dense(codes: Tensor, depth: Tensor, num_classes: int, sources: Sequence[torch.Generator | None]) -> Tensor:
    """The draw on a GPU: every voxel's log weight gets noise, and the greatest sum of each class wins (Gumbel-max).

    The host waits for no count. The maximum is first taken along x alone, over the voxels of each class. Neighbours
    mostly are of one class, and so do not all write to the same place in memory.
    """
    samples, rows = codes.shape[:2]
    index = codes.flatten(2).long()
    score = torch.empty(index.shape, dtype=torch.float64, device=codes.device)
    for noise, source in zip(score, sources, strict=True):
        _gumbel_(noise, source)
    weight = depth.flatten(2).float()
    score += weight
    score += weight.neg_().exp_().neg_().log1p_()
    best = score.new_full((samples, num_classes + 1, index.shape[2]), -torch.inf)
    top, lane = best.scatter_reduce_(1, index, score, "amax")[:, 1:].max(2)

    # The winner's row is the one that has the winning score, in the winner's column.
    column = lane[:, None].expand(samples, rows, num_classes)
    classes = torch.arange(1, num_classes + 1, device=codes.device)
    row = score.gather(2, column).where(index.gather(2, column) == classes, -torch.inf).argmax(1)
    return (row * index.shape[2] + lane).where(top > -torch.inf, -1)
