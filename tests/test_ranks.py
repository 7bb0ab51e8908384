"""What ranks refuse; what they do together is in tests/cli/test_ranks.py."""

from types import SimpleNamespace

import pytest
import torch

from deepedit.errors import TrainingError
from deepedit.ranks import Ranks


def test_more_processes_than_gpus_cannot_train(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    network = SimpleNamespace(parameters=lambda: iter([SimpleNamespace(device=torch.device("cuda"))]))
    with pytest.raises(TrainingError, match="1 for 2 processes; start 1"):
        Ranks(0, 2).averaged(network)
    assert Ranks().averaged(network) is network
