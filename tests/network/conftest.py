import pytest

from deepedit.network.architectures import UNetConfig
from deepedit.network.checkpoint import Model
from deepedit.network.inputs import input_channels
from deepedit.network.unet import build_network
from deepedit.plan import Intensity, Labels, Plan


def make_model(names=("liver", "spleen"), values=(1, 6), seed=0, channels=1):
    plan = Plan(Labels(names, values), (1.5, 1.5, 3.0), (16, 16, 8), Intensity("zscore", 0.5, 99.5), channels)
    config = UNetConfig(filters=(2, 4, 4), strides=(1, 2, (2, 2, 1)), kernels=(3, 3, 3))
    network = build_network(input_channels(channels, plan.labels.num_classes), plan.labels.num_classes, config, seed)
    return Model(network.eval(), plan, ("a", "b"), ("c",))


@pytest.fixture
def model():
    return make_model()
