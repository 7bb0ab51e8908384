"""Muon, an optimizer for the weights of convolutions."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the iteration: they carry small singular values up fast, and leave all between about 0.7 and 1.2."""

ITERATIONS = 5

MOMENTUM = 0.95
"""Share of the momentum that lasts from step to step."""

SIDE_STEP = 64
"""Gram matrices are padded to a multiple of this, so that few sizes are left, each of them one batch."""


class Muon(torch.optim.Optimizer):
    """Moves every weight along its momentum made orthogonal: all directions of a layer learn at the same pace.

    A weight ``[O, I, ...]`` is taken for a matrix of O rows. Parameters that are no matrices, and the last layer, are
    for another optimizer.

    Args:
        weights: of two dimensions or more.
        lr: spectral norm of a step, for a weight with no more rows than columns.
        weight_decay: share of a weight that is taken off in a step, in units of `lr`.

    Source: Jordan et al., Muon: an optimizer for hidden layers in neural networks, 2024.
    """

    _step_supports_amp_scaling = True
    """Asks a GradScaler for `found_inf`, so that a step that is to be skipped needs no answer from the device."""

    found_inf: Tensor | None = None

    def __init__(self, weights: Iterable[Tensor], lr: float, weight_decay: float = 0.0) -> None:
        super().__init__(weights, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if not weights:
                continue
            gradients = [weight.grad for weight in weights]
            averages = [self._momentum(weight) for weight in weights]
            moves = 1.0
            if self.found_inf is not None:
                # Nothing moves after an overflow: each average takes itself for its gradient.
                moves = 1 - self.found_inf
                gradients = [torch.where(moves > 0, new, old) for new, old in zip(gradients, averages, strict=True)]
            torch._foreach_lerp_(averages, gradients, 1 - MOMENTUM)
            directions = torch._foreach_lerp(gradients, averages, MOMENTUM)
            torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"] * moves)
            pairs = [_wide(*pair) for pair in zip(weights, directions, strict=True)]
            factors = orthogonal_factors([direction for _, direction in pairs], moves)
            for weight, (matrix, direction), factor in zip(weights, pairs, factors, strict=True):
                rows, columns = len(weight), weight[0].numel()
                rate = group["lr"] * math.sqrt(max(1, rows / columns))
                matrix.addmm_(factor, direction, alpha=-rate)

    def _momentum(self, weight: Tensor) -> Tensor:
        state = self.state[weight]
        if not state:
            state["momentum"] = torch.zeros_like(weight)
        return state["momentum"]


def _wide(weight: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """Both as matrices that are no higher than wide; the first shares its memory with the weight."""
    matrix, direction = weight.view(len(weight), -1), direction.flatten(1)
    return (matrix, direction) if matrix.shape[0] <= matrix.shape[1] else (matrix.mT, direction.mT)


def orthogonal_factors(matrices: Sequence[Tensor], scale: float | Tensor = 1.0) -> list[Tensor]:
    """What each matrix must be multiplied by, from the left, to carry its singular values to between 0.7 and 1.2, or on
    the way there if they were tiny.

    The Newton-Schulz iteration of Muon, done on the small Gram matrices: as all that it multiplies by are polynomials
    of those, the large matrices are touched twice and not ten times. The Gram matrices go through it in batches, padded
    with zeros, which stay apart from the rest.

    Args:
        matrices: ``[M, N]`` each, M at most N.
        scale: of the factors.

    Returns:
        ``[M, M]`` for each; the factor of zeros is finite.
    """
    batches = defaultdict(list)
    for number, matrix in enumerate(matrices):
        batches[SIDE_STEP * math.ceil(len(matrix) / SIDE_STEP)].append(number)
    factors = list(matrices)
    for side, numbers in batches.items():
        grams = matrices[0].new_zeros(len(numbers), side, side)
        for gram, number in zip(grams, numbers, strict=True):
            matrix = matrices[number]
            torch.mm(matrix, matrix.mT, out=gram[: len(matrix), : len(matrix)])
        for factor, number in zip(_factors(grams, scale), numbers, strict=True):
            factors[number] = factor[: len(matrices[number]), : len(matrices[number])]
    return factors


def _factors(grams: Tensor, scale: float | Tensor) -> Tensor:
    """The factors of matrices with these Gram matrices ``[K, M, M]``, which are changed."""
    a, b, c = COEFFICIENTS
    # The trace of a Gram matrix is the square of its matrix's norm.
    squares = grams.diagonal(dim1=1, dim2=2).sum(1)[:, None, None].clamp_min(1e-14)
    grams /= squares
    factors = None
    for left in reversed(range(ITERATIONS)):
        polynomials = torch.baddbmm(grams, grams, grams, beta=b, alpha=c)
        polynomials.diagonal(dim1=1, dim2=2).add_(a)
        factors = polynomials if factors is None else polynomials @ factors
        if left:
            grams = polynomials @ grams @ polynomials
    return factors * (squares.rsqrt() * scale)
