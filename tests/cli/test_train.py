"""deepedit-train, as its user runs it."""

import json
import re
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from deepedit.io.msd import split_cases
from deepedit.io.phantom import write_phantom
from deepedit.network.architectures import NETWORKS, UNetConfig
from deepedit.network.checkpoint import Model, load_model, read_entries, save_model
from deepedit.network.inputs import input_channels
from deepedit.network.refiner import build_refiner
from deepedit.network.unet import build_network
from deepedit.plan import Intensity
from deepedit.training import validation
from deepedit.training.batch import RollingBatch
from deepedit.training.record import read_config
from deepedit_cli import train
from deepedit_cli.next_steps import spelt
from deepedit_cli.train import main
from tests.training.configs import ARGUMENTS, TRAINING, changed_defaults

PAGE = Path(__file__).resolve().parents[2] / "docs" / "training.md"


@pytest.fixture(autouse=True)
def small_network(monkeypatch):
    """An architecture that trains in seconds; everything else is as users have it."""
    monkeypatch.setitem(NETWORKS, "light", UNetConfig(filters=(4, 8, 8), strides=(1, 2, 2), kernels=(3, 3, 3)))
    monkeypatch.setattr(train, "on_terminal", lambda: False)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "phantom"
    return write_phantom(folder, num_cases=4, seed=0, shape=(24, 20, 16))


def arguments(dataset, run, *more):
    return [
        "--input",
        str(dataset),
        "--output",
        str(run),
        "--epochs",
        "2",
        "--batch-size",
        "2",
        "--device",
        "cpu",
        *more,
    ]


QUICK = ("--epochs", "1", "--max-clicks", "0", "--limit", "1")


@pytest.fixture(scope="module")
def finished(dataset, tmp_path_factory):
    """A run folder as a finished run leaves it."""
    run = tmp_path_factory.mktemp("runs") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(NETWORKS, "light", UNetConfig(filters=(4, 8, 8), strides=(1, 2, 2), kernels=(3, 3, 3)))
        assert main(arguments(dataset, run)) == 0
    return run


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


def test_what_is_there_is_not_overwritten_unless_asked(finished, dataset, capsys):
    before = (finished / "model.pt").read_bytes()
    assert main(arguments(dataset, finished)) == 2
    error = capsys.readouterr().err
    assert "--overwrite" in error
    assert "--resume" in error
    assert (finished / "model.pt").read_bytes() == before


