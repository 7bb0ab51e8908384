"""Models and runs of earlier versions load, and go on, with what they meant.

`tests/earlier/format_2` was written by the last version with that format: a run on a phantom dataset, ended after four
steps, with a network of a few hundred weights.
"""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from deepedit.errors import ModelError
from deepedit.inference.session import InteractiveSession
from deepedit.io.phantom import write_phantom
from deepedit.network.checkpoint import load_model, read_entries
from deepedit.plan import MergePolicy, Plan
from deepedit.training.record import read_config
from deepedit_cli.train import main

FORMAT_2 = Path(__file__).parent / "earlier" / "format_2"


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_phantom(tmp_path / "data", num_cases=3, seed=0, shape=(16, 16, 16))
    return Path(shutil.copytree(FORMAT_2, tmp_path / "run"))


@pytest.mark.parametrize("name", ["model.pt", "last.pt"])
def test_a_model_segments_and_is_clicked(name):
    session = InteractiveSession.from_checkpoint(FORMAT_2 / name, "cpu", amp="off")
    assert session.model.plan.merge == MergePolicy()
    session.set_image(np.random.default_rng(0).normal(0, 100, (16, 16, 16)), np.diag([7.0, 6, 6, 1]))
    session.add_click((8, 8, 8), "spleen")
    assert session.predict()[8, 8, 8] == 2


def test_a_model_whose_answers_were_shown_as_they_are_still_has_them_so():
    entries = load_model(FORMAT_2 / "model.pt").plan.to_dict()
    del entries["merge"]
    assert Plan.from_dict({**entries, "guidance": "sum-normalized"}).merge == MergePolicy.plain()
    assert Plan.from_dict(entries).merge == MergePolicy()


@pytest.fixture
def format_3(run):
    """The same run as the next format had it: with a rule for earlier clicks, and another name for the reach."""
    policy = asdict(MergePolicy(softness=1.5))
    policy = {"ownership": True, "initial_distance": 6.0, **policy}
    del policy["reach"]
    for path in (run / "model.pt", run / "last.pt"):
        entries = read_entries(path)
        torch.save({**entries, "version": 3, "plan": {**entries["plan"], "merge": policy}}, path)
    return run


@pytest.mark.parametrize("owns", [True, False])
def test_the_policy_of_format_3_is_read_without_its_rule_for_earlier_clicks(format_3, owns):
    assert load_model(format_3 / "model.pt").plan.merge == MergePolicy(reach=6.0, softness=1.5)
    plan = read_entries(format_3 / "model.pt")["plan"]
    plan["merge"]["ownership"] = owns
    assert Plan.from_dict(plan).merge == MergePolicy(reach=6.0, softness=1.5)
    del plan["merge"]["initial_distance"]
    with pytest.raises(ModelError, match="initial_distance"):
        Plan.from_dict(plan)


def test_a_run_of_format_3_goes_on_with_its_policy(format_3):
    assert main(["--output", "run", "--resume", "--device", "cpu"]) == 0
    assert load_model(format_3 / "last.pt").plan.merge == MergePolicy(reach=6.0, softness=1.5)
    assert set(read_entries(format_3 / "last.pt")["plan"]["merge"]) == set(asdict(MergePolicy()))


def test_a_run_goes_on_to_its_end_with_its_own_settings_and_cases(run, capsys):
    before = load_model(run / "last.pt")
    assert main(["--output", "run", "--resume", "--device", "cpu"]) == 0
    assert "validation at 100%" in capsys.readouterr().out
    after = load_model(run / "last.pt")
    assert after.training_cases == before.training_cases
    assert after.validation_cases == before.validation_cases
    assert after.plan == before.plan


def test_its_settings_are_all_read():
    settings = read_config(FORMAT_2)
    written = json.loads((FORMAT_2 / "config.json").read_text())
    config = json.loads(json.dumps(asdict(settings.config)))
    assert written["training"]["augmentation"].pop("flip_axes") == []
    assert config["augmentation"].pop("mirror_probability") == 0
    assert {name: config[name] for name in written["training"]} == written["training"]
    assert settings.split_seed == written["arguments"]["seed"] == 3
