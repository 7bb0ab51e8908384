"""What ranks refuse; what they do together is in tests/cli/test_ranks.py."""

import platform
from types import SimpleNamespace

import pytest
import torch

from deepedit.errors import DeepEditError, TrainingError
from deepedit.ranks import Ranks


class Beside(Ranks):
    """The first of two ranks; the other one has a GPU, too."""

    other = ("node", "GPU-1")

    def gather(self, value):
        return [value, self.other]


@pytest.mark.parametrize(
    ("machine", "gpu", "shared"), [("node", "GPU-1", True), ("node", "GPU-2", False), ("another", "GPU-1", False)]
)
def test_processes_that_share_a_gpu_cannot_train(monkeypatch, machine, gpu, shared):
    monkeypatch.setattr(platform, "node", lambda: machine)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid=gpu))
    monkeypatch.setattr(torch.nn.parallel, "DistributedDataParallel", lambda network, devices: "averaged")
    network = SimpleNamespace(parameters=lambda: iter([SimpleNamespace(device=torch.device("cuda"))]))
    if shared:
        with pytest.raises(TrainingError, match="2 processes have 1; start as many as there are GPUs"):
            Beside(0, 2).averaged(network)
    else:
        assert Beside(0, 2).averaged(network) == "averaged"
    assert Ranks().averaged(network) is network


def test_an_error_while_ranks_are_together_is_that_of_another_one_and_says_what_torch_said():
    told = r"^another process .* start all .*\(this process was told: lost peer\)$"
    with pytest.raises(DeepEditError, match=told), Ranks(0, 2).together():
        raise RuntimeError("lost peer\nat some line of C++")
