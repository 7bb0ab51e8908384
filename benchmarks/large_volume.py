"""A CT of 512 x 512 voxels a slice from file to file, on a CPU: seconds and memory of every stage.

    python -m benchmarks.large_volume --slices 50 100 200 400

Each number of slices runs in a process of its own: read, preprocess to 1.5 mm, segment by sliding windows of 128^3 with
the light network (random weights; the time does not depend on them), restore to the file's grid, write. Then
resampling beside ``scipy.ndimage.zoom(order=1)`` and, where MONAI is installed, its ``Spacingd``, in one run; and the
decision on the file's grid for 8 classes.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from benchmarks.options import add_shared, parser
from deepedit.inference.sliding_window import sliding_window, window_shape, window_starts
from deepedit.io.nifti import read_volume, write_label, write_volume
from deepedit.io.phantom import make_case
from deepedit.network.architectures import NETWORKS
from deepedit.network.checkpoint import Model
from deepedit.network.inputs import input_channels
from deepedit.network.unet import build_network
from deepedit.plan import Intensity, Labels, Plan
from deepedit.transforms.preprocess import Preprocessor
from deepedit.volume import Volume
from deepedit_cli.options import positive_int

SPACING_MM = 1.5
GIB = 2**30


class Watch:
    """Seconds and the largest resident memory of named stages."""

    def __init__(self) -> None:
        self.stages: dict[str, dict[str, float]] = {}
        self.peak, self.running = 0, True
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        while self.running:
            self.peak = max(self.peak, resident())
            time.sleep(0.005)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self.peak = before = resident()
        start = time.perf_counter()
        yield
        seconds = time.perf_counter() - start
        self.stages[name] = {"seconds": seconds, "peak GiB": self.peak / GIB, "more GiB": (self.peak - before) / GIB}


def resident() -> int:
    """Bytes of this process that are in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def segment(side: int, slices: int, share: float, skip_air: bool) -> dict:
    """Segment a phantom from file to file with windows that overlap by that `share`; returns what it took."""
    labels = Labels(("liver", "spleen", "aorta"), (1, 2, 3))
    network = build_network(input_channels(1, 4), 4, NETWORKS["light"], seed=0).eval()
    model = Model(network, Plan(labels, (SPACING_MM,) * 3, (128, 128, 128), Intensity()))
    preprocess = Preprocessor(model.plan)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image.nii.gz"
        image, _ = make_case(np.random.default_rng(0), "LPS", (side, side, slices), (0.8, 0.8, 1.5))
        write_volume(path, image.data, like=image, dtype=np.int16)
        del image
        base, watch = resident() / GIB, Watch()
        with watch.stage("read"):
            volume = read_volume(path)
        with watch.stage("preprocess"):
            tensor, grid = preprocess(volume)
        # Only the grid is still needed, as in a session.
        volume = Volume(np.broadcast_to(np.int16(0), volume.shape), volume.affine, volume.header)
        with watch.stage("segment"):
            logits = sliding_window(model, tensor, overlap=share, skip_air=skip_air).half()
        with watch.stage("restore"):
            values = preprocess.to_native(logits, grid)
        with watch.stage("write"):
            write_label(Path(folder) / "result.nii.gz", values, volume)
        watch.running = False
    shape = tuple(tensor.shape[1:])
    window = window_shape(shape, model.plan.patch_size, network.config.divisor)
    windows = len(list(window_starts(shape, window, share)))
    return {"slices": slices, "grid": shape, "windows": windows, "before GiB": base, "stages": watch.stages}


def timed(work: Callable[[], object], repeats: int) -> float:
    """Median seconds after one warm-up."""
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def compare(side: int, slices: int, repeats: int) -> dict[str, float]:
    """Seconds of resampling a volume to the network's spacing, ours and the peers'."""
    from scipy import ndimage

    spacing = (0.8, 0.8, 2.5)
    image, _ = make_case(np.random.default_rng(0), "RAS", (side, side, slices), spacing)
    data = np.ascontiguousarray(image.data.astype(np.float32))
    plan = Plan(Labels(("one",), (1,)), (SPACING_MM,) * 3, (128, 128, 128), Intensity())
    grid = Preprocessor(plan).grid(data.shape, image.affine)
    tensor = torch.from_numpy(data)[None]
    factors = [have / SPACING_MM for have in spacing]
    found = {
        "ours": timed(lambda: grid.image_to_network(tensor), repeats),
        "scipy zoom": timed(lambda: ndimage.zoom(data, factors, order=1), repeats),
    }
    try:
        from monai.data import MetaTensor
        from monai.transforms import Spacingd
    except ImportError:
        return found
    spacingd = Spacingd("image", pixdim=(SPACING_MM,) * 3, mode="bilinear")
    sample = MetaTensor(tensor, affine=torch.from_numpy(image.affine))
    return found | {"MONAI Spacingd": timed(lambda: spacingd({"image": sample}), repeats)}


