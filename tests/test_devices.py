"""Memory that is free on a GPU."""

import pytest
import torch

from deepedit.devices import free_on_gpu


@pytest.mark.parametrize(("wanted", "free", "given_back"), [(40, 40, False), (41, 90, True), (1000, 90, True)])
def test_what_torch_keeps_of_tensors_that_are_gone_is_given_back_if_it_is_needed(monkeypatch, wanted, free, given_back):
    left, calls = [40], []

    def give_back():
        calls.append(None)
        left[0] = 90

    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (left[0], 100))
    monkeypatch.setattr(torch.cuda, "empty_cache", give_back)
    assert free_on_gpu(torch.device("cuda"), wanted) == free
    assert bool(calls) == given_back


def test_that_of_the_gpu_that_is_asked_for_is_told(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: ({None: 1, 0: 1, 1: 2}[index], 3))
    # Torch 2.4 takes no device without a number here.
    assert [free_on_gpu(torch.device(name), 0) for name in ("cuda", "cuda:0", "cuda:1")] == [1, 1, 2]
