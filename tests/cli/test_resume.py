"""deepedit-train with --resume, and with the settings of an earlier run."""

import json
import shutil
import signal

import pytest
import torch

from deepedit.network.architectures import NETWORKS, UNetConfig
from deepedit.network.checkpoint import load_model, read_entries
from deepedit.training import validation
from deepedit.training.batch import RollingBatch
from deepedit.training.record import read_config
from deepedit_cli import train
from deepedit_cli.train import main
from tests.cli.training_runs import QUICK, arguments, interrupted_at
from tests.training.configs import ARGUMENTS, TRAINING, changed_defaults

pytestmark = pytest.mark.usefixtures("small_network")


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
def test_an_interrupted_run_is_resumed_with_its_own_settings(finished, dataset, tmp_path, capsys, number, moment):
    owner, name = {"step": (RollingBatch, "fill"), "validation": (validation, "read_case")}[moment]
    run, handler = tmp_path / "run", signal.getsignal(number)
    with interrupted_at(owner, name, number):
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
    with interrupted_at(RollingBatch, "fill", signal.SIGINT):
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
