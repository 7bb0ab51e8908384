"""Clicks in a session."""

import statistics

from benchmarks.click_latency import LARGE, SCRIBBLE, SIZES, click_kernels, measure, refining, scribble, small_model
from benchmarks.gpu.bench import Bench, milliseconds


def run(bench: Bench) -> None:

    for shape, window in [((24, 24, 20), (16, 16, 16))] if bench.small else [*SIZES, LARGE]:
        name = " x ".join(map(str, shape))
        with bench.attempt(name):
            bench.needs(5)
            model = small_model(window).to(bench.device)
            clicks = 2 if bench.small else 15
            automatic, seconds = measure(model, shape, clicks)
            seen = click_kernels(model, shape) or {}
            bench.row(
                "A click, light network with a refiner, 2 labels",
                volume=name,
                windows=" x ".join(map(str, window)),
                **{"click ms": 1e3 * statistics.median(seconds), "spread ms": [1e3 * each for each in seconds]},
                **{"automatic ms": 1e3 * automatic, "kernels of a click": seen.get("kernels")},
                **{"copies to the host": seen.get("copies to the host"), "GPU busy ms": milliseconds(seen.get("busy"))},
            )
            bench.row(
                "Times as long as a click",
                volume=name,
                **{"as one without a refiner": refining(model, shape, clicks)},
                **{f"{SCRIBBLE} together as one": scribble(model, shape, clicks)},
            )
