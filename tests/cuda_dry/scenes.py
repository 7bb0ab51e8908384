"""What is followed: training and sessions of a real size, with random weights and images."""

import numpy as np

from deepedit.inference.session import InteractiveSession
from deepedit.network.architectures import NETWORKS
from deepedit.network.checkpoint import Model
from deepedit.network.inputs import input_channels
from deepedit.network.refiner import build_refiner
from deepedit.network.unet import build_network
from deepedit.plan import Intensity, Labels, Plan
from deepedit.training.config import TrainingConfig
from deepedit.training.data import PreparedCase
from deepedit.training.loop import Progress, Trainer
from tests.cuda_dry.dry import DryCuda
from tests.cuda_dry.record import Record

LABELS = 7


def plan(side: int = 128, spacing: float = 1.0) -> Plan:
    labels = Labels(tuple(f"label_{value}" for value in range(1, LABELS + 1)), tuple(range(1, LABELS + 1)))
    return Plan(labels, (spacing,) * 3, (side,) * 3, Intensity("zscore", 0.5, 99.5), 1)


def model(made: Plan, network: str = "light") -> Model:
    """On cuda, in evaluation mode; to be called on the dry device."""
    classes = made.labels.num_classes
    channels = input_channels(made.image_channels, classes)
    return Model(build_network(channels, classes, NETWORKS[network], seed=0).to("cuda").eval(), made)


def session(made: Plan, shape: tuple[int, int, int], refines: bool = False) -> InteractiveSession:
    """With its image set."""
    answering = model(made)
    if refines:
        answering.refiner = build_refiner(made.image_channels, made.labels.num_classes, seed=0).to("cuda").eval()
    session = InteractiveSession(answering)
    session.set_image(image(shape))
    return session


def image(shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def blocks(shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    """Class indices: a block of every label, anywhere."""
    rng = np.random.default_rng(seed)
    classes = np.zeros(shape, np.uint8)
    for label in range(1, LABELS + 1):
        starts = rng.integers(0, shape)
        classes[tuple(slice(a, a + side // 3) for a, side in zip(starts, shape, strict=True))] = label
    return classes


def case(name: str, side: int, seed: int) -> PreparedCase:
    shape = (side,) * 3
    label = blocks(shape, seed)
    voxels = np.argwhere(label > 0)[:: max(1, side // 8)]
    rows = np.column_stack((label[tuple(voxels.T)], voxels)).astype(np.int32)
    return PreparedCase(name, image(shape, seed)[None].astype(np.float16), label, rows)


def train(dry: DryCuda, steps: int, side: int, network: str = "light", **settings: object) -> list[Record]:
    """Train, and tell what happened in each step."""
    config = TrainingConfig(epochs=1000, small_patches=0.0, clicks_from=0.0, **settings)
    made = model(plan(side), network)
    made.network.checkpointing = config.checkpointing
    trainer = Trainer(made, [case(f"case_{seed}", side + 8, seed) for seed in range(2)], config)
    records = []

    def on_step(progress: Progress) -> None:
        records.append(dry.record)
        dry.record = Record()

    dry.record = Record()
    trainer.train(on_step, stop=lambda: len(records) + 1 == steps)
    return records
