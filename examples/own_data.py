"""Train on volumes that lie in memory, as they may come out of a database: without a dataset folder.

python examples/own_data.py model.pt
"""

import sys

import numpy as np

from deepedit import Volume, save_model
from deepedit.network.architectures import NETWORKS
from deepedit.network.checkpoint import Model
from deepedit.network.inputs import input_channels
from deepedit.network.unet import build_network
from deepedit.plan import Intensity, Labels, Plan
from deepedit.training.config import TrainingConfig
from deepedit.training.data import held_case
from deepedit.training.loop import Progress, Trainer

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])  # voxels to RAS mm


def fetch(number: int) -> tuple[Volume, Volume]:
    """In the place of a database: a bright ball in noise, and where it is."""
    rng = np.random.default_rng(number)
    away = np.stack(np.indices((32, 32, 32)), -1) - rng.uniform(12, 20, 3)
    ball = (away**2).sum(-1) < rng.uniform(5, 9) ** 2
    image = rng.normal(0, 1, ball.shape) + 2 * ball
    return Volume(image.astype(np.float32), AFFINE), Volume(ball.astype(np.uint8), AFFINE)


def main(output: str, epochs: int = 30) -> None:
    plan = Plan(
        Labels(names=("ball",), values=(1,)),
        spacing=(2.0, 2.0, 2.0),
        patch_size=(32, 32, 32),  # multiples of the network's divisor, 8
        intensity=Intensity("zscore", 0.5, 99.5),
    )
    cases = [held_case(f"case {number}", *fetch(number), plan) for number in range(8)]
    classes = plan.labels.num_classes
    network = build_network(input_channels(plan.image_channels, classes), classes, NETWORKS["light"], seed=0)
    model = Model(network, plan, training_cases=tuple(case.name for case in cases))
    trainer = Trainer(model, cases, TrainingConfig(epochs=epochs, batch_size=4))

    def tell(progress: Progress) -> None:
        if progress.step % 10 == 0:
            print(f"{progress.share:4.0%}", {kind: round(loss, 3) for kind, loss in progress.loss.items()})

    trainer.train(tell)
    model.network = trainer.average  # the moving average of the weights is what is kept
    save_model(output, model)
    print(f"wrote {output}")


if __name__ == "__main__":
    main(*sys.argv[1:2], *map(int, sys.argv[2:]))
