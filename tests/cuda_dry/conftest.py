import pytest

from tests.cuda_dry.dry import DryCuda
from tests.cuda_dry.guard import load_guard


@pytest.fixture
def dry_cuda():
    """The class; a test is skipped where there is nothing to compile a device guard with."""
    problem = load_guard()
    if problem:
        pytest.skip(problem)
    return DryCuda


@pytest.fixture
def dry(dry_cuda):
    """The device, and with it ``dry.record``."""
    with dry_cuda() as device:
        yield device
