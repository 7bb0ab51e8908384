"""Ways to run the network: as it is, with cuDNN choosing, channels last, compiled, as a CUDA graph.

What tells most comes first: all that is ready at once, for the sizes that matter, then what takes half a minute to
compile.
"""

import copy
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.gpu.bench import Bench
from benchmarks.timing import cudnn_choosing, kernels, timed
from deepedit.network.architectures import NETWORKS, UNetConfig
from deepedit.network.inputs import autocast_dtype, input_channels
from deepedit.network.unet import build_network
from deepedit.training.losses import segmentation_loss

CLASSES = 4
READY = ("as it is", "cuDNN chooses", "channels last", "CUDA graph")
COMPILED = {"compiled": "default", "compiled, channels last": "default", "compiled, CUDA graphs": "reduce-overhead"}
COMPILING_SECONDS = 25.0
"""What is kept for a compilation: one that does not end in time would take the figures to come with it."""


@dataclass(frozen=True)
class Setting:
    """A network, the shape of its input, and what is done with it."""

    network: str
    config: UNetConfig
    shape: tuple[int, int, int]
    batch: int
    work: str


FORWARD, STEP = "forward, no gradient", "forward, loss, backward"


def settings(small: bool) -> tuple[list[Setting], list[Setting]]:
    """Those that matter most, and the others."""
    light, reference = NETWORKS["light"], NETWORKS["reference"]
    if small:
        return [Setting("light", light, (16, 16, 16), 2, work) for work in (FORWARD, STEP)], []
    first = [
        ("light", light, (40, 56, 40), 4),
        ("light", light, (128,) * 3, 4),
        ("reference", reference, (128,) * 3, 1),
    ]
    others = [("light", light, (64,) * 3, 4), ("reference", reference, (64, 64, 48), 4)]
    both = [[Setting(*each, work) for each in group for work in (FORWARD, STEP)] for group in (first, others)]
    return both[0], both[1]


def plan(small: bool, on_gpu: bool) -> Iterator[tuple[Setting, str, str]]:
    """Setting, precision and mode of every row, what tells most first."""
    first, others = settings(small)
    ready = READY if on_gpu else ("as it is", "channels last")

    def at_once(group: list[Setting]) -> Iterator[tuple[Setting, str, str]]:
        for setting in group:
            yield from ((setting, "auto", mode) for mode in ready)
            if setting.work == FORWARD:
                yield setting, "off", ready[0]

    yield from at_once(first)
    if not on_gpu:
        return
    small_ones = [each for each in first if each.shape != (128,) * 3]
    large_ones = [each for each in first if each not in small_ones]
    # Forward, training; then, as the time allows, with graphs too, and the largest ones.
    yield from ((setting, "auto", "compiled") for setting in reversed(small_ones))
    yield from ((setting, "auto", "compiled") for setting in large_ones if setting.network == "light")
    yield from ((setting, "auto", "compiled, CUDA graphs") for setting in small_ones)
    yield from at_once(others)
    yield from ((setting, "auto", "compiled") for setting in large_ones if setting.network != "light")
    yield from ((setting, "auto", "compiled, channels last") for setting in large_ones)
    yield from itertools.product(others, ["auto"], COMPILED)


def run(bench: Bench) -> None:
    # Compile times are those of a first run, whatever was compiled on this machine before.
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = tempfile.mkdtemp()
    as_it_is: dict[tuple[Setting, str], float] = {}
    for setting, amp, mode in plan(bench.small, bench.device.type == "cuda"):
        name = f"{setting.network}, {setting.work}, {' x '.join(map(str, setting.shape))}, {mode}"
        if mode in COMPILED:
            torch.compiler.reset()
        with bench.attempt(name):
            bench.needs(COMPILING_SECONDS if mode in COMPILED else 2.0)
            found = measure(bench, setting, amp, mode)
            if mode == READY[0]:
                as_it_is[setting, amp] = found["ms"]
            before = as_it_is.get((setting, amp))
            bench.row(
                f"Network modes, {setting.work}",
                network=setting.network,
                shape=" x ".join(map(str, setting.shape)),
                batch=setting.batch,
                precision=str(autocast_dtype(bench.device, amp) or torch.float32).removeprefix("torch."),
                mode=mode,
                **found,
                **{"times as fast": before and before / found["ms"]},
            )


def measure(bench: Bench, setting: Setting, amp: str, mode: str) -> dict[str, object]:
    """Milliseconds of a run, and seconds until the first one was through."""
    device = bench.device
    network = build_network(input_channels(1, CLASSES), CLASSES, setting.config, seed=0).to(device)
    network.train(setting.work == STEP)
    generator = torch.Generator(device).manual_seed(0)
    shape = (setting.batch, network.in_channels, *setting.shape)
    inputs = torch.randn(shape, device=device, generator=generator)
    label = torch.randint(CLASSES, (setting.batch, *setting.shape), device=device, generator=generator)
    if "channels last" in mode:
        network = network.to(memory_format=torch.channels_last_3d)
        inputs = inputs.contiguous(memory_format=torch.channels_last_3d)
    with cudnn_choosing(mode == "cuDNN chooses"):
        start = time.perf_counter()
        work = prepared(network, inputs, label, setting.work, amp, mode)
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        first = time.perf_counter() - start
        seconds = timed(work, device, 3 if bench.small else 20, 0.5)
        seen = (kernels(work, device) if mode == READY[0] or mode in COMPILED else None) or {}
    return {
        "ms": 1e3 * statistics.median(seconds),
        "spread ms": [1e3 * min(seconds), 1e3 * max(seconds)],
        "first s": first,
        "kernels": seen.get("kernels"),
    }


def prepared(network: nn.Module, inputs: Tensor, label: Tensor, work: str, amp: str, mode: str) -> Callable[[], object]:
    """The work in that mode, to be called time and again."""
    dtype = autocast_dtype(inputs.device, amp)

    def precision():
        # Without the cache of weights that were cast, as graphs demand; it makes no difference within one pass.
        return torch.autocast(inputs.device.type, dtype, cache_enabled=False) if dtype else nullcontext()

    run = network
    if mode in COMPILED:
        run = torch.compile(network, mode=COMPILED[mode], dynamic=False)
    graphed = mode.startswith("CUDA graph")
    if work == FORWARD:

        @torch.inference_mode()
        def forward() -> Tensor:
            if mode in COMPILED:
                torch.compiler.cudagraph_mark_step_begin()
            with precision():
                return run(inputs)

        return captured(forward) if graphed else forward
    if graphed:
        # Into a copy: the passes are put in place of the network's own.
        with precision():
            run = torch.cuda.make_graphed_callables(copy.deepcopy(network), (inputs,))
    nearness = torch.zeros(label.shape, device=label.device)

    def step() -> None:
        if mode in COMPILED:
            torch.compiler.cudagraph_mark_step_begin()
        run.zero_grad(set_to_none=True)
        with precision():
            logits = run(inputs)
        segmentation_loss(logits, label, nearness, 1.0).mean().backward()

    return step


def captured(work: Callable[[], object]) -> Callable[[], object]:
    """The work as one CUDA graph."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            work()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        kept = work()

    def replay() -> object:
        graph.replay()
        return kept

    return replay
