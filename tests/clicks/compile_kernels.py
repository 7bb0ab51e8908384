"""Compile every fused kernel for some architectures without a GPU, and print as JSON what each takes.

    python -m tests.clicks.compile_kernels 80 90

Where ``TRITON_INTERPRET`` is set, kernels are not compiled but interpreted, so this is a process of its own.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from deepedit.clicks.kernels import components, drawing, launch, nearest, painting, regions

KERNELS = [
    (regions._error_codes, "*i64 *u8 *i64 *i64 *u8 i32", {"ALL_ROWS": False, "ALL_WRONG": False, "BLOCK": 1024}, 4),
    (regions._run_distance, "*u8 *u8 i32 i32 i32 i32", {"ROWS": 8, "SIDE": 128}, 4),
    (regions._line_distance, "*u8 *u8 *u8 i32 i32 i32", {"BLOCK": launch.SEARCH}, 1),
    (drawing._draw, "*u8 *u8 *i64 *i64 *i64 *i32 i32 i32", {"NONE_EVENLY": False, "COUNT": True, "BLOCK": 1024}, 4),
    (drawing._clicks_at_keys, "*i64 *i64 *i64 *i64 *i1 i32 i32 i32 i32", {"BLOCK": 128}, 4),
    (
        painting._paint_guidance,
        "*i64 *i64 *i64 *i1 *fp32 i32 i32 i32 i32 i32 i32 i32 i32 i32 fp32 fp32 fp32",
        {"CLICKS": painting.CLICKS, "PAINTED": painting.PAINTED},
        8,
    ),
    (
        nearest._within_reach,
        "*i64 *i1 *fp32 *fp32 i32 i32 i32 i32 fp32",
        {"MEASURED": nearest.MEASURED},
        4,
    ),
    (components._run_starts, "*u8 *i32 i32 i32 i32", {"ROWS": 1, "SIDE": 1024}, 4),
    (components._join_runs, "*u8 *i32 i32 i32 i32", {"BLOCK": launch.SEARCH}, 1),
    (components._measure_components, "*i32 *i32 *i64 i32", {"BLOCK": 1024}, 4),
    (components._squared_distance, "*i32 *i64 *i32 *i32 i32 i32 i32", {"FIRST": False, "BLOCK": launch.SEARCH}, 1),
    (components._find_deepest, "*i32 *i64 i32", {"BLOCK": 1024}, 4),
]
"""Each with the types of its arguments in order, constants, and warps."""


def compile_for(architecture: int) -> dict[str, dict[str, int]]:
    """By kernel: registers and bytes of stack and local memory of a thread, bytes of shared memory of a program."""
    return {entry[0].__name__: _resources(*entry, architecture) for entry in KERNELS}


def _resources(
    kernel: triton.JITFunction, types: str, constants: dict, warps: int, architecture: int
) -> dict[str, int]:
    variables = [name for name in kernel.arg_names if name not in constants]
    signature = dict(zip(variables, types.split(), strict=True)) | dict.fromkeys(constants, "constexpr")
    source = ASTSource(kernel, signature=signature, constexprs=constants)
    compiled = triton.compile(source, target=GPUTarget("cuda", architecture, 32), options={"num_warps": warps})
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        printed = subprocess.run([tool, "-res-usage", file.name], check=True, capture_output=True, text=True)
    line = next(line for line in (printed.stdout + printed.stderr).splitlines() if "REG:" in line)
    entries = dict(entry.split(":") for entry in line.split())
    names = {"registers": "REG", "stack": "STACK", "local": "LOCAL"}
    return {name: int(entries[key]) for name, key in names.items()} | {"shared": compiled.metadata.shared}


if __name__ == "__main__":
    print(json.dumps({architecture: compile_for(int(architecture)) for architecture in sys.argv[1:]}))
