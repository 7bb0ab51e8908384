"""The comparison of two models: on what neither was trained on, by figures as they are told."""

import shutil
from dataclasses import replace

import pytest

from deepedit.errors import TrainingError
from deepedit.io.pairing import Case
from deepedit.io.phantom import write_phantom
from deepedit.network.checkpoint import load_model, save_model
from deepedit.server.comparison import CLICKS, Comparison, compare, held_back, main, read_comparison
from tests.cli.refusals import write_model


@pytest.fixture
def model(tmp_path):
    write_model(tmp_path / "model.pt")
    return load_model(tmp_path / "model.pt")


@pytest.fixture
def studies(tmp_path):
    data = write_phantom(tmp_path / "data", num_cases=3, seed=1, shape=(16, 16, 16))
    shutil.move(data / "imagesTr", tmp_path / "studies")
    (tmp_path / "studies" / "labels").mkdir()
    shutil.move(data / "labelsTr", tmp_path / "studies" / "labels" / "final")
    return tmp_path / "studies"


def test_the_cases_are_held_back_from_both(model, tmp_path):
    cases = [Case(name, (tmp_path / name,), tmp_path / "label") for name in "abcd"]
    cases.append(Case("e", (tmp_path / "e",)))
    old = replace(model, training_cases=("a",), inherited_cases=("d",))
    new = replace(model, training_cases=("b",), validation_cases=("a", "b", "c", "d", "e"))
    assert [case.name for case in held_back(old, new, cases)] == ["c"]


def test_a_model_is_not_worse_than_itself(model, studies):
    new = replace(model, training_cases=("phantom_00",), validation_cases=("phantom_01", "phantom_02"))
    result = compare(model, new, studies, print)
    assert result.cases == ("phantom_01", "phantom_02")
    assert result.old == result.new
    assert len(result.old) == CLICKS + 1
    assert result.not_worse


def test_a_case_that_one_of_them_cannot_segment_counts_for_neither(model, studies):
    new = replace(model, training_cases=("phantom_00",), validation_cases=("phantom_01", "phantom_02"))
    path = studies / "phantom_01.nii.gz"
    path.write_bytes(path.read_bytes()[:-30])
    said = []
    assert compare(model, new, studies, said.append).cases == ("phantom_02",)
    assert len(said) == 1
    assert said[0].startswith("phantom_01 is left out: ")


def test_without_such_a_case_there_is_no_comparison(model, studies):
    with pytest.raises(TrainingError, match="neither the old nor the new model was trained on"):
        compare(model, model, studies, print)


def test_a_difference_that_is_not_shown_decides_nothing():
    assert Comparison(("a",), (0.50001,), (0.5,)).not_worse
    assert not Comparison(("a",), (0.5002,), (0.5,)).not_worse
    assert Comparison(("a",), (0.5, 0.7), (0.6, 0.6)).scores == (0.6, 0.6)


def test_the_process_writes_what_is_read_and_complains_in_a_line(model, studies, tmp_path, capsys):
    new = replace(model, training_cases=("phantom_00",), validation_cases=("phantom_01",))
    save_model(tmp_path / "new.pt", new)
    paths = [str(tmp_path / name) for name in ("model.pt", "new.pt", "studies", "result.json")]
    assert main([*paths, "cpu"]) == 0
    assert read_comparison(tmp_path / "result.json") == compare(model, new, studies, print)
    capsys.readouterr()
    assert main([paths[0], paths[0], *paths[2:], "cpu"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("comparison: no submitted case")
    assert error.count("\n") == 1
