"""What a click may change. Apart from a refiner, which may change the answer first, only this module decides it.

The answer replaces what was there in its window, and fades towards a rim of the window that lies inside the
volume. Where clicks correct an initial segmentation, it counts near the newest clicks only, as long as nearly all
clicks are at the border of their label there: whoever moves borders by a voxel has a good segmentation, whatever the
network makes of the image. If more clicks are inside of errors, the answer counts the farther, the less the network
agrees with the segmentation, as a share of what it expects to agree with the truth; if it finds the segmentation all
wrong, the answer replaces it everywhere. A clicked voxel that the answer leaves wrong takes its label all the same, if
the policy says so.

What the rules are worth (`benchmarks.merge_rules`): mean Dice over the first ten clicks, of three seeds, on the
hippocampus in MRI and on head and neck in CT, from the automatic result or from initial segmentations with a mean Dice
in a range. The models had no refiner. The spread between the seeds is 0.003 and 0.002. Rules that are not in the policy
any more were measured before they went, and the rows that begin with "the agreement" before the clicks decided, too.
Figures with a star are from every second case.

====================  =============================================  ===========  =============
from                  rules                                          hippocampus  head and neck
====================  =============================================  ===========  =============
the automatic result  as they are                                    0.919        0.813
..                    earlier clicks keep what is near them          0.918        0.813
..                    the same, each answer the mean of two (tta)    0.918        0.814
..                    the same, and no clicked voxel has to obey     0.917        0.812
0.93 to 0.96          as they are                                    0.957        0.954*
..                    the agreement decides, wherever clicks are     0.957        0.936
..                    the agreement as such, not as a share          0.957        0.935
..                    an answer counts everywhere                    0.917        0.834
..                    near only, whatever the network agrees with    0.957        0.953
0.60 to 0.75          as they are                                    0.915        0.786*
..                    the agreement decides, wherever clicks are     0.915        0.80*
..                    the agreement as such, not as a share          0.910        0.798
..                    an answer counts everywhere                    0.916        0.801
..                    near only, whatever the network agrees with    0.779        0.701
====================  =============================================  ===========  =============
"""

import math
from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from deepedit.clicks import Clicks, enforce_clicks
from deepedit.clicks.enforce import Places
from deepedit.clicks.nearest import within_reach
from deepedit.devices import upload
from deepedit.plan import MergePolicy

RIM = 8
"""The answer of a window fades within this part of its side from a rim that lies inside the volume."""

STEPS = torch.cat([torch.zeros(1, 3), torch.eye(3), -torch.eye(3)]).long()
"""To a voxel itself and to the six beside it."""

FEW = 5
"""An initial segmentation is good if at most one in so many clicks is inside of an error, and not at a border."""


def merge(
    before: Tensor,
    answer: Tensor,
    clicks: Clicks,
    newest: Tensor,
    policy: MergePolicy,
    *,
    places: Places | None = None,
    rim: Tensor | None = None,
    initial: Tensor | None = None,
    edited: Tensor | None = None,
    locked: Tensor | None = None,
    closed: Collection[int] = (),
) -> Tensor:
    """What is there after a click, or several that were answered together.

    Args:
        before: ``[B, C, X, Y, Z]`` logits of what was there.
        answer: ``[B, C, X, Y, Z]`` float32, the logits of the network.
        clicks: all that count, on this grid, B times N, those of the first sample first; they may lie outside of it.
        newest: ``[B * N]`` bool, those that `answer` is the answer to.
        policy: what an answer may change.
        places: where exactly the clicks lie, see `enforce_clicks`.
        rim: ``[X, Y, Z]``, see `rim_weight`; 1 everywhere unless given.
        initial: ``[B, X, Y, Z]`` class indices of the initial segmentations; None where there are none.
        edited: ``[B]`` bool, which samples began with theirs; all, unless given.
        locked: ``[B, X, Y, Z]``, at locked voxels the class index plus 1, elsewhere 0; None where nothing is locked.
        closed: the class indices that are locked, wherever their voxels are.

    Returns:
        ``[B, C, X, Y, Z]`` float32 logits. No host synchronisation.
    """
    samples, weight = len(answer), rim
    if initial is not None:
        reach = torch.where(_large_errors(initial, clicks), _reach(initial, answer, policy), policy.reach)
        if edited is not None:
            reach = torch.where(edited, reach, math.inf)
        position, counts = (each.unflatten(0, (samples, -1)) for each in (clicks.position, clicks.valid & newest))
        weight = within_reach(position, counts, reach, answer.shape[2:], policy.softness)
        weight = weight if rim is None else weight.mul_(rim)
    if weight is None:
        after = answer.clone()
    else:
        after = torch.lerp(before.float(), answer, weight.expand(samples, *answer.shape[2:])[:, None])
    if policy.enforce:
        enforce_clicks(after, clicks, places, policy.margin, policy.ball)
    return after if locked is None else keep_locked(after, locked, closed, policy.margin)