def decide(side: int, slices: int, classes: int) -> dict[str, float]:
    """Seconds and memory beyond the logits of the decision on the file's grid."""
    plan = Plan(Labels(("one",), (1,)), (SPACING_MM,) * 3, (128, 128, 128), Intensity())
    grid = Preprocessor(plan).grid((side, side, slices), np.diag([0.8, 0.8, 1.5, 1]))
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn((1, classes, 12, 12, 12), generator=generator)
    logits = torch.nn.functional.interpolate(coarse, grid.network_shape, mode="trilinear")[0].half()
    watch = Watch()
    with watch.stage("decide"):
        grid.labels_to_native(logits)
    watch.running = False
    return watch.stages["decide"]


def show(results: list[dict], resampling: dict[str, float], decision: dict[str, float], side: int) -> None:
    for result in results:
        sides = " x ".join(map(str, result["grid"]))
        print(f"\n{side} x {side} x {result['slices']}, {sides} at {SPACING_MM:g} mm, {result['windows']} windows")
        print(f"{'stage':<12}{'seconds':>10}{'a slice':>12}{'peak GiB':>10}")
        for name, stage in result["stages"].items():
            each = 1000 * stage["seconds"] / result["slices"]
            print(f"{name:<12}{stage['seconds']:>10.2f}{each:>9.1f} ms{stage['peak GiB']:>10.2f}")
        total = sum(stage["seconds"] for stage in result["stages"].values())
        peak = max(stage["peak GiB"] for stage in result["stages"].values())
        print(f"{'all':<12}{total:>10.2f}{1000 * total / result['slices']:>9.1f} ms{peak:>10.2f}")
    print("\nresampling to the network's spacing")
    for name, seconds in resampling.items():
        print(f"{name:<16}{seconds:>8.2f} s{seconds / resampling['ours']:>8.1f}x")
    print(
        f"\n8 classes to the file's grid: {decision['seconds']:.2f} s, {decision['more GiB']:.2f} GiB beyond the logits"
    )


def main() -> None:
    options = parser(__doc__)
    options.add_argument(
        "--slices",
        type=positive_int,
        nargs="+",
        default=[50, 100, 200, 400],
        metavar="N",
        help="slices of each volume (default: 50 100 200 400)",
    )
    options.add_argument(
        "--side",
        type=positive_int,
        default=512,
        metavar="VOXELS",
        help="of a slice along both axes (default: %(default)s)",
    )
    add_shared(options, "--repeats", default=3, help="runs of the resampling that are timed (default: %(default)s)")
    add_shared(options, "--overlap", "--skip-air", "--json")
    options.add_argument("--part", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.part:
        slices = given.slices[0]
        parts = {
            "segment": lambda: segment(given.side, slices, given.overlap, given.skip_air),
            "compare": lambda: compare(given.side, slices, given.repeats),
            "decide": lambda: decide(given.side, slices, 8),
        }
        print(json.dumps(parts[given.part]()))
        return

    def part(name: str, slices: int) -> dict:
        command = [
            sys.executable,
            "-m",
            "benchmarks.large_volume",
            "--part",
            name,
            "--side",
            str(given.side),
            "--slices",
            str(slices),
        ]
        command += ["--repeats", str(given.repeats), "--overlap", str(given.overlap)]
        command += ["--skip-air"] if given.skip_air else []
        return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, env=os.environ).stdout)

    results = [part("segment", slices) for slices in given.slices]
    middle = sorted(given.slices)[len(given.slices) // 2]
    resampling, decision = part("compare", middle), part("decide", middle)
    if given.json:
        print(json.dumps({"segment": results, "resampling": resampling, "decide": decision}, indent=1))
    else:
        print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
        show(results, resampling, decision, given.side)


if __name__ == "__main__":
    main()
