"""A training step of both networks at 128^3 beside that of MONAI's tutorial, on the same files."""

import shutil
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from benchmarks.gpu.bench import Bench, milliseconds
from benchmarks.timing import kernels, synchronise
from benchmarks.training_step import PARTS, MeasuredTrainer, advance, make_trainer, peer, prepared_cases
from deepedit.io.msd import Dataset, find_dataset
from deepedit.io.nifti import write_label, write_volume
from deepedit.io.phantom import make_case
from deepedit.network.architectures import NETWORKS
from deepedit.network.inputs import autocast_dtype
from deepedit.training.planning import make_plan

CASES = 3
WARM_UPS = 5
STEPS_COUNTED = 8
"""Steps whose kernels are counted: enough for new samples, clicks and a look at the loss to come up."""


def run(bench: Bench) -> None:
    side, volume = (32, (48, 48, 40)) if bench.small else (128, (512, 512, 90))
    folder = Path(tempfile.mkdtemp())
    dataset = write_cases(folder / "data", volume)
    bench.note(f"{CASES} synthetic cases of {' x '.join(map(str, volume))} voxels, 3 labels")
    # Both networks take patches of these sides.
    plan = make_plan(dataset, NETWORKS["reference"], patch_size=(side,) * 3)
    cases = prepared_cases(dataset, plan, folder / "cache")
    # The first is the one that is set beside the tutorial.
    runs = [("light", 1)] if bench.small else [("reference", 1), ("light", 4), ("reference", 2)]
    fastest, theirs = 0.0, 0.0
    for number, (network, batch) in enumerate(runs):
        with bench.attempt(f"{network} network, batch {batch}"):
            bench.needs(5)
            samples = ours(bench, make_trainer(network, plan, cases, batch, bench.device), network, batch)
            fastest = max(fastest, samples) if network == runs[0][0] else fastest
        if number == min(1, len(runs) - 1):
            with bench.attempt("MONAI's tutorial"):
                bench.needs(10)
                theirs = tutorial(bench, dataset, plan.patch_size, folder)
    if fastest and theirs:
        bench.note(f"the {runs[0][0]} network makes {fastest / theirs:.1f} times the tutorial's samples a second")


def ours(bench: Bench, trainer: MeasuredTrainer, network: str, batch: int) -> float:
    """Rows for one network; returns its samples a second."""
    if bench.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    advance(trainer, 1 if bench.small else WARM_UPS)
    parts = advance(trainer, 2 if bench.small else 10)
    share = sum(each["clicks"] for each in parts) / sum(each["step"] for each in parts)
    trainer.waits = False
    seconds, steps = free_steps(trainer, 6.0)
    counted = 2 if bench.small else STEPS_COUNTED
    seen = kernels(lambda: advance(trainer, counted), bench.device) or {}
    per_step = {name: value / counted for name, value in seen.items()}
    bench.row(
        "A training step",
        network=network,
        precision=str(autocast_dtype(bench.device) or torch.float32).removeprefix("torch."),
        patch=f"{trainer.model.plan.patch_size[0]}^3",
        batch=batch,
        steps=steps,
        **{"ms a step": 1e3 * seconds / steps, "samples a second": batch * steps / seconds},
        **{"share of clicks": share, "kernels of a step": per_step.get("kernels")},
        **{"copies to the host": per_step.get("copies to the host"), "GPU busy ms": milliseconds(per_step.get("busy"))},
        **{"GiB": torch.cuda.max_memory_allocated() / 2**30 if bench.device.type == "cuda" else None},
    )
    bench.row(
        "Parts of a step, each waited for, ms",
        network=network,
        batch=batch,
        **{part: 1e3 * sum(each[part] for each in parts) / len(parts) for part in PARTS},
    )
    return batch * steps / seconds


def free_steps(trainer: MeasuredTrainer, limit: float) -> tuple[float, int]:
    """Seconds and number of steps without waiting between them, for about `limit` seconds and 40 steps at most."""
    synchronise(trainer.device)
    start, steps = time.perf_counter(), 0
    while steps < 40 and time.perf_counter() - start < limit:
        advance(trainer, 4)
        steps += 4
    synchronise(trainer.device)
    return time.perf_counter() - start, steps


def tutorial(bench: Bench, dataset: Dataset, shape: tuple[int, int, int], folder: Path) -> float:
    """A row for MONAI's tutorial; returns its samples a second."""
    limit, warm_ups = (5.0, 1) if bench.small else (min(18.0, bench.left() / 3), 3)
    filters = (4, 8, 8, 8, 8, 8) if bench.small else NETWORKS["reference"].filters
    # Processes hand samples over in shared memory, of which containers often have next to none.
    workers = 2 if shutil.disk_usage("/dev/shm").free > 2**30 else 0
    if not workers:
        bench.note("MONAI reads in its own process: /dev/shm has no room for samples of others")
    seconds = peer(dataset, shape, filters, folder / "monai", bench.device, 60, limit, workers)[warm_ups:]
    a_second = len(seconds) / sum(seconds)
    bench.row(
        "A training step",
        network="MONAI's tutorial, as it is set up there",
        precision="float16" if bench.device.type == "cuda" else "float32",
        patch=f"{shape[0]}^3",
        batch=1,
        steps=len(seconds),
        **{"ms a step": 1e3 / a_second, "samples a second": a_second},
    )
    return a_second


def write_cases(folder: Path, shape: tuple[int, int, int]) -> Dataset:
    """Synthetic cases, written side by side."""
    for room in ("imagesTr", "labelsTr"):
        (folder / room).mkdir(parents=True, exist_ok=True)
    # Not forked: this process may use the GPU.
    with ProcessPoolExecutor(CASES, mp_context=get_context("spawn")) as pool:
        list(pool.map(_write_case, range(CASES), [folder] * CASES, [shape] * CASES))
    return find_dataset(folder)


def _write_case(number: int, folder: Path, shape: tuple[int, int, int]) -> None:
    image, label = make_case(np.random.default_rng(number), "RAS", shape)
    write_volume(folder / "imagesTr" / f"case_{number}.nii.gz", image.data, like=image, dtype=np.int16)
    write_label(folder / "labelsTr" / f"case_{number}.nii.gz", label.data, like=image)
