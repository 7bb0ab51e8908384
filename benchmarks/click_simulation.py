"""How long click simulation takes, stage by stage, beside the same work in numpy and scipy and in MONAI.

    python -m benchmarks.click_simulation --quick
    python -m benchmarks.click_simulation --sizes 128 --labels 1 7 14 --batch 1 --errors 0.25

Without arguments every size, number of labels, batch and share of errors is run, which takes hours, most of them the
peers'. MONAI takes part where it is installed (``pip install deepedit[bench]``). On CUDA the peers run as they do
anywhere: on the host.
"""

import argparse
import contextlib
import ctypes
import gc
import itertools
import json
import logging
import platform
import statistics
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from benchmarks import reference_clicks
from benchmarks.options import add_shared, parser
from benchmarks.timing import WARM_UPS, timed
from deepedit.clicks import Clicks, chessboard_distance, error_regions, render_guidance, sample_clicks
from deepedit.clicks.sampling import clicks_at, draw_cells
from deepedit_cli.options import positive, positive_int, share

try:
    import monai
    from monai.apps.deepedit import transforms as monai_deepedit
except Exception as error:  # beside packages of other versions it fails in many ways
    monai, why_no_monai = None, f"{type(error).__name__}: {error}"

SIGMA = 2.0
STAGES = ("error regions", "distance", "sampling", "rendering", "together", "together, no rendering")


@dataclass(frozen=True)
class Case:
    """One point of the grid that the benchmark runs over."""

    size: int
    labels: int
    batch: int
    errors: float
    device: str
    shape = property(lambda self: (self.size,) * 3)
    classes = property(lambda self: self.labels + 1)
    voxels = property(lambda self: self.batch * self.size**3)


@dataclass
class Result:
    """Seconds of each run of each stage, by who ran it, and what else was measured."""

    case: Case
    seconds: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    copy_seconds: float = 0.0
    peak_volumes: float | None = None

    def median(self, who: str, stage: str) -> float | None:
        runs = self.seconds.get(who, {}).get(stage)
        return statistics.median(runs) if runs else None


