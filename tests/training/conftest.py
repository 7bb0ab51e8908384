import numpy as np
import pytest
import torch

from deepedit.network.architectures import UNetConfig
from deepedit.network.checkpoint import Model
from deepedit.network.inputs import input_channels
from deepedit.network.unet import build_network
from deepedit.plan import Intensity, Labels, Plan
from deepedit.training.data import PreparedCase

PATCH = (16, 8, 12)


def ball_case(name, seed, shape=(20, 14, 16)):
    """A case in memory: a bright ball of class 1 beside a dimmer one of class 2, in noise."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    label = np.zeros(shape, np.uint8)
    for index, centre in ((1, (6, 7, 7)), (2, (14, 7, 9))):
        label[((grid - np.array(centre) - rng.integers(-1, 2, 3)) ** 2).sum(-1) <= 12] = index
    image = (rng.normal(size=shape) * 0.3 + np.array([0.0, 2.0, 1.0])[label])[None].astype(np.float16)
    voxels = np.column_stack((label[label > 0], np.argwhere(label > 0))).astype(np.int32)
    return PreparedCase(name, image, label, voxels)


@pytest.fixture
def cases():
    return [ball_case(f"case_{seed}", seed) for seed in range(5)]


@pytest.fixture
def plan():
    return Plan(Labels(("one", "two"), (1, 2)), (1.0, 1.0, 1.0), PATCH, Intensity("zscore", 0.5, 99.5), 1)


def tiny_model(plan, seed=0):
    config = UNetConfig(filters=(4, 8), strides=(1, 2), kernels=(3, 3))
    channels = input_channels(plan.image_channels, plan.labels.num_classes)
    return Model(build_network(channels, plan.labels.num_classes, config, seed), plan)


def same(one, other):
    """Whether two networks have the same weights, to the bit."""
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


@pytest.fixture
def model(plan):
    return tiny_model(plan)


@pytest.fixture(autouse=True)
def same_sums(one_thread):
    """Sums are in an order that does not depend on how many threads a machine has."""
