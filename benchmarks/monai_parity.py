"""Whether an imported model does what it did in MONAI, and how fast: both in one run, with the same random weights.

    python -m benchmarks.monai_parity --size 64 --filters 8 16 32 64 64 64
    python -m benchmarks.monai_parity

The second is the published network at 128^3: minutes a step on a few cores. MONAI must be installed
(``pip install deepedit[bench]``). Runs of ours and MONAI's take turns, so that a busy machine slows both; seconds of
the processor are printed beside those of the clock, which on a machine with other work is what the waiting was.
"""

import argparse
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.options import add_shared, parser
from deepedit.clicks import Clicks, render_guidance
from deepedit.inference.session import InteractiveSession
from deepedit.inference.sliding_window import sliding_window
from deepedit.io.nifti import read_volume
from deepedit.network.checkpoint import Model
from deepedit.network.dynunet import channel_orders
from deepedit.network.inputs import assemble_input, autocast_dtype, mixed_precision
from deepedit.network.monai import export_dynunet, import_model
from deepedit.transforms.preprocess import Preprocessor
from deepedit_cli.options import positive_int

try:
    import monai

    from benchmarks import reference_pipeline as reference
except ImportError:
    monai = None

VALUES = {"spleen": 1, "kidney": 3, "liver": 6}
"""No two of the orders (by name, by value, as written) agree."""

NATIVE = (0.83, 0.71, 0.37)
"""Shape of the image, relative to the network's grid."""


def names(labels: int) -> list[str]:
    """The labels in MONAI's order, the background first."""
    return ["background", *sorted(list(VALUES)[:labels])]


def exactness(theirs: nn.Module, model: Model, shape: Sequence[int], seed: int) -> None:
    """Print the largest differences, stage by stage."""
    labels = model.plan.labels
    order, _ = channel_orders(dict(zip(labels.names, labels.values, strict=True)))
    image_order = [0, *(1 + order.index(index) for index in range(labels.num_classes))]
    random = np.random.default_rng(seed)
    print(f"\n{'largest difference':44}{'absolute':>12}{'largest value':>16}")

    x = torch.from_numpy(random.random((1, labels.num_classes + 1, *shape), np.float32))
    with torch.no_grad():
        difference("network, logits", model.network(x[:, image_order]), theirs(x)[:, order_of_outputs(model)])

    on_grid = {name: random.integers(0, shape, (5, 3)).tolist() for name in names(len(labels.names))}
    rendered = render_guidance(
        click_tensors(model, on_grid), shape, labels.num_classes, sigma=3.0, combine="sum-normalized"
    )
    expected = torch.from_numpy(reference.guidance({name: on_grid[name] for name in labels.class_names}, shape))
    difference("guidance, 5 clicks a class", rendered[0], expected)

    with tempfile.TemporaryDirectory() as folder:
        path, clicks = write_case(Path(folder), names(len(labels.names)), shape, random)
        whole_way(theirs, model, path, clicks, shape)


