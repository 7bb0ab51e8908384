"""Settings of the click tests."""

import pytest
import torch
from hypothesis import settings

from deepedit.clicks import dispatch
from tests.devices import NEEDS_GPU

# A busy machine is no reason for a property to fail.
settings.register_profile("clicks", deadline=None)
settings.load_profile("clicks")


@pytest.fixture(
    params=[
        pytest.param(
            "cpu",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="with a GPU the kernels are not interpreted"),
        ),
        pytest.param("cuda", marks=NEEDS_GPU),
    ]
)
def fused(request, monkeypatch):
    """Click simulation by the fused kernels: in Triton's interpreter, or on a GPU; which device that is."""
    pytest.importorskip("triton", reason="Triton is not installed")
    from deepedit.clicks import kernels

    monkeypatch.setattr(dispatch, "kernels_for", lambda shape, device: kernels)
    if request.param == "cpu":
        # Interpreted, an operation takes as long on many voxels as on few.
        monkeypatch.setattr(kernels.launch, "BLOCK", 2**12)
        monkeypatch.setattr(kernels.launch, "SEARCH", 2**11)
    return torch.device(request.param)
