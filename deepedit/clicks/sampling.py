"""Where a prediction is wrong, and clicks sampled or placed there."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from deepedit.clicks.distance import bounding_box, narrowed, region_depth
from deepedit.clicks.types import Clicks

Randomness = torch.Generator | Sequence[torch.Generator] | None


def error_regions(prediction: Tensor, label: Tensor, num_classes: int | None = None) -> Tensor:
    """The error region of every class: voxels whose true class it is and whose predicted class is another.

    Args:
        prediction: ``[B, X, Y, Z]`` integer class indices (any shape will do).
        label: the same shape, the true class indices, not negative.
        num_classes: number of classes, background included, if known: up to 255 the codes fit uint8, which is several
            times faster to work on.

    Returns:
        Codes of the same shape, true class + 1 where the prediction is wrong, 0 where it is right; uint8 if
        `num_classes` is at most 255, else int32 (a maximum would have to be waited for).

    Raises:
        ValueError: if the shapes differ.
    """
    if prediction.shape != label.shape:
        raise ValueError(f"prediction {tuple(prediction.shape)} and label {tuple(label.shape)} differ in shape")
    dtype = torch.uint8 if num_classes is not None and num_classes <= 255 else torch.int32
    return label.to(dtype).add(1).mul_(prediction != label)


def sample_clicks(regions: Tensor, num_classes: int, generator: Randomness = None) -> Clicks:
    """One click in each error region of each sample, near the middle rather than at the rim.

    A voxel at chessboard distance d from the nearest voxel of another code is drawn with probability proportional to
    exp(d) - 1, among those of the same sample and class.

    Args:
        regions: ``[B, X, Y, Z]`` codes as of `error_regions`: class + 1, or 0.
        num_classes: C, number of classes, background included.
        generator: source of randomness, or one for each sample, so that a sample's clicks do not depend on its batch.
            A CPU generator serves tensors on CUDA as well: it seeds one there.

    Returns:
        Always B * C clicks, ordered by sample, then class; not valid (and at voxel 0, 0, 0) where a class has no
        region. The same seed gives the same clicks on the same kind of device. No host synchronisation on CUDA.

    Source: Sakinis et al., Interactive segmentation of medical images through fully convolutional neural networks,
    2019; the weight exp(d) - 1 is that of Diaz-Pinto et al., DeepEdit, 2022.
    """
    codes = narrowed(regions)
    box = bounding_box(codes)
    depth = region_depth(codes[box], limit=max(codes.shape[-3:]))
    cell = draw_cells(codes[box], depth, num_classes, generator)
    return clicks_at(cell, codes[box].shape, [part.start or 0 for part in box[1:]])


def draw_cells(codes: Tensor, depth: Tensor, num_classes: int, generator: Randomness) -> Tensor:
    """Flat voxel index drawn for each sample and class, ``[B, C]`` int64; -1 where a class has no region.

    Args:
        codes: ``[B, X, Y, Z]``, class + 1 or 0.
        depth: the same shape; a voxel's weight is exp(depth) - 1.
    """
    draw = _draw_listed if codes.device.type == "cpu" else _draw_dense
    cells = [
        draw(codes[sample].reshape(-1), depth[sample].reshape(-1), num_classes, source)
        for sample, source in enumerate(per_sample(generator, codes.shape[0], codes.device))
    ]
    return torch.stack(cells) if cells else torch.zeros((0, num_classes), dtype=torch.int64, device=codes.device)


def clicks_at(cell: Tensor, shape: Sequence[int], offset: Sequence[int]) -> Clicks:
    """Clicks of flat indices ``[B, C]`` into a box ``[..., X, Y, Z]`` that begins at `offset`; -1 is no click."""
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
    """One generator a sample, on `device`; where it is not there already, one seeded from it is."""
    sources = [generator] * samples if generator is None or isinstance(generator, torch.Generator) else list(generator)
    if len(sources) != samples:
        raise ValueError(f"one generator for each of {samples} samples is needed; got {len(sources)}")
    return [
        source if source is None or source.device.type == device.type else _moved(source, device) for source in sources
    ]


def _moved(source: torch.Generator, device: torch.device) -> torch.Generator:
    seed = int(torch.randint(2**62, (), generator=source))
    return torch.Generator(device).manual_seed(seed)


def _log_weight(depth: Tensor) -> Tensor:
    """log(exp(d) - 1), which would overflow as it is written; -inf at 0."""
    return depth + torch.log1p(-torch.exp(-depth))


def _gumbel(shape: Sequence[int], device: torch.device, generator: torch.Generator | None) -> Tensor:
    # float64: float32 noise has 2**24 values, and the voxels that tie for the greatest would favour one end.
    noise = torch.empty(shape, dtype=torch.float64, device=device)
    return noise.exponential_(generator=generator).log_().neg_()


def _draw_listed(codes: Tensor, depth: Tensor, num_classes: int, generator: torch.Generator | None) -> Tensor:
    """The draw for a CPU: first the depth, by how many voxels of the class have it, then one of those voxels.

    All voxels of a class at one depth weigh the same, so that this is the same distribution with a random number for
    each depth instead of each voxel.
    """
    cells = np.flatnonzero((codes != 0).numpy())
    depths = int(depth.max()) + 1 if depth.numel() else 1
    key = codes.numpy()[cells].astype(np.int64) * depths + depth.numpy()[cells]
    counts = torch.from_numpy(np.bincount(key, minlength=(num_classes + 1) * depths)).reshape(-1, depths)[1:]
    weights = counts.double().log() + _log_weight(torch.arange(depths, dtype=torch.float64))
    chosen = (weights + _gumbel(weights.shape, weights.device, generator)).argmax(1, keepdim=True)
    among = counts.gather(1, chosen).squeeze(1)
    rank = (torch.rand(num_classes, dtype=torch.float64, generator=generator) * among).long().numpy()

    wanted = (torch.arange(1, num_classes + 1) * depths + chosen.squeeze(1)).numpy()
    is_wanted = np.zeros((num_classes + 1) * depths, dtype=bool)
    is_wanted[wanted] = True
    hits = np.flatnonzero(is_wanted[key])
    hits = hits[np.argsort(key[hits], kind="stable")]
    first = np.searchsorted(key[hits], wanted)
    found = among.numpy() > 0
    drawn = np.full(num_classes, -1, dtype=np.int64)
    drawn[found] = cells[hits[(first + rank)[found]]]
    return torch.from_numpy(drawn)


def _draw_dense(codes: Tensor, depth: Tensor, num_classes: int, generator: torch.Generator | None) -> Tensor:
    """The draw for a GPU: noise for each voxel, the greatest of each class wins (the Gumbel-max trick).

    Nothing waits for a count. The maximum is taken in two steps, first over voxels that are `lanes` apart, so that
    neighbours, which mostly have one class, do not queue for the same cell of memory.
    """
    total = codes.numel()
    lanes = min(total, 1 << 14)
    rows = -(-total // lanes)
    score = _log_weight(depth.float()) + _gumbel((total,), codes.device, generator)
    score = torch.nn.functional.pad(score, (0, rows * lanes - total), value=-torch.inf).view(rows, lanes)
    index = torch.nn.functional.pad(codes.long(), (0, rows * lanes - total)).view(rows, lanes)
    best = torch.full((num_classes + 1, lanes), -torch.inf, dtype=score.dtype, device=codes.device)
    best.scatter_reduce_(0, index, score, "amax")
    top, lane = best[1:].max(1)
    # The winner's column again, where its row is the one with the winning score.
    column = score[:, lane].where(index[:, lane] == torch.arange(1, num_classes + 1, device=codes.device), -torch.inf)
    cell = column.argmax(0) * lanes + lane
    return cell.where(top > -torch.inf, -1)
