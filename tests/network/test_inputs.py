"""The order of the input's channels, and the precision."""

import pytest
import torch

from deepedit.errors import DeepEditError
from deepedit.network.inputs import assemble_input, autocast_dtype, input_channels, pick_device


def test_channels_are_image_then_guidance_then_previous_segmentation():
    image = torch.full((2, 1, 3, 3, 3), 5.0)
    guidance = torch.rand(2, 3, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    previous = torch.randint(0, 3, (2, 3, 3, 3), generator=torch.Generator().manual_seed(0))
    inputs = assemble_input(image, guidance, previous)
    assert inputs.shape[1] == input_channels(1, 3) == 6
    assert torch.equal(inputs[:, :1], image)
    assert torch.equal(inputs[:, 1:4], guidance)
    for label in (1, 2):
        assert torch.equal(inputs[:, 3 + label], (previous == label).float())


def test_full_precision_is_there_for_the_asking():
    assert autocast_dtype(torch.device("cpu"), "off") is None
    assert autocast_dtype(torch.device("cpu"), "auto") in (None, torch.bfloat16)
    with pytest.raises(DeepEditError, match="`amp` is auto or off; got 'fast'"):
        autocast_dtype(torch.device("cpu"), "fast")


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "", "meta:x"])
def test_a_device_that_is_not_there_is_refused(name):
    with pytest.raises(DeepEditError, match=f"device '{name}' is not there; use auto, cpu, or cuda with a GPU"):
        pick_device(name)
    assert pick_device("cpu") == pick_device(torch.device("cpu")) == torch.device("cpu")


def test_precision_is_that_of_the_gpu_that_is_used(monkeypatch):
    capabilities = {"cuda:0": (8, 0), "cuda:1": (7, 5)}
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capabilities[str(device)])
    found = [autocast_dtype(torch.device(name)) for name in capabilities]
    assert found == [torch.bfloat16, torch.float16]
