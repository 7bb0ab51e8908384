"""Click simulation at 128^3 beside MONAI's and beside a copy of its outputs."""

import statistics
from collections.abc import Callable
from unittest import mock

import numpy as np
import torch

from benchmarks import click_simulation
from benchmarks.click_simulation import SIGMA, Case, monai_stages, smooth_problem
from benchmarks.gpu.bench import Bench, milliseconds
from benchmarks.timing import kernels, queued, timed
from deepedit.clicks import (
    Annotator,
    chessboard_distance,
    dispatch,
    error_regions,
    render_guidance,
    sample_clicks,
    simulate_clicks,
)

LABELS = (7, 1, 14)
ERRORS = 0.25
WARM_UPS = 10
"""Runs before a stage is timed: an annotator does not do the same each time, so not all is compiled by the first."""

PEER_SECONDS = 8.0
"""No further run of the peer's after these."""

WITHOUT_KERNELS = mock.patch.object(dispatch, "kernels_for", return_value=None)

TABLE = "Click simulation, from two label maps to guidance"


def run(bench: Bench) -> None:
    found: dict[int, tuple] = {}
    for labels in LABELS[:1] if bench.small else LABELS:
        with bench.attempt(f"{labels} labels"):
            bench.needs(3)
            case = Case(24 if bench.small else 128, labels, 2 if bench.small else 4, ERRORS, bench.device.type)
            problem = case, *smooth_problem(case, seed=0)
            found[labels] = *problem, simulation(bench, *problem)
        if labels == LABELS[0] and labels in found:
            peer(bench, *found.pop(labels))
    for entry in found.values():
        peer(bench, *entry)


def peer(bench: Bench, case: Case, prediction: np.ndarray, label: np.ndarray, ours: float) -> None:
    """A row for MONAI, beside the seconds that a run of ours takes."""
    if click_simulation.monai is None:
        bench.note(f"MONAI has no row for {case.labels} labels: {click_simulation.why_no_monai}")
        return
    with bench.attempt(f"MONAI with {case.labels} labels"):
        bench.needs(10)
        work = monai_stages(case, prediction, label)["together"]
        seconds = timed(work, "cpu", 3, min(PEER_SECONDS, bench.left() / 2), warm_ups=1)
        middle = statistics.median(seconds)
        bench.row(
            TABLE,
            **of_case(case, f"MONAI {click_simulation.monai.__version__}, on the host"),
            **{"ms": 1e3 * middle, "spread ms": [1e3 * each for each in seconds], "times ours": middle / ours},
        )


def simulation(bench: Bench, case: Case, prediction: np.ndarray, label: np.ndarray) -> float:
    """A row for all of it, one for a copy of its outputs, and one for each stage; returns the seconds of a run."""
    predicted, true = (torch.from_numpy(volume).to(bench.device) for volume in (prediction, label))
    generator = torch.Generator(bench.device).manual_seed(0)
    regions = error_regions(predicted, true, case.classes)
    clicks = sample_clicks(regions, case.classes, generator)

    def render() -> torch.Tensor:
        return render_guidance(clicks, case.shape, case.classes, case.batch, sigma=SIGMA)

    def whole() -> torch.Tensor:
        drawn = sample_clicks(error_regions(predicted, true, case.classes), case.classes, generator)
        return render_guidance(drawn, case.shape, case.classes, case.batch, sigma=SIGMA)

    source, target = whole(), torch.empty_like(render())
    copied = measured(lambda: target.copy_(source), bench)
    found = measured(whole, bench)
    ratios = {
        "times a copy": found["ms"] / copied["ms"],
        "times a copy, queued": found["queued ms"] / copied["queued ms"],
    }
    bench.row(TABLE, **of_case(case, "this package"), **found, **ratios)
    bench.row(TABLE, **of_case(case, "a copy of the guidance"), **copied)
    if case.labels != LABELS[0]:
        return found["ms"] / 1e3
    if dispatch.kernels_for(regions.shape, regions.device):
        with bench.attempt("without the fused kernels"), WITHOUT_KERNELS:
            bench.row(TABLE, **of_case(case, "this package without its fused kernels"), **measured(whole, bench))
    elif bench.device.type == "cuda":
        bench.note("the fused kernels do not serve here; clicks.log says why")
    hosts = [torch.Generator().manual_seed(seed) for seed in range(case.batch)]
    stages: dict[str, Callable[[], object]] = {
        "error regions": lambda: error_regions(predicted, true, case.classes),
        "distance": lambda: chessboard_distance(regions),
        "distance and sampling": lambda: sample_clicks(regions, case.classes, generator),
        "rendering": render,
        "the training annotator's click": lambda: simulate_clicks(predicted, true, case.classes, Annotator(), hosts),
    }
    for name, work in stages.items():
        with bench.attempt(name):
            for _ in range(WARM_UPS):
                work()
            bench.row(f"Its stages, {case.labels} labels, batch {case.batch}", stage=name, **measured(work, bench))
    return found["ms"] / 1e3


def of_case(case: Case, who: str) -> dict[str, object]:
    return {"volume": f"{case.size}^3", "batch": case.batch, "labels": case.labels, "who": who}


def measured(work: Callable[[], object], bench: Bench) -> dict[str, object]:
    """The columns of a row: a run by itself, one of many in the queue, and what it gives the GPU to do."""
    repeats, seconds = (3, 1.0) if bench.small else (30, 1.0)
    alone = [1e3 * each for each in timed(work, bench.device, repeats, seconds)]
    in_line = [1e3 * each for each in queued(work, bench.device, seconds=0.2 if bench.small else 0.5)]
    seen = kernels(work, bench.device) or {}
    return {
        "ms": statistics.median(alone),
        "spread ms": [min(alone), max(alone)],
        "queued ms": statistics.median(in_line),
        "GPU busy ms": milliseconds(seen.get("busy")),
        "kernels": seen.get("kernels"),
    }
