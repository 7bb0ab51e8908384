"""One part of ``benchmarks.gpu``, in this process: what it finds goes to a file, row by row."""

import argparse
import importlib
import sys
from pathlib import Path

import torch

from benchmarks.gpu.bench import Bench
from deepedit.network.inputs import pick_device


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part")
    parser.add_argument("--rows", type=Path, required=True, help="file that rows are added to")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--until", type=float, required=True, help="seconds of the clock")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--input", type=Path)
    parser.add_argument("--training-minutes", type=float, default=3.0)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    device = pick_device(options.device)
    given = {name: getattr(options, name) for name in ("rows", "folder", "small", "until")}
    part = importlib.import_module(f"benchmarks.gpu.{options.part}")
    part.run(Bench(**given, dataset=options.input, device=device, training_minutes=options.training_minutes))
    return 0


if __name__ == "__main__":
    sys.exit(main())
