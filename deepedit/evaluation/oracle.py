"""What clicks would be worth if each repaired the whole error that it stands in: the most that can be asked of them."""

from collections import Counter

import numpy as np

from deepedit.clicks.largest_error import error_components

LEAST_GAIN = 0.005
"""Dice that the oracle has to gain for a share of it to mean anything."""


def oracle_dice(
    classes: np.ndarray, truth: np.ndarray, num_classes: int, max_clicks: int, max_per_class: int | None = None
) -> np.ndarray:
    """Dice against clicks, if each click sets the whole 6-connected component of the error that it stands in to the
    true class.

    The annotator is that of `annotate`, and looks at the oracle's own state after each click. That state differs from
    the one before by one error component less, and the others stay what they were. So the clicks go to the components
    of the first state in the order of their sizes, and those are found once.

    Args:
        classes: ``[X, Y, Z]`` class indices before the first click.
        truth: the same, the true ones.
        num_classes: number of classes, background included.
        max_clicks, max_per_class: as of `annotate`.

    Returns:
        ``[clicks + 1, labels]``, the Dice of each label after 0, 1, ... clicks; fewer than `max_clicks` are made if
        nothing is wrong any more.
    """
    # Slab by slab, since bincount makes a copy with 8 bytes a voxel.
    size = np.zeros(num_classes, np.int64)
    for slab in truth:
        size += np.bincount(slab.ravel(), minlength=num_classes)
    wrong = classes != truth
    missed = np.bincount(truth[wrong], minlength=num_classes)
    excess = np.bincount(classes[wrong], minlength=num_classes)
    scores = [_dice(size, missed, excess)]
    made: Counter[int] = Counter()
    for component in error_components(classes, truth):
        if len(scores) > max_clicks:
            break
        if max_per_class is not None:
            counted = component.counts_for(classes)
            if made[counted] == max_per_class:
                continue
            made[counted] += 1
        replaced = np.bincount(classes[component.box][component.mask], minlength=num_classes)
        missed[component.label] -= replaced.sum()
        excess -= replaced
        scores.append(_dice(size, missed, excess))
    return np.array(scores)


def repaired_share(without: float, dice: float, oracle: float) -> float | None:
    """The share of what clicks could repair that they did repair.

    Args:
        without: Dice without clicks.
        dice: Dice after some clicks.
        oracle: Dice after as many clicks of the oracle.

    Returns:
        1 if the clicks are as good as the oracle's; below 0 if they lower Dice; None if there is nothing to repair,
        which is where the oracle gains less than `LEAST_GAIN`.
    """
    gain = oracle - without
    return (dice - without) / gain if gain >= LEAST_GAIN else None


def _dice(size: np.ndarray, missed: np.ndarray, excess: np.ndarray) -> list[float]:
    """Dice of the foreground classes from the numbers of their true, missed and excess voxels; 1 where a class is
    absent from both."""
    hit, total = 2 * (size - missed)[1:], (2 * size - missed + excess)[1:]
    return np.divide(hit, total, out=np.ones(len(total)), where=total > 0).tolist()
