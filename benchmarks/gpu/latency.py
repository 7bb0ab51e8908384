"""Clicks in a session."""

import statistics

from benchmarks.click_latency import LARGE, SIZES, click_kernels, measure, small_model
from benchmarks.gpu.bench import Bench, milliseconds


def run(bench: Bench) -> None:

    for shape, window in [((24, 24, 20), (16, 16, 16))] if bench.small else [*SIZES, LARGE]:
        name = " x ".join(map(str, shape))
        with bench.attempt(name):
            bench.needs(5)
            model = small_model(window).to(bench.device)
            automatic, seconds = measure(model, shape, 2 if bench.small else 15)
            seen = click_kernels(model, shape) or {}
            bench.row(
                "A click, light network, 2 labels",
                volume=name,
                windows=" x ".join(map(str, window)),
                **{"click ms": 1e3 * statistics.median(seconds), "spread ms": [1e3 * each for each in seconds]},
                **{"automatic ms": 1e3 * automatic, "kernels of a click": seen.get("kernels")},
                **{"copies to the host": seen.get("copies to the host"), "GPU busy ms": milliseconds(seen.get("busy"))},
            )
