"""deepedit-train, as its user runs it."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from deepedit.io.msd import split_cases
from deepedit.network.checkpoint import Model, load_model, read_entries, save_model
from deepedit.network.inputs import input_channels
from deepedit.network.refiner import build_refiner
from deepedit.network.unet import build_network
from deepedit.plan import Intensity
from deepedit.training.record import read_config
from deepedit_cli.next_steps import spelt
from deepedit_cli.train import main
from tests.cli.training_runs import QUICK, arguments

pytestmark = pytest.mark.usefixtures("small_network")

PAGE = Path(__file__).resolve().parents[2] / "docs" / "training.md"


def test_a_run_leaves_a_model_its_newest_state_its_settings_and_its_curves(finished, dataset):
    model = load_model(finished / "model.pt")
    assert model.plan.labels.names == ("liver", "spleen", "aorta")
    names = {*model.training_cases, *model.validation_cases}
    assert names == {path.name.removesuffix(".nii.gz") for path in (dataset / "imagesTr").iterdir()}
    assert read_entries(finished / "last.pt")["training"]["validated"] == 5
    record = json.loads((finished / "config.json").read_text())
    assert record["settings"]["dataset"] == str(dataset)
    assert record["settings"]["config"]["epochs"] == 2
    assert record["versions"]["torch"] == torch.__version__
    assert list((finished / "tensorboard").glob("events.*"))


def test_it_ends_by_telling_the_best_dice_and_what_to_run_next(dataset, tmp_path, capsys):
    assert main(arguments(dataset, tmp_path / "run", "--limit", "1")) == 0
    said = capsys.readouterr().out
    assert "best validation Dice" in said
    assert f"{spelt('deepedit-infer')} --model {tmp_path / 'run' / 'model.pt'} --input" in said
    assert "1 cases to train on" in said
    assert "patch 24 x 20 x 16, until 70% of the run 20 x 16 x 12;" in said


def test_voxels_to_ignore_are_left_out_and_remembered(dataset, tmp_path, capsys):
    copy = shutil.copytree(dataset, tmp_path / "data")
    description = json.loads((copy / "dataset.json").read_text())
    labels = {"background": 0, "liver": 1, "spleen": 2, "ignore": 3}
    (copy / "dataset.json").write_text(json.dumps({**description, "labels": labels}))
    assert main(arguments(copy, tmp_path / "run")) == 0
    model = load_model(tmp_path / "run" / "model.pt")
    assert (model.plan.labels.names, model.plan.ignore) == (("liver", "spleen"), 3)
    assert "voxels of value 3 are ignored" in capsys.readouterr().out


def test_the_curves_name_labels_clicks_parts_and_pictures(finished):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(finished / "tensorboard"))
    events.Reload()
    scalars = set(events.Tags()["scalars"])
    assert {"dice_liver/clicks_0", "dice_mean/clicks_5", "learning_rate", "loss/automatic"} <= scalars
    assert {f"seconds/{part}" for part in ("data", "clicks", "forward", "backward")} <= scalars
    assert events.Tags()["images"]


def test_the_cases_to_validate_are_chosen_by_the_split_seed_alone(finished, dataset, tmp_path):
    names = [path.name.removesuffix(".nii.gz") for path in (dataset / "imagesTr").iterdir()]
    usual = load_model(finished / "model.pt").validation_cases
    other = next(seed for seed in range(1, 100) if split_cases(names, 0.9, seed)[1] != usual)
    for number, (option, chosen) in enumerate(
        {"--seed": usual, "--split-seed": split_cases(names, 0.9, other)[1]}.items()
    ):
        run = tmp_path / str(number)
        assert main(arguments(dataset, run, *QUICK, option, str(other))) == 0
        assert load_model(run / "model.pt").validation_cases == chosen


def test_a_window_is_asked_for_as_the_docs_show_and_remembered(dataset, tmp_path, capsys):
    (shown,) = re.findall(r"`(--window [^`]*)`", PAGE.read_text(encoding="utf-8"))
    run, tuned = tmp_path / "run", tmp_path / "tuned"
    assert main(arguments(dataset, run, *QUICK, *shown.split())) == 0
    assert load_model(run / "model.pt").plan.intensity == Intensity("window", -1000, 400)
    assert read_config(run).intensity == Intensity("window", -1000, 400)
    # What the weights are used to is kept, unless another is asked for.
    start = ("--init-weights", str(run / "model.pt"))
    assert main(arguments(dataset, tuned, *QUICK, *start)) == 0
    assert load_model(tuned / "model.pt").plan.intensity == Intensity("window", -1000, 400)
    assert "not taken" not in capsys.readouterr().out
    assert main(arguments(dataset, tuned, *QUICK, *start, "--overwrite", "--percentiles", "1", "99")) == 0
    assert load_model(tuned / "model.pt").plan.intensity == Intensity("zscore", 1, 99)
    assert "not taken from" in (said := capsys.readouterr().out)
    assert "its intensities by window -1000 to 400" in said


def test_a_model_is_the_start_of_another_also_for_other_labels(finished, dataset, tmp_path, capsys):
    run, source, model = tmp_path / "run", tmp_path / "source.pt", load_model(finished / "model.pt")
    model.refiner = build_refiner(1, model.plan.labels.num_classes, seed=0)
    save_model(source, model)
    assert main(arguments(dataset, run, "--labels", "spleen=2", "--init-weights", str(source))) == 0
    assert load_model(run / "model.pt").plan.labels.names == ("spleen",)
    left = [line for line in capsys.readouterr().out.splitlines() if "not taken" in line]
    assert left == [f"not taken from {source}: its refiner"]


def test_export_writes_files_that_run_without_the_package(finished, tmp_path, capsys):
    target = tmp_path / "model.ts"
    command = ["--input", str(finished / "model.pt"), "--output", str(target), "--export"]
    assert main(command) == 0
    model = load_model(finished / "model.pt")
    inputs = torch.randn(1, model.network.in_channels, 16, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(torch.jit.load(target)(inputs), model.network(inputs), atol=1e-5, rtol=0)
    assert main(command) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main([*command, "true", "--overwrite"]) == 0
    target.unlink()
    program = target.with_suffix(".pt2")
    program.write_bytes(b"precious")
    assert main(command) == 2
    assert program.read_bytes() == b"precious"


@pytest.mark.parametrize("kind", ["torchscript", "monai"])
@pytest.mark.parametrize("refines", [False, True])
def test_an_export_says_that_the_refiner_is_left_out(finished, tmp_path, capsys, kind, refines):
    model, source = load_model(finished / "model.pt"), tmp_path / "model.pt"
    plan = replace(model.plan, previous=kind != "monai")
    network = build_network(input_channels(1, 4, plan.previous), 4, model.network.config, seed=0)
    save_model(source, Model(network, plan, refiner=build_refiner(1, 4, seed=0) if refines else None))
    assert main(["--input", str(source), "--output", str(tmp_path / "exported"), "--export", kind]) == 0
    assert ("left out the refiner" in capsys.readouterr().out) == refines


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--input", "nowhere"], "no such folder"),
        (["--labels", "spleen"], "spleen=1"),
        (["--labels", "kidney=9"], "9"),
        (["--patch-size", "17,16,16"], "multiple"),
        (["--init-weights", "nothing.pt"], "no such"),
        (["--epochs", "0"], "--epochs"),
        (["--split", "2"], "--split"),
        (["--split", "0"], "--split must be a share above 0"),
        (["--seed", "9" * 30], "--seed must be a whole number from 0 on, below 2**63"),
        (["--window", "400", "-1000"], "--window 400 -1000: intensity range must ascend"),
        (["--window", "-1000,400"], "--window"),
        (["--percentiles", "1", "101"], "--percentiles 1 101: percentiles go from 0 to 100"),
        (["--percentiles", "1", "99", "--window", "0", "1"], "--window: not allowed with argument --percentiles"),
        (["--resume", "--config", "config.json"], "--config: not allowed with argument --resume"),
        (["--device", "tpu"], "tpu"),
        (["--resume"], "without --resume"),
    ],
)
def test_bad_arguments_are_one_line_and_leave_no_model(dataset, tmp_path, capsys, more, said):
    assert main([*arguments(dataset, tmp_path / "run"), *more]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") <= 2
    assert not (tmp_path / "run" / "model.pt").exists()


def test_a_bad_image_is_found_before_training_also_where_it_only_validates(finished, dataset, tmp_path, capsys):
    broken = shutil.copytree(dataset, tmp_path / "data")
    (name,) = load_model(finished / "model.pt").validation_cases
    path = broken / "imagesTr" / f"{name}.nii.gz"
    path.write_bytes(path.read_bytes()[:-30])
    assert main(arguments(broken, tmp_path / "run")) == 2
    assert f"imagesTr/{name}.nii.gz: cut short" in capsys.readouterr().err
    assert not (tmp_path / "run" / "config.json").exists()


def test_a_bad_start_can_be_mended_without_overwrite(dataset, tmp_path):
    run = tmp_path / "run"
    assert main(arguments(dataset, run, "--labels", "kidney=9")) == 2
    assert main(arguments(dataset, run, "--limit", "1", "--max-clicks", "0")) == 0


def test_a_run_is_replaced_only_once_nothing_can_be_refused_any_more(dataset, tmp_path):
    run = tmp_path / "run"
    assert main(arguments(dataset, run, *QUICK)) == 0
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    assert main(arguments(tmp_path / "nowhere", run, *QUICK, "--overwrite")) == 2
    assert main(arguments(dataset, run, *QUICK, "--overwrite", "--labels", "kidney=9")) == 2
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before
    # Also where it is what the new one begins with.
    assert main(arguments(dataset, run, *QUICK, "--overwrite", "--init-weights", str(run / "model.pt"))) == 0
    assert (run / "model.pt").read_bytes() != before["model.pt"]


def test_the_phantom_is_the_default(tmp_path, monkeypatch, capsys):
    import deepedit.io.phantom as phantom

    written = phantom.write_phantom
    monkeypatch.setattr(
        phantom, "write_phantom", lambda folder, seed: written(folder, num_cases=2, seed=seed, shape=(16, 16, 16))
    )
    run = tmp_path / "run"
    assert main(["--output", str(run), "--epochs", "1", "--device", "cpu"]) == 0
    assert "phantom" in capsys.readouterr().out
    assert (run / "phantom" / "dataset.json").exists()
