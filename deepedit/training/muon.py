"""Muon, an optimizer for the weights of convolutions."""

import math
from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Coefficients of the iteration: small singular values grow fast, and all end between about 0.7 and 1.2."""

ITERATIONS = 5

MOMENTUM = 0.95
"""Share of the momentum that is kept from step to step."""

SIDE_STEP = 64
"""Gram matrices are padded to a multiple of this, so that they have few sizes; those of one size form a batch."""


class Muon(torch.optim.Optimizer):
    """Moves every weight along its orthogonalised momentum, so that all directions of a layer learn equally fast.

    A weight ``[O, I, ...]`` is treated as a matrix of O rows. Parameters that are no matrices, and the last layer,
    should be trained by another optimizer.

    Args:
        weights: tensors of two or more dimensions.
        lr: spectral norm of a step, for a weight with no more rows than columns.
        weight_decay: share of a weight that is subtracted in a step, in units of `lr`.

    Source: Jordan et al., Muon: an optimizer for hidden layers in neural networks, 2024.
    """

    _step_supports_amp_scaling = True
    """Makes a GradScaler set `found_inf`, so that a step can be skipped without waiting for the device."""

    found_inf: Tensor | None = None

    def __init__(self, weights: ParamsT, lr: float, weight_decay: float = 0.0) -> None:
        super().__init__(weights, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]  # takes no closure
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if not weights:
                continue
            gradients = [weight.grad for weight in weights]
            averages = [self._momentum(weight) for weight in weights]
            moves: float | Tensor = 1.0
            if self.found_inf is not None:
                # After an overflow nothing is changed: each average is used in place of its gradient.
                moves = kept = 1 - self.found_inf
                gradients = [torch.where(kept > 0, new, old) for new, old in zip(gradients, averages, strict=True)]
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
    """Both as matrices with at most as many rows as columns; the first shares its memory with the weight."""
    matrix, direction = weight.view(len(weight), -1), direction.flatten(1)
    return (matrix, direction) if matrix.shape[0] <= matrix.shape[1] else (matrix.mT, direction.mT)


def orthogonal_factors(matrices: Sequence[Tensor], scale: float | Tensor = 1.0) -> list[Tensor]:
    """Factors that orthogonalise matrices: multiplied by its factor from the left, a matrix has singular values between
    0.7 and 1.2; tiny ones only come closer to that.

    This is the Newton-Schulz iteration of Muon, computed on the small Gram matrices. All its factors are polynomials of
    the Gram matrix, so that the large matrices are read twice instead of ten times. The Gram matrices are processed in
    batches and padded with zeros, which do not mix with the other entries.

    Args:
        matrices: ``[M, N]`` each, M at most N.
        scale: a number that the factors are multiplied by.

    Returns:
        ``[M, M]`` for each matrix; the factor of a matrix of zeros is finite.
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
    """The factors of matrices with these Gram matrices ``[K, M, M]``, which are changed in place."""
    a, b, c = COEFFICIENTS
    # The trace of a Gram matrix is the square of its matrix's norm.
    squares = grams.diagonal(dim1=1, dim2=2).sum(1)[:, None, None].clamp_min(1e-14)
    grams /= squares
    factors: Tensor | None = None
    for left in reversed(range(ITERATIONS)):
        polynomials = torch.baddbmm(grams, grams, grams, beta=b, alpha=c)
        polynomials.diagonal(dim1=1, dim2=2).add_(a)
        factors = polynomials if factors is None else polynomials @ factors
        if left:
            grams = polynomials @ grams @ polynomials
    assert factors is not None
    return factors * (squares.rsqrt() * scale)
