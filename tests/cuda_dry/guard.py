"""A device guard that guards nothing, compiled once a run: with it torch's CPU build makes fake tensors on CUDA."""

import ctypes
import functools
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch

SOURCE = """
#include <c10/core/impl/DeviceGuardImplInterface.h>

namespace {
using Guard = c10::impl::NoOpDeviceGuardImpl<c10::DeviceType::CUDA>;
C10_REGISTER_GUARD_IMPL(CUDA, Guard)
}
"""

STANDARDS = ("c++20", "c++17")
"""Of C++, tried in turn: newer versions of torch ask for the first, which older compilers do not know."""


@functools.cache
def load_guard() -> str | None:
    """Register the guard in this process; returns why it cannot be done, or None if it was done or is not needed."""
    if torch.cuda.is_available():
        return None
    compiler = shutil.which("g++")
    if compiler is None:
        return "there is no g++ to compile a device guard with"
    torch_folder = Path(torch.__file__).parent
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder, "guard.cpp"), Path(folder, "guard.so")
        source.write_text(SOURCE)
        for standard in STANDARDS:
            options = ["-shared", "-fPIC", f"-std={standard}", f"-I{torch_folder}/include", f"-L{torch_folder}/lib"]
            command = [compiler, *options, str(source), "-lc10", "-o", str(library)]
            compiled = subprocess.run(command, capture_output=True, text=True, check=False)
            if compiled.returncode == 0:
                ctypes.CDLL(str(library))
                return None
    return f"g++ cannot compile a device guard: {compiled.stderr.strip().splitlines()[-1]}"