def test_a_finished_run_that_is_resumed_stays_as_it_is(finished, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    assert main(["--output", str(run), "--resume", "--device", "cpu"]) == 0
    one, two = (load_model(folder / "model.pt").network.state_dict() for folder in (finished, run))
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["step", "validation"])
def test_an_interrupted_run_is_resumed_with_its_own_settings(
    finished, dataset, tmp_path, monkeypatch, capsys, number, moment
):
    owner, name = {"step": (RollingBatch, "fill"), "validation": (validation, "read_case")}[moment]
    usual, signals, handler = getattr(owner, name), [number], signal.getsignal(number)

    def interrupted(*given):
        if signals:
            signal.raise_signal(signals.pop())
        return usual(*given)

    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, interrupted)
        assert main(arguments(dataset, run)) == 130
    assert "--resume" in capsys.readouterr().out
    assert signal.getsignal(number) is handler
    assert main(["--output", str(run), "--resume", "--device", "cpu"]) == 0
    one, two = (load_model(folder / "last.pt").network.state_dict() for folder in (finished, run))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_second_ctrl_c_does_not_wait():
    with train.Stop() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_run_that_was_killed_before_its_first_step_begins_again_by_resume(finished, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(finished / "config.json", run)
    (run / ".deepedit-0123.tmp").write_bytes(b"half")
    assert main(["--output", str(run), "--resume", "--device", "cpu"]) == 0
    one, two = (load_model(folder / "last.pt").network.state_dict() for folder in (finished, run))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not list(run.glob(".deepedit-*"))


def test_a_best_model_that_the_newest_state_does_not_know_of_yet_is_kept(finished, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    entries = read_entries(run / "last.pt")
    entries["training"] |= {"best": -1.0, "validated": 4}
    torch.save(entries, run / "last.pt")
    best = read_entries(run / "model.pt")
    best["training"]["best"] = 0.99
    torch.save(best, run / "model.pt")
    before = (run / "model.pt").read_bytes()
    assert main(["--output", str(run), "--resume", "--device", "cpu"]) == 0
    assert (run / "model.pt").read_bytes() == before


def test_the_state_of_another_version_is_named_and_left_as_it_is(finished, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    entries = read_entries(run / "last.pt")
    entries["training"]["trainer"]["optimizer"] = entries["training"]["trainer"].pop("optimizers")
    torch.save(entries, run / "last.pt")
    before = (run / "last.pt").read_bytes()
    assert main(["--output", str(run), "--resume", "--device", "cpu"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert "last.pt: its state of training is not one of this version" in said[0]
    assert f"--init-weights {run / 'last.pt'}" in said[0]
    assert (run / "last.pt").read_bytes() == before


def test_config_repeats_a_run_whatever_the_defaults_are_now(finished, dataset, tmp_path, monkeypatch):
    changed_defaults(monkeypatch)
    monkeypatch.setitem(NETWORKS, "light", UNetConfig(filters=(4, 4), strides=(1, 2), kernels=(3, 3)))
    run, other = tmp_path / "again", tmp_path / "other"
    assert main(["--config", str(finished / "config.json"), "--output", str(run), "--device", "cpu"]) == 0
    one, two = (load_model(folder / "last.pt").network.state_dict() for folder in (finished, run))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert read_config(run) == read_config(finished)
    # A run that is begun takes them.
    assert main(arguments(dataset, other, *QUICK)) == 0
    assert read_config(other).config.annotator.deepest == 0.5
    assert read_config(other).network.filters == (4, 4)


@pytest.mark.parametrize("file", ["config.json", "as before"])
def test_a_run_goes_on_with_its_settings_whatever_the_defaults_are_now(finished, dataset, tmp_path, monkeypatch, file):
    run = tmp_path / "run"
    usual, signals = RollingBatch.fill, [signal.SIGINT]

    def interrupted(*given):
        if signals:
            signal.raise_signal(signals.pop())
        return usual(*given)

    with monkeypatch.context() as patch:
        patch.setattr(RollingBatch, "fill", interrupted)
        assert main(arguments(dataset, run)) == 130
    if file == "as before":
        mine = {**ARGUMENTS, "input": str(dataset), "labels": None, "spacing": None, "cache_dir": None}
        (run / "config.json").write_text(json.dumps({"arguments": mine, "training": TRAINING}))
    changed_defaults(monkeypatch)
    assert main(["--output", str(run), "--resume", "--device", "cpu", "--workers", "3"]) == 0
    one, two = (load_model(folder / "last.pt").network.state_dict() for folder in (finished, run))
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--epochs", "100"], "--epochs"),
        (["--max-clicks", "0"], "--max-clicks"),
        (["--network", "reference"], "--network"),
        (["--amp", "off"], "--amp"),
        (["--labels", "spleen=2"], "--labels"),
        (["--window", "-1000", "400"], "--window or --percentiles"),
    ],
)
@pytest.mark.parametrize("how", ["resume", "config"])
def test_a_run_that_is_gone_on_with_or_repeated_is_not_asked_for_anything_else(
    finished, tmp_path, capsys, how, more, said
):
    run = shutil.copytree(finished, tmp_path / "run") if how == "resume" else tmp_path / "run"
    again = ["--resume"] if how == "resume" else ["--config", str(finished)]
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert main(["--output", str(run), *again, "--device", "cpu", *more]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"deepedit-train: {said}: ")
    assert error.endswith("was begun with another, which is kept; leave it out, or begin a new run\n")
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_what_a_run_was_begun_with_may_be_said_again_and_its_dataset_may_move(finished, dataset, tmp_path):
    run, moved = shutil.copytree(finished, tmp_path / "run"), shutil.copytree(dataset, tmp_path / "moved")
    assert main([*arguments(moved, run), "--resume", "--cache-dir", str(tmp_path / "cache")]) == 0
    assert list((tmp_path / "cache").iterdir())


def test_a_damaged_config_is_named_in_one_line(finished, tmp_path, capsys):
    run = shutil.copytree(finished, tmp_path / "run")
    record = json.loads((run / "config.json").read_text())
    record["settings"]["config"]["click_loss"] = "much"
    (run / "config.json").write_text(json.dumps(record))
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    for again in (["--output", str(run), "--resume"], ["--output", str(tmp_path / "again"), "--config", str(run)]):
        assert main([*again, "--device", "cpu"]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"deepedit-train: {run / 'config.json'}: click_loss cannot be 'much'; ")
        assert error.count("\n") == 1
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    assert not (tmp_path / "again").exists()


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
    run = tmp_path / "run"
    more = ("--labels", "spleen=2", "--init-weights", str(finished / "model.pt"))
    assert main(arguments(dataset, run, *more)) == 0
    assert load_model(run / "model.pt").plan.labels.names == ("spleen",)
    assert "not taken" not in capsys.readouterr().out


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
