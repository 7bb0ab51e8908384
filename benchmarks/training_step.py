"""Where the time of a training step goes: data, clicks, forward, backward.

    python -m benchmarks.training_step
    python -m benchmarks.training_step --patch-size 128,128,128 --network reference --device cuda
    python -m benchmarks.training_step --patch-size 128,128,128 --network reference --volume 512,512,90 --cases 3 \\
        --batch-size 1 --steps 4 --warmup 1 --monai

Trains on a phantom dataset, with the click settings of a run past its automatic beginning, and prints medians over the
steps after a warm-up. On a GPU every part waits for the device, so that it is charged for its own work; that makes a
step slower than it is in training. The last command sets MONAI's tutorial beside it, on the same files.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import torch

from benchmarks.options import add_shared, parser
from benchmarks.timing import synchronise
from deepedit.io.msd import Dataset, find_dataset
from deepedit.io.phantom import write_phantom
from deepedit.network.architectures import DEFAULT_NETWORK, NETWORKS
from deepedit.network.checkpoint import Model
from deepedit.network.inputs import autocast_dtype, input_channels, pick_device
from deepedit.network.unet import build_network
from deepedit.plan import Plan
from deepedit.training.config import TrainingConfig
from deepedit.training.data import PreparedCase, prepare_case
from deepedit.training.loop import Trainer
from deepedit.training.planning import make_plan
from deepedit_cli.options import int_triple, positive_int

PARTS = ("data", "clicks", "forward", "backward")


class MeasuredTrainer(Trainer):
    """Waits for the device at the end of every part, as long as `waits` is set."""

    waits = True

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        with super().timed(name):
            yield
            if self.waits:
                synchronise(self.device)


def prepared_cases(dataset: Dataset, plan: Plan, cache: Path) -> list[PreparedCase]:
    """All cases of a dataset, some at a time."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(lambda case: prepare_case(case, plan, cache), dataset.cases))


def make_trainer(
    network: str, plan: Plan, cases: Sequence[PreparedCase], batch_size: int, where: torch.device
) -> MeasuredTrainer:
    """A run past its automatic beginning, with full patches."""
    classes = plan.labels.num_classes
    built = build_network(input_channels(plan.image_channels, classes), classes, NETWORKS[network], seed=0)
    config = TrainingConfig(epochs=10**6, clicks_from=0.0, small_patches=0.0, batch_size=batch_size)
    return MeasuredTrainer(Model(built.to(where), plan), cases, config, workers=2)


def advance(trainer: Trainer, steps: int) -> list[dict[str, float]]:
    """Train some steps further; returns the seconds of each part of each of them, and of the whole ``"step"``."""
    totals = [{**trainer.progress.timings, "step": time.perf_counter()}]

    def done() -> bool:
        totals.append({**trainer.progress.timings, "step": time.perf_counter()})
        return len(totals) > steps

    trainer.train(lambda progress: None, done)
    return [{part: after[part] - before.get(part, 0.0) for part in after} for before, after in pairwise(totals)]


def measure(options: argparse.Namespace, folder: Path) -> dict:
    """Seconds of each part of each step."""
    where = pick_device(options.device)
    dataset = find_dataset(write_phantom(folder / "phantom", num_cases=options.cases, shape=options.volume))
    plan = make_plan(dataset, NETWORKS[options.network], patch_size=options.patch_size)
    cases = prepared_cases(dataset, plan, folder / "cache")
    trainer = make_trainer(options.network, plan, cases, options.batch_size, where)
    advance(trainer, options.warmup)
    steps = advance(trainer, options.steps)
    result = {
        "device": torch.cuda.get_device_name(where)
        if where.type == "cuda"
        else f"CPU, {torch.get_num_threads()} threads",
        "precision": str(autocast_dtype(where) or torch.float32).removeprefix("torch."),
        "network": options.network,
        "patch_size": plan.patch_size,
        "batch_size": options.batch_size,
        "labels": plan.labels.num_classes - 1,
        "steps": len(steps),
        "seconds": {part: statistics.median(step[part] for step in steps) for part in (*PARTS, "step")},
        "share": {part: sum(step[part] for step in steps) / sum(step["step"] for step in steps) for part in PARTS},
        "samples_per_second": options.batch_size * len(steps) / sum(step["step"] for step in steps),
    }
    if options.monai:
        steps = options.warmup + options.steps
        filters = NETWORKS["reference"].filters
        seconds = peer(dataset, plan.patch_size, filters, folder / "monai", where, steps)[options.warmup :]
        result["monai_step"] = statistics.median(seconds)
        result["monai_samples_per_second"] = len(seconds) / sum(seconds)
    return result


