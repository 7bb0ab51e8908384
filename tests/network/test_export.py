"""Exported files run without this package and compute what the model computes."""

import json
import subprocess
import sys

import pytest
import torch

from deepedit.network.export import METADATA, export_program, export_torchscript

FOREIGN = """
import sys, torch
sys.modules["deepedit"] = None
module = torch.jit.load(sys.argv[1])
torch.save(module(torch.load(sys.argv[2])), sys.argv[3])
"""


def random_input(shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_torchscript_runs_without_the_package_and_equals_the_eager_model(model, tmp_path):
    export_torchscript(model, tmp_path / "model.ts")
    inputs = random_input((2, 6, 20, 12, 6))
    torch.save(inputs, tmp_path / "in.pt")
    files = [str(tmp_path / name) for name in ("model.ts", "in.pt", "out.pt")]
    subprocess.run([sys.executable, "-c", FOREIGN, *files], check=True, cwd=tmp_path)
    with torch.inference_mode():
        expected = model.network(inputs)
    torch.testing.assert_close(torch.load(tmp_path / "out.pt"), expected, atol=1e-5, rtol=0)


def test_torchscript_carries_the_plan(model, tmp_path):
    export_torchscript(model, tmp_path / "model.ts")
    extra = {METADATA: ""}
    torch.jit.load(tmp_path / "model.ts", _extra_files=extra)
    metadata = json.loads(extra[METADATA])
    assert metadata["plan"]["labels"] == {"names": ["liver", "spleen"], "values": [1, 6]}
    assert metadata["divisor"] == [4, 4, 2]
    assert metadata["output_channels"] == ["background", "liver", "spleen"]
    assert len(metadata["input_channels"]) == 6


def test_an_exported_program_equals_the_eager_model(model, tmp_path):
    try:
        export_program(model, tmp_path / "model.pt2")
    except Exception as error:
        pytest.skip(f"this version of torch cannot export the network: {error}")
    program = torch.export.load(tmp_path / "model.pt2").module()
    inputs = random_input((3, 6, 24, 16, 8))
    with torch.inference_mode():
        torch.testing.assert_close(program(inputs), model.network(inputs), atol=1e-4, rtol=0)
