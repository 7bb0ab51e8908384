"""A training run by the clock, and what clicks are worth after it."""

import importlib.util
import json
import os
import tempfile
import time

from benchmarks.gpu.bench import Bench


def run(bench: Bench) -> None:
    missing = [name for name in ("tqdm", "tensorboard", "nibabel") if importlib.util.find_spec(name) is None]
    if missing:
        bench.note(f"not run: {' and '.join(missing)} not installed")
        return
    from deepedit.network.checkpoint import read_entries
    from deepedit_cli import evaluate, train

    aside = 0.0 if bench.small else 50.0  # start, the last two validations, evaluation
    minutes = min(bench.training_minutes, (bench.left() - aside) / 60)
    if minutes <= 0.05:
        bench.note(f"not run: there were {max(0.0, bench.left()):.0f} s left")
        return
    run, common = bench.folder / "run", ["--device", str(bench.device), "--overwrite"]
    command = ["--output", str(run), "--max-minutes", f"{minutes:.3f}", *common]
    command += ["--cache-dir", tempfile.mkdtemp(), "--workers", str(max(1, min(8, os.cpu_count() or 1)))]
    command += ["--input", str(bench.dataset)] if bench.dataset else []
    command += ["--limit", "2", "--batch-size", "2", "--spacing", "12", "--patch-size", "16"] if bench.small else []
    start = time.perf_counter()
    if status := train.main(command):
        raise SystemExit(status)
    took = time.perf_counter() - start
    steps = read_entries(run / "last.pt")["training"]["trainer"]["step"]
    dataset = bench.dataset or run / "phantom"
    name = "the synthetic dataset" if bench.dataset is None else bench.dataset.name
    figures = {"dataset": name, "minutes": minutes, "steps": steps, "steps a second": steps / (60 * minutes)}
    bench.row("Training", **figures, **{"seconds with preparation and validations": took})
    command = ["--model", str(run / "model.pt"), "--input", str(dataset), "--output", str(bench.folder / "report")]
    if status := evaluate.main([*command, "--limit", "1" if bench.small else "30", *common]):
        raise SystemExit(status)
    summary = json.loads((bench.folder / "report" / "report.json").read_text())
    dice = summary["mean"]["dice"]
    shown = [clicks for clicks in (0, 1, 2, 3, 5, 10) if clicks < len(dice)]
    bench.row("Mean Dice after clicks", cases=summary["cases"], **{str(clicks): dice[clicks] for clicks in shown})
