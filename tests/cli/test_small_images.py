"""Images whose grid is one step of the network, so that its deepest level would be a single voxel."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from deepedit.inference.sliding_window import window_shape
from deepedit.io.nifti import read_label, write_label, write_volume
from deepedit.network import inputs
from deepedit.network.architectures import NETWORKS, more_than_one_voxel
from deepedit.network.checkpoint import Model, load_model, save_model
from deepedit.network.inputs import input_channels
from deepedit.network.unet import build_network
from deepedit.plan import Labels, Plan
from deepedit.volume import Volume
from deepedit_cli import evaluate, infer, train

SIZES = {
    "three of 5": ([5, 5, 5], ()),
    "coarse": ([24, 24, 24], ("--spacing=100",)),
    "three of four small": ([24, 8, 8, 8], ()),
}


@pytest.fixture(autouse=True, params=["float32", "bfloat16"])
def precision(request, monkeypatch):
    """A norm of a single voxel fails at one precision and says nothing at the other."""
    monkeypatch.setattr(inputs, "_cpu_has_bfloat16", lambda: request.param == "bfloat16")
    # As deep as the real ones, and narrow.
    monkeypatch.setitem(NETWORKS, "light", replace(NETWORKS["light"], filters=(2, 2, 4, 4)))
    monkeypatch.setitem(NETWORKS, "reference", replace(NETWORKS["reference"], filters=(2, 2, 2, 2, 4, 4)))
    return request.param


def write_dataset(folder, sides):
    for number, side in enumerate(sides):
        for room, write in (("imagesTr", write_volume), ("labelsTr", write_label)):
            (folder / room).mkdir(parents=True, exist_ok=True)
            label = np.zeros((side,) * 3, np.uint8)
            label[1 : side // 2 + 1, 1:4, 1:4] = 1
            image = np.random.default_rng(number).normal(label, 0.1).astype(np.float32)
            data = label if room == "labelsTr" else image
            write(folder / room / f"case_{number}.nii.gz", data, Volume(data))
    return folder


def save_untrained(path, network, spacing=1.0):
    """A model as training would begin with, and the patch that it would plan for small images."""
    config = NETWORKS[network]
    patch = more_than_one_voxel(config.divisor, config.divisor)
    plan = Plan(Labels(("one",), (1,)), (spacing,) * 3, patch)
    save_model(path, Model(build_network(input_channels(1, 2), 2, config, seed=0), plan))


@pytest.mark.parametrize(
    ("shape", "spacing"), [((5, 5, 5), 1.0), ((8, 8, 8), 1.0), ((1, 2, 1), 1.0), ((30, 20, 9), 100)]
)
def test_they_are_segmented_from_clicks_and_without(tmp_path, shape, spacing):
    save_untrained(tmp_path / "model.pt", "light", spacing)
    data = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    write_volume(tmp_path / "image.nii.gz", data, Volume(data))
    call = [f"--model={tmp_path / 'model.pt'}", f"--input={tmp_path / 'image.nii.gz'}", "--device=cpu"]
    for name, clicks in (("automatic.nii.gz", ()), ("clicked.nii.gz", ("--click=one:0,1,0",))):
        assert infer.main([*call, f"--output={tmp_path / name}", *clicks]) == 0
        assert read_label(tmp_path / name).shape == shape
    assert read_label(tmp_path / "clicked.nii.gz").data[0, 1, 0] == 1


@pytest.mark.parametrize(("sides", "more"), SIZES.values(), ids=SIZES)
def test_they_are_trained_on_validated_and_evaluated(tmp_path, capsys, precision, sides, more):
    if precision == "bfloat16":
        pytest.skip("over two planes torch's gradients of bfloat16 weights are not to be trusted")
    data, run = write_dataset(tmp_path / "data", sides), tmp_path / "run"
    common = (f"--input={data}", "--device=cpu")
    assert train.main([*common, f"--output={run}", "--epochs=1", "--batch-size=2", "--max-clicks=1", *more]) == 0
    model = f"--model={run / 'model.pt'}"
    assert load_model(run / "model.pt").plan.patch_size == ((8, 16, 16) if len(sides) == 3 else (16, 16, 16))
    report = f"--output={tmp_path / 'report'}"
    assert evaluate.main([*common, model, report, "--cases=all", "--max-clicks=2"]) == 0
    assert capsys.readouterr().err == ""


def test_the_large_network_segments_them_too(tmp_path):
    save_untrained(tmp_path / "model.pt", "reference")
    data = np.random.default_rng(0).normal(size=(24, 24, 12)).astype(np.float32)
    write_volume(tmp_path / "image.nii.gz", data, Volume(data))
    call = [f"--model={tmp_path / 'model.pt'}", f"--input={tmp_path / 'image.nii.gz'}", "--device=cpu"]
    assert infer.main([*call, f"--output={tmp_path / 'seg.nii.gz'}"]) == 0


def test_a_patch_of_one_step_is_refused_with_one_that_does(tmp_path, capsys, precision):
    if precision == "bfloat16":
        pytest.skip("over two planes torch's gradients of bfloat16 weights are not to be trusted")
    data, run = write_dataset(tmp_path / "data", [8, 8]), tmp_path / "run"
    call = [f"--input={data}", f"--output={run}", "--device=cpu", "--epochs=1", "--batch-size=1", "--max-clicks=0"]
    assert train.main([*call, "--patch-size=8"]) == 2
    said = capsys.readouterr().err
    assert "--patch-size 8,8,8: too small for this network" in said
    assert "give 8,16,16 or more" in said
    assert train.main([*call, "--patch-size=8,16,16"]) == 0


def test_the_deepest_level_has_four_voxels_where_it_would_have_one_and_else_stays():
    for config in NETWORKS.values():
        step, patch = config.divisor, (128, 128, 128)
        least = (step[0], 2 * step[1], 2 * step[2])
        assert window_shape(step, patch, step) == window_shape((1, 1, 1), patch, step) == least
        for axis in range(3):
            longer = tuple(side + (dim == axis) for dim, side in enumerate(step))
            rounded = tuple(side * (1 + (dim == axis)) for dim, side in enumerate(step))
            assert window_shape(longer, patch, step) == rounded
        network = build_network(7, 3, config, seed=0).train()
        assert torch.isfinite(network(torch.rand(1, 7, *least))).all()
