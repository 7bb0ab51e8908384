"""Where the time of a training step goes: data, clicks, forward, backward.

    python benchmarks/training_step.py
    python benchmarks/training_step.py --patch-size 128,128,128 --network reference --device cuda
    python benchmarks/training_step.py --patch-size 128,128,128 --network reference --volume 512,512,90 --cases 3 \\
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
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path

import torch

from deepedit.io.msd import Dataset, find_dataset
from deepedit.io.phantom import write_phantom
from deepedit.network.checkpoint import Model
from deepedit.network.inputs import autocast_dtype, input_channels, pick_device
from deepedit.network.unet import NETWORKS, build_network
from deepedit.plan import Plan
from deepedit.training.config import TrainingConfig
from deepedit.training.data import prepare_case
from deepedit.training.loop import Progress, Trainer
from deepedit.training.planning import make_plan
from deepedit_cli.common import device, int_triple, positive_int

PARTS = ("data", "clicks", "forward", "backward")


class Enough(Exception):
    """All steps are measured."""


class MeasuredTrainer(Trainer):
    """Waits for the device at the end of every part."""

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        with super().timed(name):
            yield
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)


def measure(options: argparse.Namespace, folder: Path) -> dict:
    """Seconds of each part of each step."""
    where = pick_device(options.device)
    dataset = find_dataset(write_phantom(folder / "phantom", num_cases=options.cases, shape=options.volume))
    architecture = NETWORKS[options.network]
    plan = make_plan(dataset, architecture, patch_size=options.patch_size)
    classes = plan.labels.num_classes
    network = build_network(input_channels(plan.image_channels, classes), classes, architecture, seed=0)
    cases = [prepare_case(case, plan, folder / "cache") for case in dataset.cases]
    config = TrainingConfig(epochs=10**6, clicks_from=0.0, small_patches=0.0, batch_size=options.batch_size)
    trainer = MeasuredTrainer(Model(network.to(where), plan), cases, config)
    totals: list[dict[str, float]] = []

    def on_step(progress: Progress) -> None:
        totals.append({**progress.timings, "step": time.perf_counter()})
        if len(totals) > options.warmup + options.steps:
            raise Enough

    with suppress(Enough):
        trainer.train(on_step)
    totals = totals[options.warmup :]
    steps = [{part: b[part] - a[part] for part in b} for a, b in pairwise(totals)]
    result = {
        "device": torch.cuda.get_device_name(where)
        if where.type == "cuda"
        else f"CPU, {torch.get_num_threads()} threads",
        "precision": str(autocast_dtype(where) or torch.float32).removeprefix("torch."),
        "network": options.network,
        "patch_size": plan.patch_size,
        "batch_size": config.batch_size,
        "labels": classes - 1,
        "steps": len(steps),
        "seconds": {part: statistics.median(step[part] for step in steps) for part in (*PARTS, "step")},
        "share": {part: sum(step[part] for step in steps) / sum(step["step"] for step in steps) for part in PARTS},
        "samples_per_second": config.batch_size * len(steps) / sum(step["step"] for step in steps),
    }
    return result | (peer(options, dataset, plan, folder / "monai", where) if options.monai else {})


def peer(options: argparse.Namespace, dataset: Dataset, plan: Plan, cache: Path, where: torch.device) -> dict:
    """What MONAI's tutorial makes of the same files, with the published network, on a grid as large as our patch."""
    import reference_pipeline
    import reference_training

    network = reference_pipeline.network(len(plan.labels.names), NETWORKS["reference"].filters, seed=0)
    labels = {"background": 0, **dict(zip(plan.labels.names, plan.labels.values, strict=True))}
    seconds = reference_training.seconds_of_steps(
        network, dataset.cases, labels, plan.patch_size, options.warmup + options.steps, cache, where
    )[options.warmup :]
    return {"monai_step": statistics.median(seconds), "monai_samples_per_second": len(seconds) / sum(seconds)}


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
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--network", choices=sorted(NETWORKS), default="light")
    options.add_argument("--patch-size", type=int_triple, help="voxels (default: fitted to the phantom)")
    options.add_argument("--volume", type=int_triple, help="voxels of the phantom's cases (default: its own, small)")
    options.add_argument("--cases", type=positive_int, default=6, help="phantoms (default: 6)")
    options.add_argument("--batch-size", type=positive_int, default=4)
    options.add_argument("--steps", type=positive_int, default=30)
    options.add_argument("--warmup", type=positive_int, default=5)
    options.add_argument("--device", type=device, default="auto")
    options.add_argument("--monai", action="store_true", help="time MONAI's tutorial on the same files as well")
    options.add_argument("--json", action="store_true", help="print JSON")
    arguments = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(arguments, Path(folder))
    print(json.dumps(result) if arguments.json else table(result))


if __name__ == "__main__":
    main()
