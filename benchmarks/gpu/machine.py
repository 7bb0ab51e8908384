"""What this runs on."""

import os
import platform
import shutil
import sysconfig
from importlib import metadata
from pathlib import Path

import torch

from benchmarks.gpu.bench import Bench
from benchmarks.timing import kernels


def run(bench: Bench) -> None:
    found: dict[str, object] = {}
    if bench.device.type == "cuda":
        properties = torch.cuda.get_device_properties(bench.device)
        found["GPU"] = f"{properties.name} ({properties.total_memory / 2**30:.0f} GiB)"
        found["compute capability"] = f"{properties.major}.{properties.minor}"
        found["CUDA"], found["cuDNN"] = torch.version.cuda, torch.backends.cudnn.version()
    else:
        found["GPU"] = "none"
    found["CPU cores"], found["threads"] = os.cpu_count(), torch.get_num_threads()
    found["Python"], found["torch"] = platform.python_version(), torch.__version__
    for name in ("triton", "numpy", "scipy", "nibabel", "monai", "pytorch-ignite", "hypothesis", "pytest"):
        found[name] = version(name)
    compiler = next((name for name in ("gcc", "clang", "cc") if shutil.which(name)), None)
    found["C compiler"] = compiler or "none"
    headers = Path(sysconfig.get_paths()["include"]) / "Python.h"
    found["Python.h"] = "there" if headers.exists() else "missing"
    bench.row("Machine", **found)
    if bench.device.type == "cuda":
        ones = torch.ones(2**20, device=bench.device)
        seen = kernels(lambda: ones + 1, bench.device)
        bench.note(f"the profiler sees {'nothing' if seen is None else seen['kernels']} of 1 kernel")


def version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
