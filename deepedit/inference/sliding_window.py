"""A network over a volume of any size: overlapping windows, blended with Gaussian weights."""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from deepedit.boxes import overlap as box_overlap
from deepedit.boxes import three
from deepedit.clicks import Clicks, render_guidance
from deepedit.defaults import OVERLAP
from deepedit.devices import free_on_gpu, upload
from deepedit.inference.watch import UNWATCHED, Watch
from deepedit.network.architectures import more_than_one_voxel
from deepedit.network.checkpoint import Model
from deepedit.network.inputs import assemble_input, mixed_precision
from deepedit.plan import Plan

Triple = tuple[int, int, int]

STRETCH = 1.25
"""A volume up to this many patches long is one window along that axis: two would see less and cost twice."""

VALUES_AT_ONCE = 16 * 128**3
"""On a GPU windows go through the network together while all that goes in and comes out is no more than that, and two
always: a single small one would not fill it. A CPU is at its best with one."""

AIR_LOGIT = 10.0
"""How sure it is that what was left out as air is background."""


def sliding_window(
    model: Model,
    image: Tensor,
    clicks: Clicks | None = None,
    previous: Tensor | None = None,
    overlap: float = OVERLAP,
    amp: str = "auto",
    skip_air: bool = False,
    tta: bool = False,
    watch: Watch = UNWATCHED,
) -> Tensor:
    """Logits of a whole volume.

    They are summed up on the image's device; where its memory does not suffice for that, on the CPU.

    Args:
        model: in evaluation mode.
        image: ``[C, X, Y, Z]`` on the network's grid.
        clicks: on that grid, their `batch` 0; none unless given.
        previous: ``[X, Y, Z]`` class indices of the previous segmentation; none unless given.
        overlap: of neighbouring windows, as a share of their sides, in [0, 1).
        amp: precision, see `autocast_dtype`.
        skip_air: leave windows out in which every voxel has the image's lowest value, as air has in a CT's window,
            and no click or previous segmentation lies; they become background.
        tta: test-time augmentation where one window covers the volume, see `predict_alone`.
        watch: told of every window, and asked before it whether to go on.

    Returns:
        ``[L + 1, X, Y, Z]`` float32, on the image's device or on the CPU.
    """
    shape = image.shape[1:]
    window = window_shape(shape, model.plan.patch_size, model.network.config.divisor)
    starts = list(window_starts(shape, window, overlap))
    if len(starts) == 1:
        watch.expect(1)
        watch.check()
        alone = predict_alone(model, image, clicks, previous, starts[0], window, amp, tta)
        watch.done(1)
        return crop(alone, starts[0], shape)
    if skip_air:
        starts = [start for start in starts if not _is_air(image, clicks, previous, start, window)]
    classes = model.plan.labels.num_classes
    where = image.device if _fits(4 * (classes + 1) * math.prod(shape), image.device) else torch.device("cpu")
    weight = gaussian_weight(window, where)
    total = torch.zeros((classes, *shape), device=where)
    weights = torch.zeros(shape, device=where)
    watch.expect(len(starts))
    for group in _groups(starts, window, model.plan, image.device):
        watch.check()
        answers = predict_windows(model, image, clicks, previous, group, window, amp).to(where)
        for start, logits in zip(group, answers, strict=True):
            inside, part = box_overlap(start, window, shape)
            total[(slice(None), *inside)].addcmul_(logits[(slice(None), *part)], weight[part])
            weights[inside] += weight[part]
        watch.done(len(group))
    unseen = weights == 0
    total.div_(weights.masked_fill_(unseen, 1))
    if skip_air:
        total[0].masked_fill_(unseen, AIR_LOGIT)
    return total


@torch.inference_mode()
def predict_windows(
    model: Model,
    image: Tensor,
    clicks: Clicks | None,
    previous: Tensor | None,
    starts: Sequence[Sequence[int]],
    window: Sequence[int],
    amp: str = "auto",
) -> Tensor:
    """One pass of the network over the windows at `starts`, which may reach beyond the volume.

    Returns:
        ``[len(starts), L + 1, *window]`` float32.
    """
    plan, count, dtype = model.plan, len(starts), model.network.head.weight.dtype
    pieces = torch.stack([cut(image, start, window) for start in starts]).to(dtype)
    if not plan.previous:
        given = None
    elif previous is None:
        given = torch.zeros((count, *window), dtype=torch.uint8, device=image.device)
    else:
        given = torch.cat([cut(previous[None], start, window) for start in starts])
    guidance = render_guidance(
        _seen_from(starts, clicks, image.device),
        window,
        plan.labels.num_classes,
        count,
        plan.sigma,
        combine=plan.guidance,
    )
    # A network that has been converted as a whole, see `at_precision`, needs no conversions on the way.
    with mixed_precision(image.device, amp if dtype == torch.float32 else "off"):
        return model.network(assemble_input(pieces, guidance, given)).float()


@torch.inference_mode()
def predict_alone(
    model: Model,
    image: Tensor,
    clicks: Clicks | None,
    previous: Tensor | None,
    start: Sequence[int],
    window: Sequence[int],
    amp: str = "auto",
    tta: bool = False,
) -> Tensor:
    """Logits of a window that stands alone.

    Args:
        start, window: first voxel and sides of the window, which may reach beyond the volume.
        tta: test-time augmentation, for twice the time: the mean with a second answer, from a window that begins a
            voxel later along every axis. A network that halves its resolution answers a little differently wherever
            its window begins, as every level then samples other voxels.

    Returns:
        ``[L + 1, *window]`` float32; the first voxels along each axis are of the first answer alone.
    """
    starts = [three(start), *([three(place + 1 for place in start)] if tta else [])]
    groups = _groups(starts, window, model.plan, image.device)
    first, *second = (
        logits for each in groups for logits in predict_windows(model, image, clicks, previous, each, window, amp)
    )
    for logits in second:
        first[:, 1:, 1:, 1:].add_(logits[:, :-1, :-1, :-1]).mul_(0.5)
    return first


