"""Muon, an optimizer for the weights of convolutions."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the iteration: they carry small singular values up fast, and leave all between about 0.7 and 1.2."""

ITERATIONS = 5

MOMENTUM = 0.95
"""Share of the momentum that lasts from step to step."""


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

    def __init__(self, weights: Iterable[Tensor], lr: float, weight_decay: float = 0.0) -> None:
        super().__init__(weights, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["momentum"] = torch.zeros_like(weight)
                average = state["momentum"].lerp_(weight.grad, 1 - MOMENTUM)
                direction = orthogonalize(weight.grad.lerp(average, MOMENTUM).flatten(1))
                rows, columns = direction.shape
                rate = group["lr"] * math.sqrt(max(1, rows / columns))
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.sub_(direction.view_as(weight), alpha=rate)


def orthogonalize(matrix: Tensor) -> Tensor:
    """The matrix with its singular values carried to between 0.7 and 1.2, or on the way there if they were tiny.

    The Newton-Schulz iteration of Muon, done on the small Gram matrix: as all that it multiplies by are polynomials of
    that one matrix, the large one is touched twice and not ten times.

    Args:
        matrix: ``[M, N]``.

    Returns:
        ``[M, N]``; zeros stay zeros.
    """
    if matrix.shape[0] > matrix.shape[1]:
        return orthogonalize(matrix.mT).mT
    a, b, c = COEFFICIENTS
    matrix = matrix / matrix.norm().clamp_min(1e-7)
    gram = matrix @ matrix.mT
    factor = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    for _ in range(ITERATIONS):
        polynomial = torch.addmm(gram, gram, gram, beta=b, alpha=c)
        polynomial.diagonal().add_(a)
        factor = polynomial @ factor
        gram = polynomial @ gram @ polynomial
    return factor @ matrix