def whole_way(theirs: nn.Module, model: Model, path: Path, clicks: dict, shape: Sequence[int]) -> None:
    """Print the differences on the way from a file and clicks to labels on the file's own grid."""
    labels, volume = model.plan.labels, read_volume(path)
    preprocess = Preprocessor(model.plan)
    image, grid = preprocess(volume)
    on_grid = click_tensors(
        model, {name: [preprocess.click(voxel, grid) for voxel in voxels] for name, voxels in clicks.items()}
    )
    rendered = render_guidance(on_grid, shape, labels.num_classes, sigma=3.0, combine=model.plan.guidance)
    ours = assemble_input(image[None], rendered, None)
    expected = reference.network_input(path, clicks, shape)
    ordered = [0, *(1 + list(clicks).index(name) for name in labels.class_names)]
    difference("file and clicks to network input", ours, expected[:, ordered])
    with torch.no_grad():
        logits = theirs(expected)
    found = sliding_window(model, image, on_grid, amp="off")
    theirs_ordered = logits[0, order_of_outputs(model)]
    difference("file and clicks to logits", found, theirs_ordered)
    native = reference.to_native(theirs_ordered[None], volume.shape)

    session = InteractiveSession(model, amp="off")
    session.set_image(volume)
    for name, voxels in clicks.items():
        for voxel in voxels:
            session.add_click(voxel, name)
    shown = labels.to_classes(session.predict())
    shared = (found.argmax(0) == theirs_ordered.argmax(0)).float().mean().item()
    print(f"labels that are the same: on the network's grid {shared:.4%},")
    interpolated = labels.to_classes(preprocess.to_native(theirs_ordered, grid))
    print(
        f"  a session's on the file's grid {(shown == interpolated).mean():.4%} where MONAI's logits are brought there"
    )
    print(
        f"  as a session does it, interpolated before the decision; {(shown == native).mean():.2%} where as MONAI does,"
    )
    print("  by nearest voxel: random weights decide voxel by voxel, and show that difference at its largest")


def order_of_outputs(model: Model) -> list[int]:
    """MONAI's output channel of each of our classes."""
    return [names(len(model.plan.labels.names)).index(name) for name in model.plan.labels.class_names]


def click_tensors(model: Model, clicks: dict) -> Clicks:
    index = torch.tensor([model.plan.labels.index(name) for name, voxels in clicks.items() for _ in voxels])
    position = torch.tensor(np.array([voxel for voxels in clicks.values() for voxel in voxels]))
    return Clicks(torch.zeros_like(index), index, position)


def write_case(
    folder: Path, classes: list[str], shape: Sequence[int], random: np.random.Generator
) -> tuple[Path, dict]:
    """An image in HU, its affine RAS as the reference's clicks need it, and two clicks a class."""
    size = [max(round(side * part), 1) for side, part in zip(shape, NATIVE, strict=True)]
    coarse = torch.from_numpy(random.normal(size=(1, 1, 6, 6, 6)))
    voxels = F.interpolate(coarse, size, mode="trilinear")[0, 0].numpy() * 300 + random.normal(size=size) * 30
    path = folder / "image.nii.gz"
    nibabel.save(nibabel.Nifti1Image(voxels.astype(np.float32), np.diag([0.8, 0.8, 2.5, 1])), path)
    return path, {name: random.integers(0, size, (2, 3)).tolist() for name in classes}


def difference(stage: str, ours: Tensor, expected: Tensor) -> None:
    print(f"{stage:44}{(ours - expected).abs().max().item():12.1e}{expected.abs().max().item():16.2f}")


def speed(theirs: nn.Module, model: Model, shape: Sequence[int], options: argparse.Namespace) -> None:
    """Print the seconds of a pass and of a training step, and their ratios."""
    device = torch.device(options.device)
    networks = {"MONAI": theirs.to(device), "ours": model.network.to(device)}
    x = torch.rand(1, model.network.in_channels, *shape, device=device)
    target = torch.randint(model.network.out_channels, (1, *shape), device=device)
    precisions = {"float32": "off"} | ({} if autocast_dtype(device) is None else {"default": "auto"})
    print(
        f"\n{'x'.join(map(str, shape))}, batch 1, {device}, {torch.get_num_threads()} threads, medians of "
        f"{options.repeats} and {options.step_repeats} after a warm-up; default precision: "
        f"{autocast_dtype(device) or 'float32'}"
    )
    print("seconds and ratios by the clock (and of the processor)")
    print(
        f"{'':16}{'precision':12}{'MONAI':>20}{'ours':>20}{'MONAI / ours':>14}{'MONAI float32 / ours':>22}", flush=True
    )
    for stage, work, repeats in (("forward", forward, options.repeats), ("training step", step, options.step_repeats)):
        works = {
            (who, precision): work(network, x, target, amp)
            for precision, amp in precisions.items()
            for who, network in networks.items()
        }
        seconds = take_turns(works, repeats, device)
        full = seconds["MONAI", "float32"]
        for precision in precisions:
            monais, ours = seconds["MONAI", precision], seconds["ours", precision]
            columns = f"{show(monais)}{show(ours)}{ratio(monais, ours):>14}{ratio(full, ours):>22}"
            print(f"{stage:16}{precision:12}{columns}", flush=True)


