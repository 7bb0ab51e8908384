"""What the command lines are held to when they refuse, and a model to call them with."""

from pathlib import Path

from deepedit.network.architectures import UNetConfig
from deepedit.network.checkpoint import Model, save_model
from deepedit.network.inputs import input_channels
from deepedit.network.unet import build_network
from deepedit.plan import Intensity, Labels, Plan

TINY = UNetConfig(filters=(2, 2), strides=(1, 2), kernels=(3, 3))
NEST = "[" * 100_000
LABELS = Labels(("liver", "spleen", "aorta"), (1, 2, 3))


def write_model(path, labels=LABELS, intensity=Intensity()):  # noqa: B008
    network = build_network(input_channels(1, labels.num_classes), labels.num_classes, TINY, seed=0)
    save_model(path, Model(network, Plan(labels, (6.0,) * 3, (16,) * 3, intensity), ("phantom_00",)))


def refused(result, *words):
    """One line on standard error, or a summary and a line for each problem of a dataset; `words` are in the last."""
    status, _, err = result
    assert status == 2
    assert err[0].startswith("deepedit-")
    assert len(err) == 1 or (len(err) == 2 and err[0].endswith("1 problem to mend before this dataset can be used:"))
    for word in words:
        assert word in err[-1]
    assert all(len(line) < 300 for line in err)


def files():
    """All files here, but for prepared cases, which are whole or not there at all."""
    return sorted(path for path in Path().rglob("*") if path.is_file() and "cache" not in path.parts)
