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


ARCHITECTURES = ("75", "80", "90", "100")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """For each architecture what each kernel takes."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.clicks.compile_kernels", *ARCHITECTURES],
        cwd=Path(__file__).resolve().parents[2],
        env=environment | {"TRITON_CACHE_DIR": str(tmp_path_factory.mktemp("triton"))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_no_kernel_spills_registers_or_takes_much_shared_memory(compiled, architecture):
    kernels = compiled[architecture]
    assert len(kernels) == 12
    for name, taken in kernels.items():
        assert taken["stack"] == taken["local"] == 0, name
        assert taken["registers"] <= 255, name
        assert taken["shared"] <= SHARED_BYTES, name
