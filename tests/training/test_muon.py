"""Muon: steps that are orthogonal, whatever the gradients' scale."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deepedit.training.muon import COEFFICIENTS, ITERATIONS, MOMENTUM, Muon, orthogonal_factors


def orthogonalize(matrix):
    """One matrix, no batch: what `orthogonal_factors` must amount to."""
    if matrix.shape[0] > matrix.shape[1]:
        return orthogonalize(matrix.mT).mT
    return orthogonal_factors([matrix])[0] @ matrix


def slowly_orthogonalized(matrix):
    """The iteration as it is written, in float64."""
    a, b, c = COEFFICIENTS
    x = matrix.double() / matrix.double().norm().clamp_min(1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = a * x + b * gram @ x + c * gram @ gram @ x
    return x


def matrix(rows, columns, seed):
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 99), st.sampled_from([1e-4, 1.0, 1e6]))
def test_singular_vectors_stay_and_singular_values_come_near_one(rows, columns, seed, scale):
    given = matrix(rows, columns, seed) * scale
    result = orthogonalize(given)
    u, before, v = torch.linalg.svd(given.double(), full_matrices=False)
    after = u.mT @ result.double() @ v.mT
    torch.testing.assert_close(after - torch.diag(after.diag()), torch.zeros_like(after), atol=1e-3, rtol=0)
    # Five rounds carry what is above a hundredth of the norm all the way up, and nothing past 1.21.
    high = before > 0.01 * before.norm()
    assert (after.diag()[high] > 0.65).all()
    assert (after.diag() < 1.25).all()


@settings(deadline=None)
@given(
    shapes=st.lists(st.tuples(st.integers(1, 80), st.integers(1, 90)), min_size=1, max_size=6),
    seed=st.integers(0, 99),
    scale=st.sampled_from([1e-4, 1.0, 1e6]),
)
def test_a_batch_over_the_gram_matrices_gives_what_the_iteration_gives_for_each_matrix(shapes, seed, scale):
    matrices = [matrix(min(shape), max(shape), seed + nth) * scale for nth, shape in enumerate(shapes)]
    for each, factor in zip(matrices, orthogonal_factors(matrices), strict=True):
        torch.testing.assert_close((factor @ each).double(), slowly_orthogonalized(each), atol=1e-3, rtol=0)


@settings(deadline=None, max_examples=20)
@given(
    shapes=st.lists(
        st.sampled_from([(8, 24), (24, 8), (4, 6, 3, 3, 3), (70, 2, 1, 1, 1), (1, 1), (66, 67)]), min_size=1, max_size=6
    ),
    seed=st.integers(0, 99),
)
def test_a_step_is_that_of_every_weight_by_itself(shapes, seed):
    weights = [
        torch.nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(seed))) for shape in shapes
    ]
    expected = [weight.detach().clone() for weight in weights]
    momenta = [torch.zeros_like(weight) for weight in expected]
    optimizer = Muon(weights, lr=0.1, weight_decay=0.5)
    for step in range(3):
        for nth, weight in enumerate(weights):
            weight.grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(1000 * step + nth))
            momenta[nth].lerp_(weight.grad, 1 - MOMENTUM)
            direction = slowly_orthogonalized(weight.grad.lerp(momenta[nth], MOMENTUM).flatten(1))
            rate = 0.1 * max(1, direction.shape[0] / direction.shape[1]) ** 0.5
            expected[nth] = expected[nth] * (1 - 0.1 * 0.5) - rate * direction.view_as(weight).float()
        optimizer.step()
    for weight, right, momentum in zip(weights, expected, momenta, strict=True):
        torch.testing.assert_close(weight.detach(), right, atol=1e-3, rtol=0)
        assert torch.equal(optimizer.state[weight]["momentum"], momentum)


def test_a_step_that_overflowed_moves_nothing():
    weights = [torch.nn.Parameter(matrix(4, 6, seed)) for seed in range(3)]
    optimizer = Muon(weights, lr=0.1, weight_decay=0.1)
    for weight in weights:
        weight.grad = matrix(4, 6, seed=7)
    optimizer.step()
    before = [(weight.detach().clone(), optimizer.state[weight]["momentum"].clone()) for weight in weights]
    weights[1].grad = torch.full((4, 6), torch.inf)
    weights[2].grad = torch.full((4, 6), torch.nan)
    optimizer.found_inf = torch.ones(())
    optimizer.step()
    for weight, (place, momentum) in zip(weights, before, strict=True):
        assert torch.equal(weight, place)
        assert torch.equal(optimizer.state[weight]["momentum"], momentum)


def test_zeros_stay_zeros():
    assert torch.equal(orthogonalize(torch.zeros(3, 5)), torch.zeros(3, 5))


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon of its own")
@pytest.mark.parametrize("shape", [(8, 24), (24, 8)])
def test_steps_are_those_of_torch_on_matrices(shape):
    ours, theirs = (torch.nn.Parameter(matrix(*shape, seed=0)) for _ in range(2))
    one = Muon([ours], lr=0.02, weight_decay=0.1)
    other = torch.optim.Muon([theirs], lr=0.02, weight_decay=0.1, momentum=0.95, adjust_lr_fn="original")
    for step in range(6):
        ours.grad = theirs.grad = matrix(*shape, seed=1 + step)
        one.step()
        other.step()
    # Torch's iterates in bfloat16.
    torch.testing.assert_close(ours, theirs, atol=0.02 * 6 * 0.01, rtol=0)


def test_a_kernel_is_a_matrix_with_a_row_for_each_output():
    kernel = torch.nn.Parameter(matrix(4, 6 * 27, seed=0).view(4, 6, 3, 3, 3))
    flat = torch.nn.Parameter(kernel.detach().flatten(1).clone())
    kernel.grad = matrix(4, 6 * 27, seed=1).view_as(kernel)
    flat.grad = kernel.grad.flatten(1)
    for weight in (kernel, flat):
        Muon([weight], lr=0.1).step()
    assert torch.equal(kernel.flatten(1), flat)


def test_a_weight_without_a_gradient_stays():
    weight = torch.nn.Parameter(matrix(3, 3, seed=0))
    before = weight.detach().clone()
    Muon([weight], lr=0.1, weight_decay=0.1).step()
    assert torch.equal(weight, before)
