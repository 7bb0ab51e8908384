"""The simulated annotator of a training run, who makes mistakes as people do."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from deepedit.annotator import Annotator
from deepedit.clicks import dispatch
from deepedit.clicks.distance import region_box, region_depth
from deepedit.clicks.largest_error import largest_errors
from deepedit.clicks.sampling import Randomness, clicks_at, draw_cells, draw_seeds, error_regions
from deepedit.clicks.types import Clicks
from deepedit.devices import upload


def simulate_clicks(
    prediction: Tensor,
    label: Tensor,
    num_classes: int,
    annotator: Annotator | None = None,
    generator: Randomness = None,
    clicks_per_sample: int = 1,
) -> Clicks:
    """The clicks with which a user would answer a prediction, for each sample of the batch independently.

    For a click that is not placed in the deepest voxel, one candidate is drawn in the error region of every class, and
    a class is drawn with a probability proportional to its number of wrong voxels. A click always carries the true
    class of the voxel on which it ends.

    Args:
        prediction: ``[B, X, Y, Z]`` integer class indices.
        label: the same shape, the true class indices.
        num_classes: C, number of classes, background included.
        annotator: how the user clicks; default ``Annotator()``.
        generator: on the CPU, one for all samples or one for each. With one for each, a sample's clicks do not depend
            on the other samples.
        clicks_per_sample: K, the number of clicks that answer the same prediction, independently of each other.

    Returns:
        B * K clicks, ordered by sample. A click is not valid where nothing is wrong, unless it is a redundant one.
        No host synchronisation on CUDA where the fused kernels run.

    Raises:
        ValueError: if the shapes differ, or if the generators are not one for each sample or not on the CPU.
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


@dataclass(frozen=True)
class _Intent:
    """What is decided about a click before the prediction is seen. All of it is always drawn, even what is not used."""

    deepest: bool
    redundant: bool
    centre: bool
    slip: list[int]
    neighbour: list[int]
    class_noise: Tensor
    source: torch.Generator

    @property
    def evenly(self) -> bool:
        """Whether all voxels of a region are equally likely."""
        return self.redundant or not self.centre

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
    sources: list[torch.Generator | None]
    if generator is None or isinstance(generator, torch.Generator):  # noqa: SIM108  # its types would be joined
        sources = [generator] * samples
    else:
        sources = [*generator]
    if len(sources) != samples or any(source is not None and source.device.type != "cpu" for source in sources):
        raise ValueError(f"one generator, or one for each of {samples} samples, on the CPU is needed; got {sources}")
    return sources


def _one_click_each(prediction: Tensor, label: Tensor, num_classes: int, intents: Sequence[_Intent]) -> Clicks:
    drawn = [sample for sample, intent in enumerate(intents) if not intent.deepest]
    placed = [sample for sample, intent in enumerate(intents) if intent.deepest]
    rows: dict[int, tuple[Tensor, Tensor]] = {}
    if drawn:
        chosen = [intents[sample] for sample in drawn]
        rows |= zip(drawn, zip(*_drawn_voxels(prediction, label, num_classes, drawn, chosen), strict=True), strict=True)
    if placed:
        rows |= zip(placed, zip(*largest_errors(prediction, label, num_classes, placed), strict=True), strict=True)
    position, valid = (torch.stack([rows[sample][part] for sample in range(len(intents))]) for part in (0, 1))
    batch = torch.arange(len(intents), device=label.device)
    true_class = label[(batch, *position.unbind(1))].long()
    return Clicks(batch, true_class * valid, position, valid)


