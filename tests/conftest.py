"""Settings of all tests."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    # Tests run beside each other: with one thread for each, they do not wait for each other's threads.
    os.environ["OMP_NUM_THREADS"] = "1"

import pytest
import torch

if not torch.cuda.is_available():
    # Read when Triton is imported: without a GPU its kernels run in its interpreter.
    os.environ["TRITON_INTERPRET"] = "1"


@pytest.fixture
def one_thread():
    """Torch computes in one thread: the same sums whatever the machine, and no threads that wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session", autouse=True)
def refiners_learn_for_few_steps():
    """At the end of every run a refiner learns, which would take longer than the rest of most runs here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("deepedit.training.refining.STEPS", 3)
        patch.setattr("deepedit.training.refining.LEAST_STEPS", 3)
        yield