def peer(
    dataset: Dataset,
    shape: Sequence[int],
    filters: Sequence[int],
    cache: Path,
    where: torch.device,
    steps: int,
    limit: float = float("inf"),
    workers: int = 2,
) -> list[float]:
    """Seconds of each step that MONAI's tutorial makes of a dataset, with its network on a grid of that shape.

    Args:
        filters: of the network; those of the published one are our reference network's.
        limit: no further step once these seconds are spent on steps.
        workers: processes that read.
    """
    from benchmarks import reference_pipeline, reference_training

    network = reference_pipeline.network(len(dataset.labels.names), filters, seed=0)
    labels = {"background": 0, **dict(zip(dataset.labels.names, dataset.labels.values, strict=True))}
    return reference_training.seconds_of_steps(
        network, dataset.cases, labels, shape, steps, cache, where, limit, workers
    )


def table(result: dict) -> str:
    """The result as people read it."""
    size = " x ".join(map(str, result["patch_size"]))
    lines = [
        f"{result['device']}, {result['precision']}, {result['network']} network, patch {size}, batch "
        f"{result['batch_size']}, {result['labels']} labels, {result['steps']} steps",
        f"{'part':<10}{'median':>12}{'share of step':>16}",
    ]
    for part in PARTS:
        lines.append(f"{part:<10}{1e3 * result['seconds'][part]:>9.1f} ms{result['share'][part]:>16.1%}")
    lines.append(f"{'step':<10}{1e3 * result['seconds']['step']:>9.1f} ms{'':>16}")
    lines.append(f"{result['samples_per_second']:.3f} passes of a sample a second")
    if "monai_step" in result:
        ratio = result["samples_per_second"] / result["monai_samples_per_second"]
        lines.append(
            f"MONAI's tutorial, batch 1: {result['monai_samples_per_second']:.3f} samples a second, "
            f"{1e3 * result['monai_step']:.1f} ms a step; ours {ratio:.1f} times as many samples"
        )
    return "\n".join(lines)


def main() -> None:
    options = parser(__doc__)
    options.add_argument(
        "--network", choices=tuple(NETWORKS), default=DEFAULT_NETWORK, help="architecture (default: %(default)s)"
    )
    options.add_argument(
        "--patch-size", type=int_triple, metavar="VOXELS", help="size of a patch (default: fitted to the phantom)"
    )
    options.add_argument(
        "--volume", type=int_triple, metavar="VOXELS", help="size of the phantom's cases (default: its own, small)"
    )
    options.add_argument("--cases", type=positive_int, default=6, metavar="N", help="phantoms (default: %(default)s)")
    options.add_argument(
        "--batch-size",
        type=positive_int,
        default=TrainingConfig.batch_size,
        metavar="N",
        help="patches in each step (default: %(default)s)",
    )
    add_shared(options, "--steps", default=30)
    options.add_argument(
        "--warmup", type=positive_int, default=5, metavar="N", help="steps before the timed ones (default: %(default)s)"
    )
    add_shared(options, "--device")
    options.add_argument("--monai", action="store_true", help="time MONAI's tutorial on the same files as well")
    add_shared(options, "--json")
    arguments = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(arguments, Path(folder))
    print(json.dumps(result) if arguments.json else table(result))


if __name__ == "__main__":
    main()
