"""The simulated annotators: one that trains, with the failings of a hand, and one that evaluates, without any."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from deepedit.clicks.distance import bounding_box, region_depth
from deepedit.clicks.sampling import Randomness, clicks_at, draw_cells, error_regions
from deepedit.clicks.types import Clicks

COMPONENT_VOXELS = 2**19
"""Finding components is the host's work: in larger volumes it would hold up a GPU by more than the network takes."""


@dataclass(frozen=True)
class Annotator:
    """How the annotator of a training run clicks. The defaults make a person of average care.

    Attributes:
        deepest: share of the clicks placed as `largest_error_click` places them; nothing below touches these. In
            volumes of more than `COMPONENT_VOXELS` voxels the deepest voxel of all errors stands in for it.
        centre: share of the other clicks drawn near the middle of a region, P ~ exp(distance to its rim) - 1, as
            `sample_clicks` does; the rest fall anywhere in it.
        jitter: greatest slip along each axis, in voxels.
        neighbour: share that slips out: moved along a random axis as far as the click is from the rim, so that it
            often lands in a neighbouring region, and is then a click for that one.
        redundant: share of clicks on voxels that are already right, the class drawn evenly among those there are.
    """

    deepest: float = 0.85
    centre: float = 0.8
    jitter: int = 1
    neighbour: float = 0.05
    redundant: float = 0.05

    def __post_init__(self) -> None:
        for name in ("deepest", "centre", "neighbour", "redundant"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share from 0 to 1; got {getattr(self, name)}")
        if self.jitter < 0 or self.jitter != int(self.jitter):
            raise ValueError(f"jitter is a whole number of voxels from 0 on; got {self.jitter}")

    @classmethod
    def perfect(cls) -> "Annotator":
        """Every click in the deepest voxel of the largest error, as in evaluation."""
        return cls(deepest=1.0, centre=1.0, jitter=0, neighbour=0.0, redundant=0.0)

    @classmethod
    def steady(cls) -> "Annotator":
        """Every click drawn as `sample_clicks` draws, with a hand that never slips."""
        return cls(deepest=0.0, centre=1.0, jitter=0, neighbour=0.0, redundant=0.0)


def simulate_clicks(
    prediction: Tensor,
    label: Tensor,
    num_classes: int,
    annotator: Annotator | None = None,
    generator: Randomness = None,
    clicks_per_sample: int = 1,
) -> Clicks:
    """Clicks as a user would answer a prediction with, each sample of the batch by itself.

    A click that is not the deepest one is drawn in every class's region; the class is then drawn by the number of its
    wrong voxels. A click always carries the true class of the voxel that it ends on.

    Args:
        prediction: ``[B, X, Y, Z]`` integer class indices.
        label: the same shape, the true class indices.
        num_classes: C, number of classes, background included.
        annotator: how it clicks; default ``Annotator()``.
        generator: on the CPU, one for all or one for each sample: with the latter a sample's clicks do not depend on
            its batch.
        clicks_per_sample: K, clicks that answer the same prediction, independently of each other.

    Returns:
        B * K clicks, ordered by sample; not valid where nothing is wrong and no click for what is right was drawn.
        On CUDA only the clicks placed deepest wait for the device.

    Raises:
        ValueError: if the shapes differ, the generators are too few or not on the CPU.
    """
    annotator = annotator or Annotator()
    samples = len(prediction)
    sources = _host_generators(generator, samples)
    rounds = [
        _one_click_each(prediction, label, num_classes, [_Intent.draw(annotator, num_classes, s) for s in sources])
        for _ in range(clicks_per_sample)
    ]
    if not rounds or not samples:
        return Clicks.empty(prediction.device)
    # From round by round to sample by sample.
    entries = [torch.stack([getattr(each, name) for each in rounds], dim=1) for name in Clicks.__dataclass_fields__]
    return Clicks(*(entry.flatten(0, 1) for entry in entries))


def largest_error_click(
    prediction: Tensor | np.ndarray, label: Tensor | np.ndarray
) -> tuple[tuple[int, int, int], int] | None:
    """The click of the annotator that evaluates: the deepest voxel of the largest error.

    Of the 6-connected components of the error regions of all classes, the one with most voxels (on a tie, whose first
    voxel comes first); in it, the voxel farthest from all that is not of the component, the outside of the volume
    included (Euclidean, in voxels; on a tie, the first in index order).

    Args:
        prediction: ``[X, Y, Z]`` integer class indices, a numpy array or a tensor on the CPU.
        label: the same, the true class indices.

    Returns:
        The voxel and its true class; None where nothing is wrong.

    Raises:
        ValueError: if the shapes differ.

    Source: the protocol of Sofiiuk et al., Reviving iterative training with mask guidance for interactive
    segmentation, 2021, with all classes instead of one object.
    """
    from scipy import ndimage

    prediction, label = np.asarray(prediction), np.asarray(label)
    if prediction.shape != label.shape:
        raise ValueError(f"prediction {prediction.shape} and label {label.shape} differ in shape")
    wrong = prediction != label
    box = _box(wrong)
    if box is None:
        return None
    codes = np.where(wrong[box], label[box].astype(np.int64) + 1, 0)
    component, inner = _largest_component(codes)
    # A rim of zeros all around: whatever lies beyond the box is not of the component, nor is what lies beyond the
    # volume.
    depth = ndimage.distance_transform_edt(np.pad(component, 1))[1:-1, 1:-1, 1:-1]
    deepest = np.unravel_index(depth.argmax(), depth.shape)
    voxel = tuple(int(i + a.start + b.start) for i, a, b in zip(deepest, inner, box, strict=True))
    return voxel, int(label[voxel])


def _box(mask: np.ndarray) -> tuple[slice, ...] | None:
    """Smallest box that holds all of a mask; None if it is empty."""
    spans = []
    for axis in range(mask.ndim):
        hit = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        if not len(hit):
            return None
        spans.append(slice(int(hit[0]), int(hit[-1]) + 1))
    return tuple(spans)


def _largest_component(codes: np.ndarray) -> tuple[np.ndarray, tuple[slice, ...]]:
    """Mask of the largest 6-connected component of one code, in the box of `codes` that holds it."""
    from scipy import ndimage

    best, found = (0, 0), None
    for code, box in enumerate(ndimage.find_objects(codes), start=1):
        if box is None:
            continue
        components, _ = ndimage.label(codes[box] == code)
        sizes = np.bincount(components.ravel())[1:]
        if sizes.max() < best[0]:
            continue
        for number in np.flatnonzero(sizes == sizes.max()) + 1:
            first = np.unravel_index((components == number).argmax(), components.shape)
            start = np.ravel_multi_index([i + span.start for i, span in zip(first, box, strict=True)], codes.shape)
            if (sizes[number - 1], -start) > best or found is None:
                best, found = (sizes[number - 1], -start), (components, number, box)
    components, number, box = found
    mask = components == number
    inner = _box(mask)
    spans = tuple(slice(a.start + b.start, a.stop + b.start) for a, b in zip(inner, box, strict=True))
    return mask[inner], spans


@dataclass(frozen=True)
class _Intent:
    """What is decided about a click before the prediction is seen; drawn whole, whichever part is then used."""

    deepest: bool
    redundant: bool
    centre: bool
    slip: list[int]
    neighbour: list[int]
    class_noise: Tensor
    source: torch.Generator

    @classmethod
    def draw(cls, annotator: Annotator, num_classes: int, source: torch.Generator | None) -> "_Intent":
        deepest, redundant, centre, neighbour = torch.rand(4, dtype=torch.float64, generator=source).tolist()
        slip = torch.randint(-int(annotator.jitter), int(annotator.jitter) + 1, (3,), generator=source).tolist()
        axis, side, seed = torch.randint(2**62, (3,), generator=source).tolist()
        step = [0, 0, 0]
        if neighbour < annotator.neighbour:
            step[axis % 3] = 1 if side % 2 else -1
        noise = torch.empty(num_classes, dtype=torch.float64).exponential_(generator=source).log_().neg_()
        return cls(
            deepest=deepest < annotator.deepest,
            redundant=redundant < annotator.redundant,
            centre=centre < annotator.centre or any(step),
            slip=slip,
            neighbour=step,
            class_noise=noise,
            source=torch.Generator().manual_seed(seed),
        )


def _host_generators(generator: Randomness, samples: int) -> list[torch.Generator | None]:
    sources = [generator] * samples if generator is None or isinstance(generator, torch.Generator) else list(generator)
    if len(sources) != samples or any(source is not None and source.device.type != "cpu" for source in sources):
        raise ValueError(f"one generator, or one for each of {samples} samples, on the CPU is needed; got {sources}")
    return sources


def _one_click_each(prediction: Tensor, label: Tensor, num_classes: int, intents: Sequence[_Intent]) -> Clicks:
    sampled = [sample for sample, intent in enumerate(intents) if not intent.deepest]
    rows: dict[int, tuple[Tensor, Tensor]] = {}
    if sampled:
        chosen = [intents[sample] for sample in sampled]
        position, valid = _sampled_positions(prediction, label, num_classes, sampled, chosen)
        rows |= {sample: (position[row], valid[row]) for row, sample in enumerate(sampled)}
    for sample in set(range(len(intents))) - set(sampled):
        place = _largest_error if label[sample].numel() <= COMPONENT_VOXELS else _deepest_error
        rows[sample] = place(prediction[sample], label[sample], num_classes)
    position, valid = (torch.stack([rows[sample][part] for sample in range(len(intents))]) for part in (0, 1))
    batch = torch.arange(len(intents), device=label.device)
    true_class = label[(batch, *position.unbind(1))].long()
    return Clicks(batch, true_class * valid, position, valid)


def _largest_error(prediction: Tensor, label: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Voxel ``[3]`` and validity of `largest_error_click`; waits for the device."""
    click = largest_error_click(prediction.cpu(), label.cpu())
    voxel = torch.tensor(click[0] if click else (0, 0, 0))
    return _to(voxel, label.device), _to(torch.tensor(click is not None), label.device)


def _deepest_error(prediction: Tensor, label: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Voxel ``[3]`` farthest, by chessboard distance, from the rim of its error region, and whether there is one."""
    depth = region_depth(error_regions(prediction[None], label[None], num_classes), limit=max(label.shape))
    deepest, index = depth.flatten().max(0)
    _, height, length = label.shape
    voxel = torch.stack([index // (height * length), index // length % height, index % length])
    return voxel, deepest > 0


def _sampled_positions(
    prediction: Tensor, label: Tensor, num_classes: int, samples: Sequence[int], intents: Sequence[_Intent]
) -> tuple[Tensor, Tensor]:
    """Position ``[S, 3]`` and validity ``[S]`` of the clicks of `samples` that are drawn, not placed."""
    codes = torch.stack(
        [
            _right_regions(prediction[sample], label[sample], num_classes)
            if intent.redundant
            else error_regions(prediction[sample], label[sample], num_classes)
            for sample, intent in zip(samples, intents, strict=True)
        ]
    )
    sides = codes.shape[1:]
    box = bounding_box(codes)
    codes = codes[box]
    depth = region_depth(codes, limit=max(sides))
    for row, intent in enumerate(intents):
        if intent.redundant or not intent.centre:
            depth[row] = codes[row] != 0
    cell = draw_cells(codes, depth, num_classes, [intent.source for intent in intents])
    sizes = torch.stack([(codes == code).sum((1, 2, 3)) for code in range(1, num_classes + 1)], dim=1).double()
    evenly = _to(torch.tensor([intent.redundant for intent in intents]), codes.device)
    weight = sizes.where(~evenly[:, None], sizes.clamp(max=1)).log()
    noise = _to(torch.stack([intent.class_noise for intent in intents]), codes.device)
    choice = (weight + noise).argmax(1, keepdim=True)
    index = cell.gather(1, choice)
    valid = index[:, 0] >= 0

    index = index.clamp(min=0)
    reach = depth.flatten(1).gather(1, index).long()
    # In the whole volume again, and moved as the hand moves it.
    drawn = clicks_at(index, codes.shape, [part.start or 0 for part in box[1:]])
    slip, step = (torch.tensor([getattr(i, name) for i in intents]) for name in ("slip", "neighbour"))
    position = drawn.position + _to(slip, codes.device) + _to(step, codes.device) * reach
    inside = [axis.clamp(0, side - 1) for axis, side in zip(position.unbind(1), sides, strict=True)]
    position = torch.stack(inside, dim=1)
    return position * valid[:, None], valid


def _right_regions(prediction: Tensor, label: Tensor, num_classes: int) -> Tensor:
    dtype = torch.uint8 if num_classes <= 255 else torch.int32
    return label.to(dtype).add(1).mul_(prediction == label)


def _to(tensor: Tensor, device: torch.device) -> Tensor:
    # Not blocking: a copy to the device that waited would be a synchronisation.
    return tensor.to(device, non_blocking=True)