def _drawn_voxels(
    prediction: Tensor, label: Tensor, num_classes: int, samples: Sequence[int], intents: Sequence[_Intent]
) -> tuple[Tensor, Tensor]:
    """Voxels ``[S, 3]`` and validity ``[S]`` of the clicks of `samples`, whose clicks are drawn at random."""
    fused = dispatch.kernels_for(label.shape, label.device)
    candidates = (_fused_candidates if fused else _candidates)(prediction, label, num_classes, samples, intents)
    device = label.device
    evenly = upload([intent.redundant for intent in intents], device)
    weight = torch.where(evenly[:, None], candidates.sizes.clamp(max=1), candidates.sizes).double().log()
    noise = upload([intent.class_noise.tolist() for intent in intents], device, torch.float64)
    choice = (weight + noise).argmax(1)
    row = torch.arange(len(samples), device=device)
    valid = candidates.valid[row, choice]
    # The displacement by which the annotator misses the voxel.
    slip, step = (upload([getattr(intent, name) for intent in intents], device) for name in ("slip", "neighbour"))
    position = candidates.position[row, choice] + slip + step * candidates.reach[row, choice, None]
    border = upload([[0] * 3, [side - 1 for side in label.shape[1:]]], device)
    return position.clamp(*border) * valid[:, None], valid


@dataclass(frozen=True)
class _Candidates:
    """A voxel drawn for each sample and class.

    Attributes:
        position, valid: ``[S, C, 3]`` int64 and ``[S, C]`` bool.
        sizes: ``[S, C]``, number of voxels that it was drawn from.
        reach: ``[S, C]`` int64, its distance from the rim of its region in voxels.
    """

    position: Tensor
    valid: Tensor
    sizes: Tensor
    reach: Tensor


def _candidates(
    prediction: Tensor, label: Tensor, num_classes: int, samples: Sequence[int], intents: Sequence[_Intent]
) -> _Candidates:
    codes = torch.stack(
        [
            _right_regions(prediction[sample], label[sample], num_classes)
            if intent.redundant
            else error_regions(prediction[sample], label[sample], num_classes)
            for sample, intent in zip(samples, intents, strict=True)
        ]
    )
    limit = max(codes.shape[1:])
    box = region_box(codes)
    codes = codes[box]
    depth = region_depth(codes, limit)
    for row, intent in enumerate(intents):
        if intent.evenly:
            depth[row] = codes[row] != 0
    cell = draw_cells(codes, depth, num_classes, [intent.source for intent in intents])
    drawn = clicks_at(cell, codes.shape, [part.start or 0 for part in box[1:]])
    sizes = torch.stack([(codes == code).sum((1, 2, 3)) for code in range(1, num_classes + 1)], dim=1)
    reach = depth.flatten(1).gather(1, cell.clamp(min=0)).long()
    return _Candidates(drawn.position.view(*cell.shape, 3), drawn.valid.view(cell.shape), sizes, reach)


def _fused_candidates(
    prediction: Tensor, label: Tensor, num_classes: int, samples: Sequence[int], intents: Sequence[_Intent]
) -> _Candidates:
    """`_candidates`, computed by the fused kernels on a GPU."""
    kernels, device = dispatch.kernels_for(label.shape, label.device), label.device
    assert kernels is not None
    columns = [samples, [intent.redundant for intent in intents], [intent.evenly for intent in intents]]
    rows, right, evenly = upload(columns, device, torch.int64)
    seeds = draw_seeds([intent.source for intent in intents], len(intents), device)
    codes = kernels.error_codes(prediction.contiguous(), label.contiguous(), rows, right, num_classes <= 255)
    depth = region_depth(codes, limit=max(codes.shape[1:]))
    keys = codes.new_full((len(samples), num_classes), kernels.NO_VOXEL, dtype=torch.int64)
    sizes = torch.zeros_like(keys, dtype=torch.int32)
    kernels.draw(codes, depth, seeds, evenly, keys, sizes)
    _, _, position, valid = kernels.clicks_at_keys(keys, codes.shape[1:])
    position, valid = position.view(*keys.shape, 3), valid.view(keys.shape)
    row = torch.arange(len(samples), device=device)[:, None]
    reach = depth[(row, *position.unbind(2))].long().masked_fill_(evenly[:, None] != 0, 1)
    return _Candidates(position, valid, sizes, reach)


def _right_regions(prediction: Tensor, label: Tensor, num_classes: int) -> Tensor:
    dtype = torch.uint8 if num_classes <= 255 else torch.int32
    return label.to(dtype).add(1).mul_(prediction == label)
