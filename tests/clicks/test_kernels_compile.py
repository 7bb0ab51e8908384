"""The fused kernels compile for the GPUs that they are meant for, without one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton is not installed")

SHARED_BYTES = 48 * 1024
"""What every GPU gives a program without being asked for more."""


@pytest.mark.parametrize("architecture", [75, 80, 90, 100])
def test_no_kernel_spills_registers_or_takes_much_shared_memory(architecture, tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    compiled = subprocess.run(
        [sys.executable, "-m", "tests.clicks.compile_kernels", str(architecture)],
        cwd=Path(__file__).resolve().parents[2],
        env=environment | {"TRITON_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert compiled.returncode == 0, compiled.stderr
    kernels = json.loads(compiled.stdout)
    assert len(kernels) == 12
    for name, taken in kernels.items():
        assert taken["stack"] == taken["local"] == 0, name
        assert taken["registers"] <= 255, name
        assert taken["shared"] <= SHARED_BYTES, name
