"""How long a user waits for a click: on small volumes, and on one of many windows against a pass over all of them; and
for many clicks together against one.

    python -m benchmarks.click_latency [--model RUN/model.pt] [--large]

Without a model the light network with random weights is timed; the time does not depend on the weights.
"""

import statistics
import time
from dataclasses import replace

import numpy as np
import torch

from benchmarks.options import add_shared, parser
from benchmarks.timing import kernels
from deepedit.inference.session import InteractiveSession
from deepedit.network.architectures import NETWORKS
from deepedit.network.checkpoint import Model, load_model
from deepedit.network.inputs import input_channels, pick_device
from deepedit.network.refiner import build_refiner
from deepedit.network.unet import build_network
from deepedit.plan import Intensity, Labels, Plan

SIZES = (((35, 50, 35), (40, 56, 40)), ((128, 128, 128), (128, 128, 128)), ((256, 256, 128), (64, 64, 64)))
"""Voxels of the volume, and of the windows."""

LARGE = ((512, 512, 200), (128, 128, 128))

SCRIBBLE = 200
"""Clicks that are given together within one window."""


def small_model(patch: tuple[int, int, int]) -> Model:
    """The light network with two labels and random weights, and a refiner."""
    plan = Plan(Labels(("one", "two"), (1, 2)), (1.0, 1.0, 1.0), patch, Intensity("zscore", 0.5, 99.5))
    network = build_network(input_channels(1, 3), 3, NETWORKS["light"], seed=0)
    return Model(network.eval(), plan, refiner=build_refiner(1, 3, seed=0).eval())


def measure(model: Model, shape: tuple[int, int, int], clicks: int) -> tuple[float, list[float]]:
    """Seconds of the first, automatic answer, and of each click up to the labels that a viewer draws."""
    rng = np.random.default_rng(0)
    session = InteractiveSession(model)
    image = rng.random(shape, dtype=np.float32)
    session.set_image(image)
    if model.device.type == "cuda":
        session.predict()  # the first pass loads kernels
        session.set_image(image)
    start = time.perf_counter()
    session.predict()
    automatic = time.perf_counter() - start
    seconds = []
    for _ in range(clicks + 2):
        start = time.perf_counter()
        session.add_click(rng.integers(0, shape), model.plan.labels.names[0])
        session.predict()
        seconds.append(time.perf_counter() - start)
    return automatic, seconds[2:]


def scribble(model: Model, shape: tuple[int, int, int], rounds: int) -> float:
    """How many times as long many clicks together take as a single one, within one window."""
    rng = np.random.default_rng(0)
    session = InteractiveSession(model)
    session.set_image(rng.random(shape, dtype=np.float32))
    session.predict()
    low, high = (
        [side // 2 + sign * patch // 4 for side, patch in zip(shape, model.plan.patch_size, strict=True)]
        for sign in (-1, 1)
    )
    seconds: dict[int, list[float]] = {1: [], SCRIBBLE: []}
    for _ in range(rounds + 1):
        for count, found in seconds.items():
            clicks = [(rng.integers(low, high), model.plan.labels.names[0]) for _ in range(count)]
            start = time.perf_counter()
            session.add_clicks(clicks)
            session.predict()
            found.append(time.perf_counter() - start)
            session.reset()
    one, many = (statistics.median(found[1:]) for found in seconds.values())
    return many / one


def refining(model: Model, shape: tuple[int, int, int], clicks: int) -> float:
    """How many times as long a click takes as with the network alone; both answer each click, in turns."""
    rng = np.random.default_rng(0)
    image = rng.random(shape, dtype=np.float32)
    sessions = [InteractiveSession(each) for each in (model, replace(model, refiner=None))]
    for session in sessions:
        session.set_image(image)
        session.predict()
    ratios = []
    for _ in range(clicks + 2):
        voxel, seconds = rng.integers(0, shape), []
        for session in sessions:
            start = time.perf_counter()
            session.add_click(voxel, model.plan.labels.names[0])
            session.predict()
            seconds.append(time.perf_counter() - start)
        ratios.append(seconds[0] / seconds[1])
    return statistics.median(ratios[2:])


def click_kernels(model: Model, shape: tuple[int, int, int]) -> dict[str, float] | None:
    """What a click up to the labels that a viewer draws gives a GPU to do, see `kernels`."""
    session = InteractiveSession(model)
    session.set_image(np.random.default_rng(0).random(shape, dtype=np.float32))
    session.predict()

    def click() -> None:
        session.add_click([side // 2 for side in shape], model.plan.labels.names[0])
        session.predict()

    return kernels(click, model.device)


def main() -> None:
    options = parser(__doc__)
    add_shared(
        options, "--model", required=False, help="model.pt, for the small volume only (default: an untrained one)"
    )
    options.add_argument("--large", action="store_true", help="also 512 x 512 x 200: minutes on a CPU")
    add_shared(options, "--clicks", "--device")
    arguments = options.parse_args()
    where = pick_device(arguments.device)
    print(f"{where}, {torch.get_num_threads()} threads, median of {arguments.clicks} clicks after 2 warm-ups (spread)")
    for number, (shape, patch) in enumerate([*SIZES, LARGE] if arguments.large else SIZES):
        model = load_model(arguments.model) if arguments.model and number == 0 else small_model(patch)
        model.to(where)
        automatic, seconds = measure(model, shape, arguments.clicks)
        middle = statistics.median(seconds)
        print(
            f"{' x '.join(map(str, shape)):<16} click {middle:.3f} s ({min(seconds):.3f}-{max(seconds):.3f})   "
            f"automatic {automatic:.2f} s   ratio {middle / automatic:.3f}   "
            f"{SCRIBBLE} together {scribble(model, shape, 5):.2f} times one"
        )
        if model.refiner is not None:
            print(f"  a click {refining(model, shape, arguments.clicks):.2f} times as long as without a refiner")


if __name__ == "__main__":
    main()
