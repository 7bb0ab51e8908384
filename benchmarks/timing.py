"""What the benchmarks measure with: time on the clock, time in a GPU's queue, kernels."""

import contextlib
import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch

WARM_UPS = 3


def synchronise(device: torch.device | str) -> None:
    """Wait until a GPU has done all that it was given; elsewhere nothing is ever left to do."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()


def timed(
    work: Callable[[], object], device: torch.device | str, repeats: int, seconds: float, warm_ups: int = WARM_UPS
) -> list[float]:
    """Seconds of each run after the warm-ups; no more runs once `seconds` are spent, but one at least."""

    def once() -> float:
        synchronise(device)
        start = time.perf_counter()
        work()
        synchronise(device)
        return time.perf_counter() - start

    spent = [once()]
    while len(spent) < warm_ups + repeats and sum(spent) < seconds:
        spent.append(once())
    return spent[min(warm_ups, len(spent) - 1) :]


def queued(
    work: Callable[[], object], device: torch.device | str, seconds: float = 1.0, groups: int = 5
) -> list[float]:
    """Seconds a run by the GPU's own clock, of each of some groups of runs that nobody waits for in between.

    That is what a run costs in a program that goes on: the larger of what the host takes to start it and the GPU to do
    it. Elsewhere than on a GPU it is the time on the clock.

    Args:
        work: warmed up.
        seconds: that all groups together take, about.
    """
    each = min(timed(work, device, 2, seconds, warm_ups=1))
    if torch.device(device).type != "cuda":
        return timed(work, device, groups, seconds, warm_ups=0)
    runs = max(1, min(200, int(seconds / groups / each)))
    found = []
    for _ in range(groups):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        for _ in range(runs):
            work()
        end.record()
        end.synchronize()
        found.append(start.elapsed_time(end) / 1000 / runs)
    return found


def kernels(work: Callable[[], object], device: torch.device | str) -> dict[str, float] | None:
    """What one run gives a GPU to do: numbers of kernels, of copies and fills, of copies to the host, busy seconds.

    None where there is no GPU, or where the profiler is not let to watch it.
    """
    if torch.device(device).type != "cuda":
        return None
    work()
    for _ in range(2):  # the first time is the profiler's own warm-up
        synchronise(device)
        with torch.profiler.profile() as profiler:
            work()
            synchronise(device)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        events = json.loads(path.read_text(errors="replace"))["traceEvents"]
    return count_events(events)


def count_events(events: Iterable[Mapping]) -> dict[str, float] | None:
    """What `kernels` tells, from the events of a trace; None if none of them is a GPU's."""
    events = [event for event in events if event.get("cat") in ("kernel", "gpu_memcpy", "gpu_memset")]
    if not events:
        return None
    count = Counter(event["cat"] for event in events)
    return {
        "kernels": count["kernel"],
        "copies and fills": count["gpu_memcpy"] + count["gpu_memset"],
        "copies to the host": sum("DtoH" in event["name"] for event in events if event["cat"] == "gpu_memcpy"),
        "busy": sum(event.get("dur", 0.0) for event in events) / 1e6,
    }


@contextlib.contextmanager
def cudnn_choosing(choosing: bool):
    """Within it cuDNN tries its algorithms for every shape that is new, or does not."""
    before, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, choosing
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
