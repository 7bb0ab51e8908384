"""Muon: steps that are orthogonal, whatever the gradients' scale."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deepedit.training.muon import Muon, orthogonalize


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
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 99))
def test_the_short_way_over_the_gram_matrix_gives_what_the_iteration_gives(rows, columns, seed):
    given = matrix(rows, columns, seed)
    slow = given.double() / given.double().norm()
    for _ in range(5):
        gram = slow @ slow.mT
        slow = 3.4445 * slow - 4.7750 * gram @ slow + 2.0315 * gram @ gram @ slow
    torch.testing.assert_close(orthogonalize(given), slow.float(), atol=1e-3, rtol=0)


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