def _large_errors(initial: Tensor, clicks: Clicks) -> Tensor:
    """``[B]`` bool: whether more than one in `FEW` clicks is inside of an error, where the initial segmentation has its
    label neither at the clicked voxel nor beside it. Clicks outside of the volume do not count."""
    last = torch.tensor([initial.shape[1:]]) - 1
    steps, last = upload(torch.cat([STEPS, last]), initial.device).split([len(STEPS), 1])
    # A step out of the volume ends where it began, and a click outside of it is moved inside.
    around = (clicks.position[:, None] + steps).clamp_(min=0).minimum(last)
    x, y, z = around.unbind(2)
    inside_error = (initial[clicks.batch[:, None], x, y, z] != clicks.label[:, None]).all(1)
    counts = clicks.valid & (around[:, 0] == clicks.position).all(1)
    return (counts * (FEW * inside_error - 1)).unflatten(0, (len(initial), -1)).sum(1) > 0


def _reach(initial: Tensor, answer: Tensor, policy: MergePolicy) -> Tensor:
    """``[B]``: how far from the newest clicks the answer replaces an initial segmentation, voxels; the less the network
    agrees with it, the farther, and without end where it does not at all."""
    lowest, highest = policy.agreement
    nearness = (agreement(initial, answer) - lowest) / ((highest - lowest) * policy.reach)
    return nearness.clamp_(0, 1 / policy.reach).reciprocal_()


def agreement(initial: Tensor, answer: Tensor) -> Tensor:
    """``[B]``: how much a network agrees with a segmentation, as a share of what it expects to agree with the truth.

    Both are the Dice of the foreground, where voxels of different labels count as different. Of the truth, and of what
    it has right of it, a network expects as many voxels as its probabilities add up to. On a hard task it expects less,
    and agrees less with good segmentations, too.

    Args:
        initial: ``[B, X, Y, Z]`` class indices.
        answer: ``[B, C, X, Y, Z]`` logits.

    Returns:
        0 where the answer has no foreground; may be a little more than 1.
    """
    probabilities = answer.softmax(1)
    best, classes = probabilities.max(1)
    given = classes > 0
    found, there, both = torch.stack([given, initial > 0, (classes == initial) & given]).sum((2, 3, 4))
    right, expected = (best * given).sum((1, 2, 3)), probabilities[:, 1:].sum((1, 2, 3, 4))
    # 2 both / (found + there), by 2 right / (found + expected).
    return both * (found + expected) / ((found + there) * right).clamp_(min=1e-6)


def logits_of_initial(initial: Tensor, num_classes: int, policy: MergePolicy) -> Tensor:
    """``[B, C, X, Y, Z]`` float16 logits of initial segmentations ``[B, X, Y, Z]``, which answers are merged with."""
    classes = torch.arange(num_classes, device=initial.device).view(-1, 1, 1, 1)
    return (initial[:, None] == classes).half().mul_(2 * policy.initial_logit).sub_(policy.initial_logit)


def to_keep(logits: Tensor) -> Tensor:
    """Logits as they are kept, float16; those beyond its range become its largest, as infinite ones would be worth
    nothing: their probabilities could not be told."""
    most = torch.finfo(torch.float16).max
    return logits.half().clamp_(-most, most)


def keep_locked(logits: Tensor, locked: Tensor, closed: Collection[int], margin: float) -> Tensor:
    """Logits in which locked voxels keep their class, and no other voxel takes one that is locked.

    Args:
        logits: ``[B, C, X, Y, Z]`` float.
        locked: ``[B, X, Y, Z]``, at locked voxels the class index plus 1, elsewhere 0.
        closed: the class indices that are locked, also if none of their voxels is here.
        margin: by which they lead, and by which it stays below others elsewhere.
    """
    free = locked == 0
    own = (locked.long() - 1).clamp(min=0)[:, None]
    missing = logits.scatter(1, own, -math.inf).amax(1, keepdim=True) + margin - logits.gather(1, own)
    logits = logits.scatter_add(1, own, missing.clamp(min=0).masked_fill(free[:, None], 0))
    shut = [index in closed for index in range(logits.shape[1])]
    if all(shut):
        return logits
    lower = upload(shut, logits.device)[:, None, None, None]
    highest = logits.masked_fill(lower, -math.inf).amax(1, keepdim=True) - margin
    return torch.where(free[:, None] & lower, logits.minimum(highest), logits)


def rim_weight(place: Sequence[slice], shape: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
    """How much the answer of a single window counts by where in the window a voxel lies.

    Args:
        place: slices of the part of the window that lies in the volume.
        shape: of the volume.

    Returns:
        The weight of each voxel of `place`: 1 inside, and from an eighth of a side away from a rim less and less, so
        that no seam shows. Rims that are the volume's own do not fade.
    """
    profiles = []
    for span, size in zip(place, shape, strict=True):
        side = span.stop - span.start
        steps = torch.arange(side) + 0.5
        profile = torch.ones(side)
        if span.start > 0:
            profile = torch.minimum(profile, steps / (side / RIM))
        if span.stop < size:
            profile = torch.minimum(profile, steps.flip(0) / (side / RIM))
        profiles.append(profile)
    x, y, z = upload(torch.cat(profiles), device).split([len(profile) for profile in profiles])
    return x[:, None, None] * y[:, None] * z
