"""The training loss: Dice and cross-entropy over the patch, and cross-entropy around the clicks."""

import torch
from torch import Tensor
from torch.nn import functional as F


def soft_dice(probabilities: Tensor, target: Tensor, eps: float = 1.0, known: Tensor | None = None) -> Tensor:
    """Soft Dice of every sample and foreground class.

    Args:
        probabilities: ``[B, C, X, Y, Z]``, softmax over C, class 0 the background.
        target: ``[B, X, Y, Z]`` class indices.
        eps: added to numerator and denominator, in voxels.
        known: ``[B, X, Y, Z]`` bool, the voxels that count; None: all.

    Returns:
        ``[B, C - 1]`` in (0, 1]; 1 where a class is absent from both.

    Source: Milletari et al., V-Net, 3DV 2016, eq. (3), without squares in the denominator.
    """
    labels = torch.arange(1, probabilities.shape[1], device=target.device).view(1, -1, 1, 1, 1)
    truth = (target[:, None] == labels).to(probabilities.dtype)
    foreground = probabilities[:, 1:] if known is None else probabilities[:, 1:] * known[:, None]
    overlap = (foreground * truth).sum((2, 3, 4))
    return (2 * overlap + eps) / (foreground.sum((2, 3, 4)) + truth.sum((2, 3, 4)) + eps)


def segmentation_loss(
    logits: Tensor, target: Tensor, nearness: Tensor, click_weight: float, ignoring: bool = False
) -> Tensor:
    """Dice loss plus cross-entropy, plus the mean cross-entropy around the clicks.

    Right and wrong voxels near a click count alike. If only the wrong ones counted, the network would learn to change
    everything near a click.

    Args:
        logits: ``[B, C, X, Y, Z]``.
        target: ``[B, X, Y, Z]`` class indices.
        nearness: ``[B, X, Y, Z]`` in [0, 1], 1 at the clicks; all 0 for a sample without clicks.
        click_weight: weight of the last term.
        ignoring: whether voxels with class index C, one more than the last class, are left out of every term.

    Returns:
        ``[B]``, the loss of each sample.
    """
    logits = logits.float()
    if ignoring:
        return _loss_of_known(logits, target, nearness, click_weight)
    cross_entropy = F.cross_entropy(logits, target.long(), reduction="none")
    dice = soft_dice(logits.softmax(1), target).mean(1)
    near = (cross_entropy * nearness).sum((1, 2, 3)) / nearness.sum((1, 2, 3)).clamp_min(1)
    return 1 - dice + cross_entropy.mean((1, 2, 3)) + click_weight * near


def _loss_of_known(logits: Tensor, target: Tensor, nearness: Tensor, click_weight: float) -> Tensor:
    """`segmentation_loss` of the voxels whose class is known, that is, one of those in `logits`."""
    unknown = logits.shape[1]
    known = target != unknown
    cross_entropy = F.cross_entropy(logits, target.long(), reduction="none", ignore_index=unknown)
    dice = soft_dice(logits.softmax(1), target, known=known).mean(1)
    nearness = nearness * known
    near = (cross_entropy * nearness).sum((1, 2, 3)) / nearness.sum((1, 2, 3)).clamp_min(1)
    mean = cross_entropy.sum((1, 2, 3)) / known.sum((1, 2, 3)).clamp_min(1)
    return 1 - dice + mean + click_weight * near