def _seen_from(starts: Sequence[Sequence[int]], clicks: Clicks | None, device: torch.device) -> Clicks:
    """The clicks of one volume as those of a batch of windows, each with all of them on its own grid."""
    if clicks is None:
        return Clicks.empty(device)
    count, each = len(starts), len(clicks.label)
    origin = upload(starts, device).repeat_interleave(each, 0)
    position = clicks.position.repeat(count, 1) - origin
    row = torch.arange(count, device=device).repeat_interleave(each)
    return Clicks(row, clicks.label.repeat(count), position, clicks.valid.repeat(count))


def windows_at_once(window: Sequence[int], plan: Plan, device: torch.device) -> int:
    """How many windows go through the network together, see `VALUES_AT_ONCE`."""
    if device.type != "cuda":
        return 1
    channels = plan.image_channels + 3 * plan.labels.num_classes  # image; guidance, previous segmentation and logits
    return max(2, VALUES_AT_ONCE // (channels * math.prod(window)))


def _groups(
    starts: Sequence[Triple], window: Sequence[int], plan: Plan, device: torch.device
) -> list[Sequence[Triple]]:
    """The windows, as many together as go through the network at once."""
    at_once = windows_at_once(window, plan, device)
    return [starts[first : first + at_once] for first in range(0, len(starts), at_once)]


def window_shape(shape: Sequence[int], patch_size: Sequence[int], divisor: Triple) -> Triple:
    """Sides of the windows for a volume: its own, rounded up to `divisor`, where near the patch's, else the patch's.

    Never so few voxels that the network's deepest level would be a single one.
    """
    sides = [
        multiple * math.ceil(side / multiple) if side <= STRETCH * patch else patch
        for side, patch, multiple in zip(shape, patch_size, divisor, strict=True)
    ]
    return more_than_one_voxel(sides, divisor)


def window_starts(shape: Sequence[int], window: Sequence[int], overlap: float = OVERLAP) -> Iterator[Triple]:
    """First voxels of windows that cover a volume evenly; negative where a window is larger than the volume."""
    if not 0 <= overlap < 1:
        raise ValueError(f"overlap is a share in [0, 1); got {overlap}")
    axes = []
    for size, side in zip(shape, window, strict=True):
        count = max(1, math.ceil((size - side) / (side * (1 - overlap)) - 1e-9) + 1)
        step = (size - side) / max(count - 1, 1)
        axes.append([round(index * step) for index in range(count)] if count > 1 else [(size - side) // 2])
    return ((x, y, z) for x in axes[0] for y in axes[1] for z in axes[2])


def window_around(voxel: Sequence[int], shape: Sequence[int], window: Sequence[int]) -> Triple:
    """First voxel of the window with a voxel as near to its centre as the volume allows."""
    return three(
        (size - side) // 2 if size <= side else min(max(index - side // 2, 0), size - side)
        for index, size, side in zip(voxel, shape, window, strict=True)
    )


def gaussian_weight(window: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
    """``[*window]``: the weight of a window's voxels, largest in the middle, where the network sees most around.

    Source: Isensee et al., nnU-Net, Nature Methods 2021: a Gaussian whose width is an eighth of the window's.
    """
    weight = torch.ones((), device=device)
    for axis, side in enumerate(window):
        offset = (torch.arange(side, device=device) - (side - 1) / 2) / (side / 8)
        profile = torch.exp(-0.5 * offset**2).clamp_min(1e-4)
        weight = weight * profile.view([-1 if dim == axis else 1 for dim in range(3)])
    return weight


def cut(tensor: Tensor, start: Sequence[int], window: Sequence[int]) -> Tensor:
    """``[C, *window]`` of ``[C, X, Y, Z]``, 0 where the window leaves it."""
    inside, _ = box_overlap(start, window, tensor.shape[1:])
    padding = [
        pad
        for a, side, size in reversed(list(zip(start, window, tensor.shape[1:], strict=True)))
        for pad in (max(-a, 0), max(a + side - size, 0))
    ]
    piece = tensor[(slice(None), *inside)]
    return F.pad(piece, padding) if any(padding) else piece


def crop(tensor: Tensor, start: Sequence[int], shape: Sequence[int]) -> Tensor:
    """The part of a window's ``[C, *window]`` that lies in the volume."""
    _, part = box_overlap(start, tensor.shape[1:], shape)
    return tensor[(slice(None), *part)]


def _is_air(
    image: Tensor, clicks: Clicks | None, previous: Tensor | None, start: Sequence[int], window: Sequence[int]
) -> bool:
    """Whether a window holds nothing but the lowest value of every channel, no click, and nothing segmented before."""
    inside, _ = box_overlap(start, window, image.shape[1:])
    if previous is not None and previous[inside].any():
        return False
    if clicks is not None:
        low, high = upload([[span.start for span in inside], [span.stop for span in inside]], image.device)
        if (clicks.valid & (clicks.position >= low).all(1) & (clicks.position < high).all(1)).any():
            return False
    lowest = image.flatten(1).amin(1).view(-1, 1, 1, 1)
    return bool((image[(slice(None), *inside)] == lowest).all())


def _fits(needed: int, device: torch.device) -> bool:
    """Whether that many bytes, and as many again for the network, are free on a GPU; elsewhere there is no choice."""
    return device.type != "cuda" or 2 * needed < free_on_gpu(device, 2 * needed + 1)