def smooth_problem(case: Case, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Predictions and label maps ``[B, X, Y, Z]`` int64: smooth classes, smooth errors on the share asked for."""

    def smooth(random: np.random.Generator, share_of_side: float) -> np.ndarray:
        noise = random.standard_normal(case.shape, dtype=np.float32)
        return ndimage.gaussian_filter(noise, case.size * share_of_side, truncate=2.5, mode="wrap")

    def sample(number: int) -> tuple[np.ndarray, np.ndarray]:
        random = np.random.default_rng([seed, number])
        label, best = np.zeros(case.shape, dtype=np.int64), smooth(random, 1 / 16)
        for index in range(1, case.classes):
            field_of_class = smooth(random, 1 / 16)
            label[field_of_class > best] = index
            np.maximum(best, field_of_class, out=best)
        badness = smooth(random, 1 / 32)
        wrong = badness > np.quantile(badness, 1 - case.errors)
        return np.where(wrong, (label + 1) % case.classes, label), label

    with ThreadPoolExecutor() as pool:
        predictions, labels = zip(*pool.map(sample, range(case.batch)), strict=True)
    return np.stack(predictions), np.stack(labels)


def stages(find: Callable, measure: Callable | None, draw: Callable, render: Callable, place: Callable | None = None):
    """What is timed, from the four steps; `place` is the first three in one, `measure` None where `draw` does it."""

    def find_and_draw() -> object:
        regions = find()
        return draw(regions, measure and measure(regions))

    place = place or find_and_draw
    regions = find()
    distance = measure and measure(regions)
    clicks = draw(regions, distance)
    work = [find, measure and (lambda: measure(regions)), lambda: draw(regions, distance)]
    work += [lambda: render(clicks), lambda: render(place()), place]
    return dict(zip(STAGES, work, strict=True))


def our_stages(case: Case, prediction: np.ndarray, label: np.ndarray) -> dict[str, Callable | None]:
    """On inputs that are on the device already."""
    predicted, true = (torch.from_numpy(volume).to(case.device) for volume in (prediction, label))
    generator = torch.Generator(case.device).manual_seed(0)

    def find() -> torch.Tensor:
        return error_regions(predicted, true, case.classes)

    def draw(regions: torch.Tensor, depth: torch.Tensor) -> Clicks:
        return clicks_at(draw_cells(regions, depth, case.classes, generator), case.shape, (0, 0, 0))

    def render(clicks: Clicks) -> torch.Tensor:
        return render_guidance(clicks, case.shape, case.classes, case.batch, sigma=SIGMA)

    return stages(find, chessboard_distance, draw, render, lambda: sample_clicks(find(), case.classes, generator))


def reference_stages(case: Case, prediction: np.ndarray, label: np.ndarray) -> dict[str, Callable | None]:
    """As `reference_clicks` does it, sample by sample."""
    random = np.random.default_rng(0)
    return stages(
        lambda: [reference_clicks.error_regions(*pair, case.classes) for pair in zip(prediction, label, strict=True)],
        lambda regions: [reference_clicks.distances(masks) for masks in regions],
        lambda *both: [reference_clicks.sample_clicks(*each, random) for each in zip(*both, strict=True)],
        lambda clicks: [reference_clicks.render_guidance(each, case.shape, SIGMA) for each in clicks],
    )


def monai_stages(case: Case, prediction: np.ndarray, label: np.ndarray) -> dict[str, Callable | None]:
    """The click transforms of MONAI's DeepEdit tutorial; distance and sampling are one transform there."""
    logging.disable(logging.INFO)  # a line for each simulated click otherwise
    names = {"background": 0} | {f"label_{index}": index for index in range(1, case.classes)}
    find = monai_deepedit.FindDiscrepancyRegionsDeepEditd("label", pred="pred", discrepancy="discrepancy")
    draw = monai_deepedit.AddRandomGuidanceDeepEditd("NA", "guidance", "discrepancy", "probability")
    draw.set_random_state(0)
    render = monai_deepedit.AddGuidanceSignalDeepEditd("image", guidance="guidance", sigma=SIGMA)
    samples = [
        {
            "image": np.zeros((1, *case.shape), dtype=np.float32),
            "label": true[None].astype(np.float32),
            "pred": predicted[None].astype(np.float32),
            "label_names": names,
            "guidance": {name: [] for name in names},
            "probability": 1.0,
        }
        for predicted, true in zip(prediction, label, strict=True)
    ]
    return stages(
        lambda: [find(sample) for sample in samples],
        None,
        lambda found, _: [draw(sample) for sample in found],
        lambda clicked: [render(sample) for sample in clicked],
    )


def peak_bytes(work: Callable[[], object], device: str) -> int | None:
    """Memory that one run takes beyond what was there before and its result; None where the system does not tell."""
    gc.collect()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        kept = work()
        return torch.cuda.max_memory_allocated() - torch.cuda.memory_allocated() if kept is not None else None
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # the peak of the resident set starts anew
        before, kept = _status_bytes("VmRSS"), work()
        peak = _status_bytes("VmHWM")
        ctypes.CDLL(None).malloc_trim(0)
        return peak - max(before, _status_bytes("VmRSS")) if kept is not None else None
    return None


def _status_bytes(entry: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(entry))


def run(case: Case, options: argparse.Namespace) -> Result:
    """One case, everyone in turn."""
    prediction, label = smooth_problem(case, options.seed)
    result = Result(case)
    everyone = {"ours": our_stages, "numpy+scipy": reference_stages, "MONAI": monai_stages}
    peers = [] if options.no_peers else ["numpy+scipy", *(["MONAI"] if monai else [])]
    for who in ["ours", *peers]:
        steps = everyone[who](case, prediction, label)
        device, limit = (case.device, 60.0) if who == "ours" else ("cpu", options.peer_seconds)
        if who == "ours":
            peak = peak_bytes(steps["together"], device)
            result.peak_volumes = None if peak is None else peak / (4 * case.voxels)
        runs = {stage: timed(work, device, options.repeats, limit) for stage, work in steps.items() if work}
        result.seconds[who] = runs
    source, target = (torch.ones((case.batch, case.classes, *case.shape), device=case.device) for _ in range(2))
    result.copy_seconds = statistics.median(timed(lambda: target.copy_(source), case.device, options.repeats, 60.0))
    return result


def table(result: Result, options: argparse.Namespace) -> Iterator[str]:
    """The lines that a person reads."""
    case, peers = result.case, [who for who in result.seconds if who != "ours"]
    yield (
        f"\n{case.size}^3, batch {case.batch}, {case.labels} labels, errors on {case.errors:.0%} of the voxels, "
        f"{case.device}, {torch.get_num_threads()} threads, median (spread) of {options.repeats} after {WARM_UPS} "
        f"warm-ups, peers for {options.peer_seconds:g} s a stage"
    )
    yield f"{'stage':24}{'ours':>32}" + "".join(f"{who:>36}{'ratio':>9}" for who in peers)
    for stage in STAGES:
        line = f"{stage:24}{_milliseconds(result.seconds['ours'][stage]):>32}"
        for who in peers:
            theirs = result.median(who, stage)
            ratio = "" if theirs is None else f"{theirs / result.median('ours', stage):.1f}x"
            line += f"{_milliseconds(result.seconds[who].get(stage)):>36}{ratio:>9}"
        yield line
    together = result.median("ours", "together")
    yield (
        f"{case.batch * case.classes / together:.0f} clicks a second; {together * 1e9 / case.voxels:.1f} ns a voxel; "
        f"{together / result.copy_seconds:.2f} times a copy of the guidance "
        f"({result.copy_seconds * 1e3:.2f} ms); peak memory "
        + ("unknown" if result.peak_volumes is None else f"{result.peak_volumes:.2f} int32 label maps")
    )


def _milliseconds(runs: list[float] | None) -> str:
    if not runs:
        return "with sampling"
    return f"{statistics.median(runs) * 1e3:.2f} ms ({min(runs) * 1e3:.2f}-{max(runs) * 1e3:.2f})"


def arguments() -> argparse.Namespace:
    options = parser(__doc__.split("\n\n")[0])
    options.add_argument(
        "--sizes",
        type=positive_int,
        nargs="+",
        default=[64, 96, 128, 192],
        metavar="VOXELS",
        help="along each axis (default: 64 96 128 192)",
    )
    options.add_argument(
        "--labels",
        type=positive_int,
        nargs="+",
        default=[1, 3, 7, 14],
        metavar="N",
        help="numbers of labels besides the background (default: 1 3 7 14)",
    )
    options.add_argument(
        "--batch", type=positive_int, nargs="+", default=[1, 4], metavar="N", help="numbers of samples (default: 1 4)"
    )
    options.add_argument(
        "--errors",
        type=share,
        nargs="+",
        default=[0.05, 0.25],
        metavar="SHARE",
        help="shares of wrong voxels (default: 0.05 0.25)",
    )
    options.add_argument("--devices", nargs="+", choices=["cpu", "cuda"], help="where (default: all that there are)")
    options.add_argument("--quick", action="store_true", help="64^3, 1 and 7 labels, batch 1, errors on 25 %%")
    add_shared(options, "--repeats", default=15)
    options.add_argument(
        "--peer-seconds",
        type=positive,
        default=10.0,
        metavar="SECONDS",
        help="no further run of a peer's stage after these (default: %(default)g)",
    )
    options.add_argument("--no-peers", action="store_true", help="time nothing but this package")
    add_shared(options, "--threads", "--seed", "--json")
    given = options.parse_args()
    if given.quick:
        given.sizes, given.labels, given.batch, given.errors = [64], [1, 7], [1], [0.25]
    given.devices = given.devices or (["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"])
    return given


def main() -> None:
    options = arguments()
    if options.threads:
        torch.set_num_threads(options.threads)
    machine = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "monai": monai.__version__ if monai else None,
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if "cuda" in options.devices else None,
    }
    if not options.json:
        print(", ".join(f"{name} {value}" for name, value in machine.items()))
    results, grid = [], (options.devices, options.sizes, options.errors, options.batch, options.labels)
    for device, size, errors, batch, labels in itertools.product(*grid):
        results.append(run(Case(size, labels, batch, errors, device), options))
        if not options.json:
            print("\n".join(table(results[-1], options)), flush=True)
    if options.json:
        json.dump({"machine": machine, "results": [asdict(result) for result in results]}, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
