"""What CUDA code asks of a GPU, counted without one: kernels, gigabytes, and what the host waits for.

    python -m tests.cuda_dry.counts

At 128^3 with seven labels, batch 4, light network. Kernels of backward passes are not among them: torch's CPU builds do
not run those for another device.
"""

from collections.abc import Iterator

import torch

from deepedit.clicks import Annotator, error_regions, render_guidance, sample_clicks, simulate_clicks
from tests.cuda_dry.dry import DryCuda
from tests.cuda_dry.record import Record
from tests.cuda_dry.scenes import LABELS, blocks, plan, session, train

SHAPE, SAMPLES, CLASSES = (128, 128, 128), 4, LABELS + 1


def of_clicks(dry: DryCuda) -> Iterator[tuple[str, list[Record]]]:
    prediction, label = (
        torch.zeros(SAMPLES, *SHAPE, dtype=dtype, device="cuda") for dtype in (torch.int64, torch.uint8)
    )
    error_regions(prediction, label, CLASSES)  # the first call asks whether the fused kernels run
    with dry.recording() as record:
        clicks = sample_clicks(error_regions(prediction, label, CLASSES), CLASSES, torch.Generator("cuda"))
        render_guidance(clicks, SHAPE, CLASSES, SAMPLES)
    yield "click simulation, from label maps to guidance", [record]
    for name, annotator in (("deepest voxel of the largest error", Annotator.perfect()), ("drawn", Annotator.steady())):
        with dry.recording() as record:
            sources = [torch.Generator().manual_seed(seed) for seed in range(SAMPLES)]
            simulate_clicks(prediction, label, CLASSES, annotator, sources)
        yield f"a click of the training annotator: {name}", [record]


def of_training(dry: DryCuda) -> Iterator[tuple[str, list[Record]]]:
    yield "a training step, backward pass left out", train(dry, 11, side=128)[1:]
    worst = {"edit_probability": 1.0, "redraw_probability": 1.0, "max_clicks": 2}
    yield "the same, every sample corrupted and redrawn", train(dry, 11, side=128, **worst)[1:]


def of_sessions(dry: DryCuda) -> Iterator[tuple[str, list[Record]]]:
    scenes = (
        ("a click", SHAPE, 1.0, False, False),
        ("a click with a refiner", SHAPE, 1.0, False, True),
        ("a click on an initial segmentation", SHAPE, 1.0, True, False),
        ("a click, resampled to 1.5 mm", (256, 256, 128), 1.5, False, False),
    )
    for name, shape, spacing, given, refines in scenes:
        asked = session(plan(128, spacing), shape, refines)
        if given:
            asked.set_segmentation(blocks(shape))
        asked.predict()
        for nth in range(3):
            with dry.recording() as record:
                asked.add_click((20 + 30 * nth, 40, 40), "label_1")
        yield f"{name}, {' x '.join(map(str, shape))}", [record]


def main() -> None:
    print("| | kernels | GB | waits | blocking uploads |\n| --- | --- | --- | --- | --- |")
    for part in (of_clicks, of_training, of_sessions):
        with DryCuda() as dry:
            for name, records in part(dry):
                columns = [
                    [record.launches for record in records],
                    [record.bytes / 1e9 for record in records],
                    [len(record.waits) for record in records],
                    [len(record.uploads) for record in records],
                ]
                print(f"| {name} | {' | '.join(map(_span, columns))} |", flush=True)


def _span(values: list[float]) -> str:
    low, high = (f"{value:.2f}" if isinstance(value, float) else str(value) for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


if __name__ == "__main__":
    main()
