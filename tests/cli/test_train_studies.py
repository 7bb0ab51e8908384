"""deepedit-train --studies, as annotators and the server run it."""

import json
import shutil
import signal

import pytest
import torch

from deepedit.network.checkpoint import load_model
from deepedit.training.batch import RollingBatch
from deepedit.training.record import read_config
from deepedit.training.validation import Validation
from deepedit_cli import train
from deepedit_cli.train import main
from tests.cli.training_runs import interrupted_at


@pytest.fixture(autouse=True)
def plain_lines(monkeypatch):
    monkeypatch.setattr(train, "on_terminal", lambda: False)


@pytest.fixture
def studies(here):
    """The cases of the dataset as annotators might leave them, and one without a label map."""
    folder, final = here / "studies", here / "studies" / "labels" / "final"
    final.mkdir(parents=True)
    for number in range(3):
        shutil.copy(f"data/imagesTr/phantom_0{number}.nii.gz", folder / f"study_{number}.nii.gz")
        shutil.copy(f"data/labelsTr/phantom_0{number}.nii.gz", final / f"study_{number}.nii.gz")
    shutil.copy("good.nii.gz", folder)
    return folder


def arguments(run, *more):
    start = ("--init-weights", "model.pt", "--studies", "studies")
    return [*start, "--output", str(run), "--epochs", "2", "--batch-size", "2", "--device", "cpu", *more]


def weights(run):
    return load_model(f"{run}/last.pt").network.state_dict()


def equal(one, two):
    return all(torch.equal(weights(one)[name], weights(two)[name]) for name in weights(one))


def test_it_trains_on_what_was_submitted_and_is_validated_at_its_end_on_what_is_held_back(studies, capsys):
    assert main(arguments("run")) == 0
    said = capsys.readouterr().out
    assert "1 of 4 cases have no label map to train on; left out" in said
    assert "does not say where the cases lie" in said
    assert said.count("validation at") == 1
    model = load_model("run/model.pt")
    assert {*model.training_cases, *model.validation_cases} == {"study_0", "study_1", "study_2"}
    assert read_config(studies.parent / "run").studies


def test_nothing_is_chosen_by_what_is_held_back(studies, monkeypatch):
    scores = [0.9, 0.1]

    def falling(model, cases, *arguments, **options):
        return Validation({0: {"all": scores.pop(0)}}, {}, len(cases))

    monkeypatch.setattr("deepedit.training.run.validate", falling)
    assert main(arguments("run")) == 0
    assert not scores
    assert load_model("run/model.pt").refiner is not None


def test_an_interrupted_run_is_resumed_and_a_finished_one_repeated(studies):
    assert main(arguments("run")) == 0
    with interrupted_at(RollingBatch, "fill", signal.SIGTERM):
        assert main(arguments("stopped")) == 130
    shutil.move("studies", "elsewhere")
    moved = ("--studies", "elsewhere", "--device", "cpu")
    assert main(["--output", "stopped", "--resume", *moved]) == 0
    assert main(["--output", "again", "--config", "run", *moved]) == 0
    assert equal("run", "stopped")
    assert equal("run", "again")


def test_a_run_on_studies_is_not_continued_on_a_dataset_nor_the_other_way_round(studies, capsys):
    assert main(arguments("run")) == 0
    assert main(["--input", "data", "--output", "other", "--epochs", "1", "--device", "cpu"]) == 0
    capsys.readouterr()
    assert main(["--output", "run", "--resume", "--input", "data"]) == 2
    assert "run was begun on studies; name their folder with --studies" in capsys.readouterr().err
    assert main(["--output", "other", "--resume", "--studies", "studies"]) == 2
    assert "other was begun on a dataset; name its folder with --input" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--studies", "studies"], "--studies needs the model whose labels they have; give it with --init-weights"),
        (["--studies", "studies", "--input", "data"], "--input: not allowed with argument --studies"),
        (["--studies", "none", "--init-weights", "model.pt"], "none: no such folder"),
        (["--studies", "bare", "--init-weights", "model.pt"], "bare: no case with a label map of liver, spleen, aorta"),
    ],
)
def test_what_cannot_be_is_one_line_and_leaves_no_run(studies, capsys, more, said):
    (studies.parent / "bare").mkdir()
    assert main(["--output", "run", "--device", "cpu", *more]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (studies.parent / "run" / "config.json").exists()


def test_other_programs_read_how_far_it_is(studies):
    assert main(arguments("run", "--progress", "progress.json")) == 0
    progress = json.loads((studies.parent / "progress.json").read_text())
    assert progress["share"] == 1
    assert progress["step"] > 0
    assert progress["seconds"] > 0


def test_cases_of_the_first_training_are_mixed_in(studies, capsys):
    assert main(["--input", "data", "--output", "first", "--epochs", "1", "--batch-size", "2", "--device", "cpu"]) == 0
    first = load_model("first/model.pt")
    capsys.readouterr()
    assert main(arguments("run", "--init-weights", "first/model.pt")) == 0
    tuned = load_model("run/model.pt")
    assert {*first.training_cases} < {*tuned.training_cases}
    assert not {*first.training_cases} & {*tuned.validation_cases}