def forward(network: nn.Module, x: Tensor, _: Tensor, amp: str) -> Callable[[], None]:
    def work() -> None:
        network.eval()
        with torch.inference_mode(), mixed_precision(x.device, amp):
            network(x)

    return work


def step(network: nn.Module, x: Tensor, target: Tensor, amp: str) -> Callable[[], None]:
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-6)

    def work() -> None:
        network.train()
        with mixed_precision(x.device, amp):
            logits = network(x)
        F.cross_entropy(logits.float(), target).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return work


def take_turns(works: dict, repeats: int, device: torch.device) -> dict[tuple[str, str], tuple[float, float]]:
    """Median seconds by the clock and of the processor; one run of each after the other, as often as asked."""
    clock: dict = {key: [] for key in works}
    processor: dict = {key: [] for key in works}
    for turn in range(repeats + 1):
        for key, work in works.items():
            start, busy = time.perf_counter(), time.process_time()
            work()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if turn:
                clock[key].append(time.perf_counter() - start)
                processor[key].append(time.process_time() - busy)
    return {key: (statistics.median(clock[key]), statistics.median(processor[key])) for key in works}


def show(seconds: tuple[float, float]) -> str:
    return f"{seconds[0]:.3f} s ({seconds[1]:.3f})".rjust(20)


def ratio(slower: tuple[float, float], faster: tuple[float, float]) -> str:
    return f"{slower[0] / faster[0]:.2f} ({slower[1] / faster[1]:.2f})"


def arguments() -> argparse.Namespace:
    options = parser(__doc__.split("\n\n")[0])
    options.add_argument(
        "--size",
        type=positive_int,
        nargs="+",
        default=[128],
        metavar="VOXELS",
        help="of the network's grid, 1 or 3 numbers (default: 128)",
    )
    options.add_argument(
        "--filters",
        type=positive_int,
        nargs=6,
        default=[32, 64, 128, 256, 320, 320],
        metavar="N",
        help="of each level (default: 32 64 128 256 320 320)",
    )
    options.add_argument(
        "--labels",
        type=int,
        default=1,
        choices=(1, 2, 3),
        help="number of labels besides the background (default: %(default)s)",
    )
    add_shared(options, "--repeats", default=5, help="forward passes that are timed (default: %(default)s)")
    options.add_argument(
        "--step-repeats",
        type=positive_int,
        default=3,
        metavar="N",
        help="training steps that are timed (default: %(default)s)",
    )
    options.add_argument("--only", choices=("exactness", "speed"), help="do one of both")
    add_shared(options, "--device", default="cpu", help="of the timings (default: %(default)s)")
    add_shared(options, "--threads", "--seed")
    given = options.parse_args()
    given.size = tuple(given.size * 3 if len(given.size) == 1 else given.size)
    return given


def main() -> None:
    options = arguments()
    if monai is None:
        raise SystemExit("MONAI is not installed; pip install deepedit[bench]")
    if options.threads:
        torch.set_num_threads(options.threads)
    print(f"python {platform.python_version()}, torch {torch.__version__}, MONAI {monai.__version__}")
    theirs = reference.network(options.labels, options.filters, options.seed)
    values = {name: VALUES[name] for name in list(VALUES)[: options.labels]}
    model = import_model(theirs.state_dict(), values, grid=options.size)
    theirs.load_state_dict(export_dynunet(model), strict=True)
    print("imported, exported, and loaded by MONAI with strict=True")
    if options.only != "speed":
        exactness(theirs, model, options.size, options.seed)
    if options.only != "exactness":
        speed(theirs, model, options.size, options)


if __name__ == "__main__":
    main()
