"""Training and inference with many labels: seconds and memory with 2, 14 and 117 of them.

    python -m benchmarks.many_labels

Each number of labels runs in a process of its own: `--steps` steps of training on synthetic volumes full of small
organs, with the patch that planning finds room for, then a segmentation and a click. ``ulimit -v`` before it shows what
a machine with less memory would do.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.options import add_shared, parser
from deepedit.inference.session import InteractiveSession
from deepedit.io.nifti import write_label, write_volume
from deepedit.network.checkpoint import load_model
from deepedit.training.config import RunSettings, TrainingConfig
from deepedit.training.run import Run
from deepedit.volume import Volume
from deepedit_cli.options import positive_int


def write_dataset(folder: Path, labels: int, shape: tuple[int, int, int]) -> Path:
    """Two volumes of balls on a grid, a label each, every one of a brightness of its own."""
    rng = np.random.default_rng(0)
    a_row = int(np.ceil(labels ** (1 / 3)))
    cell = np.array(shape) / a_row
    grid = np.indices(shape, np.float32)
    place = np.minimum((grid / cell.reshape(3, 1, 1, 1)).astype(np.int32), a_row - 1)
    number = (place[0] * a_row + place[1]) * a_row + place[2] + 1
    for case in range(2):
        radius = rng.uniform(0.3, 0.45) * cell.min()
        inside = sum((grid[axis] - (place[axis] + 0.5) * cell[axis]) ** 2 for axis in range(3)) < radius**2
        label = np.where(inside & (number <= labels), number, 0).astype(np.uint8)
        image = 5.0 * label + rng.normal(0, 3, shape)
        for room, write, data in (("imagesTr", write_volume, image), ("labelsTr", write_label, label)):
            (folder / room).mkdir(parents=True, exist_ok=True)
            write(folder / room / f"case_{case}.nii.gz", data, Volume(data))
    return folder


def measure(labels: int, side: int, steps: int) -> dict[str, object]:
    """What training and inference took, in this process."""
    with tempfile.TemporaryDirectory() as scratch:
        dataset = write_dataset(Path(scratch) / "data", labels, (side,) * 3)
        # A sample stays for one pass where there are no clicks, so that epochs and steps go together.
        config = TrainingConfig(epochs=4 * steps, clicks_from=0.5, small_patches=0.0, validations=1)
        run = Run(Path(scratch) / "run", RunSettings(dataset, config=config), say=lambda line: None, device="cpu")
        start, done = time.perf_counter(), []

        def enough() -> bool:
            done.append(time.perf_counter())
            return len(done) >= steps

        run.folder.mkdir(exist_ok=True)
        run.train(stop=enough)
        trained = peak_gib()
        session = InteractiveSession(load_model(run.folder / "last.pt"))
        session.set_image(run.dataset.cases[0].image[0])
        begin = time.perf_counter()
        session.predict()
        automatic = time.perf_counter() - begin
        begin = time.perf_counter()
        session.add_click((side // 2,) * 3, run.model.plan.labels.names[0])
        click = time.perf_counter() - begin
    return {
        "labels": labels,
        "patch": run.model.plan.patch_size,
        "seconds a step": (done[-1] - start) / len(done),
        "automatic": automatic,
        "click": click,
        "training GiB": trained,
        "peak GiB": peak_gib(),
    }


def peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    options = parser(__doc__)
    options.add_argument(
        "--labels",
        type=positive_int,
        nargs="+",
        default=[2, 14, 117],
        metavar="N",
        help="numbers of labels besides the background (default: 2 14 117)",
    )
    options.add_argument(
        "--side",
        type=positive_int,
        default=128,
        metavar="VOXELS",
        help="of the volumes along each axis (default: %(default)s)",
    )
    add_shared(options, "--steps", default=3)
    add_shared(options, "--json")
    options.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.one:
        print(json.dumps(measure(given.labels[0], given.side, given.steps)))
        return
    rows = []
    for labels in given.labels:
        command = [sys.executable, "-m", "benchmarks.many_labels", "--one", "--labels", str(labels)]
        command += ["--side", str(given.side), "--steps", str(given.steps)]
        rows.append(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))
    if given.json:
        print(json.dumps(rows, indent=1))
        return
    heads = ("seconds a step", "automatic", "click", "training GiB", "peak GiB")
    print(f"{'labels':>6}  {'patch':<16}" + "".join(f"{head:>15}" for head in heads))
    for row in rows:
        patch = " x ".join(map(str, row["patch"]))
        print(f"{row['labels']:>6}  {patch:<16}" + "".join(f"{row[head]:>15.2f}" for head in heads))


if __name__ == "__main__":
    main()
