import csv
import json
import sys

import numpy as np
import pytest

from deepedit.evaluation import repaired_share
from deepedit.io.nifti import write_label
from deepedit.io.phantom import write_phantom
from deepedit.io.volumes import read_label
from deepedit.io.volumes import write_label as write_any_label
from deepedit.network.architectures import UNetConfig
from deepedit.network.checkpoint import Model, load_model, save_model
from deepedit.network.inputs import input_channels
from deepedit.network.unet import build_network
from deepedit.plan import Labels, Plan
from deepedit.volume import Volume
from deepedit_cli import evaluation_report
from deepedit_cli.evaluate import main

LABELS = Labels(("liver", "spleen", "aorta"), (1, 2, 3))
NAMES = [f"phantom_{number:02d}" for number in range(3)]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_phantom(tmp_path_factory.mktemp("data") / "phantom", num_cases=3, shape=(16, 16, 16))


@pytest.fixture
def model_file(tmp_path):
    """A tiny random network that says it was trained on the first case; a function, to change what it knows."""

    def save(training_cases=NAMES[:1], labels=LABELS, spacing=6.0, ignore=None):
        config = UNetConfig(filters=(2, 2), strides=(1, 2), kernels=(3, 3))
        network = build_network(input_channels(1, labels.num_classes), labels.num_classes, config, seed=0)
        plan = Plan(labels, (spacing,) * 3, (16, 16, 16), ignore=ignore)
        path = tmp_path / "model.pt"
        save_model(path, Model(network, plan, tuple(training_cases)))
        return path

    return save


@pytest.fixture
def evaluate(model_file, dataset, tmp_path):
    def evaluate(*options, model=None, data=dataset, output=tmp_path / "report"):
        return main([f"--model={model or model_file()}", f"--input={data}", f"--output={output}", *options])

    return evaluate


def rows_in(folder):
    with open(folder / "report.csv", newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_report_of_the_cases_that_the_model_was_not_trained_on(evaluate, tmp_path, capsys):
    assert evaluate("--max-clicks=2") == 0
    rows = rows_in(tmp_path / "report")
    assert len(rows) == 2 * 3 * 3
    assert {row["case"] for row in rows} == set(NAMES[1:])
    report = json.loads((tmp_path / "report" / "report.json").read_text(), parse_constant=pytest.fail)
    assert (report["cases"], report["max_clicks"], report["failures"]) == (2, 2, {})
    assert [curve["label"] for curve in report["labels"]] == list(LABELS.names)
    shown = capsys.readouterr().out
    assert all(name in shown for name in (*LABELS.names, *NAMES[1:], "NSD 2 mm", "obeyed"))
    assert NAMES[0] not in shown


def test_reports_of_two_models_have_the_same_lines_in_the_same_order(evaluate, model_file, tmp_path):
    places = []
    for training_cases in (NAMES[:1], ["other", NAMES[0]]):
        folder = tmp_path / training_cases[0]
        assert evaluate("--max-clicks=1", model=model_file(training_cases), output=folder) == 0
        places.append([(row["case"], int(row["clicks"]), row["label"]) for row in rows_in(folder)])
    expected = [(case, clicks, label) for case in NAMES[1:] for clicks in range(2) for label in LABELS.names]
    assert places == [expected, expected]


def test_how_the_network_goes_through_a_volume_changes_the_figures_and_stands_in_the_report(
    evaluate, model_file, tmp_path
):
    model = model_file(spacing=4.0)  # of which a window covers only a part of the volume
    settings = {"overlap": 0.5, "skip_air": False, "tta": False}
    dice = {}
    for option, changed in {"": {}, "--tta": {"tta": True}, "--overlap=0": {"overlap": 0.0}}.items():
        folder = tmp_path / f"report{option}"
        assert evaluate("--max-clicks=1", "--limit=1", *option.split(), model=model, output=folder) == 0
        report = json.loads((folder / "report.json").read_text())
        assert {name: report[name] for name in settings} == {**settings, **changed}
        dice[option] = [row["dice"] for row in rows_in(folder)]
    assert dice[""] != dice["--tta"]
    assert dice[""] != dice["--overlap=0"]
    assert evaluate("--max-clicks=0", "--limit=1", "--skip-air", model=model, output=tmp_path / "air") == 0
    assert json.loads((tmp_path / "air" / "report.json").read_text())["skip_air"]


def test_the_oracle_and_the_repaired_share_stand_in_every_part_of_the_report(evaluate, tmp_path, capsys):
    assert evaluate("--oracle", "--max-clicks-per-label=1") == 0
    shown = capsys.readouterr().out
    report = json.loads((tmp_path / "report" / "report.json").read_text(), parse_constant=pytest.fail)
    assert (report["oracle"], report["max_clicks_per_label"], report["max_clicks"]) == (True, 1, 3)
    for curve in (*report["labels"], report["mean"]):
        dice, oracle = curve["dice"], curve["oracle_dice"]
        assert oracle[0] == dice[0]
        assert oracle[3] > dice[0]
        assert curve["repaired"] == [repaired_share(dice[0], *each) for each in zip(dice, oracle, strict=True)]
        assert max(curve["clicks"]) <= 1
    line = next(line for line in shown.split("Repaired share")[1].splitlines() if line.startswith("mean"))
    assert line.split()[-1] == f"{report['mean']['repaired'][3]:.0%}"
    assert "the oracle's Dice" in shown
    for row in rows_in(tmp_path / "report"):
        if row["clicks"] == "0":
            assert (row["oracle_dice"], row["repaired"]) == (row["dice"], "")


def test_each_case_is_told_with_its_own_share(evaluate, tmp_path, capsys):
    assert evaluate("--oracle", "--max-clicks=2", "--limit=1") == 0
    share = json.loads((tmp_path / "report" / "report.json").read_text())["mean"]["repaired"][2]
    assert f", repaired share {share:.0%}\n" in capsys.readouterr().out
    assert evaluate("--oracle", "--max-clicks=2", "--limit=1", "--corrupt=1,1", "--overwrite") == 0
    assert ", nothing to repair\n" in capsys.readouterr().out


def test_the_limits_of_clicks_are_those_asked_for(evaluate, tmp_path):
    for name, options in {
        "3": ["--max-clicks-per-label=1"],
        "1": ["--max-clicks-per-label=1", "--max-clicks=1"],
    }.items():
        assert evaluate(*options, "--limit=1", output=tmp_path / name) == 0
        assert max(row["clicks"] for row in rows_in(tmp_path / name)) == name
        assert {row["oracle_dice"] for row in rows_in(tmp_path / name)} == {""}


def test_all_cases_only_when_asked(evaluate, model_file, tmp_path, capsys):
    model = model_file(training_cases=NAMES)
    assert evaluate("--max-clicks=0", model=model) == 2
    assert "--cases all" in capsys.readouterr().err
    assert evaluate("--max-clicks=0", "--cases=all", model=model) == 0
    assert {row["case"] for row in rows_in(tmp_path / "report")} == set(NAMES)


def test_a_case_that_a_model_was_trained_on_from_which_the_weights_come_is_not_new(evaluate, model_file, tmp_path):
    path = model_file()
    model = load_model(path)
    model.inherited_cases = NAMES[1:2]
    save_model(path, model)
    assert evaluate("--max-clicks=0", model=path) == 0
    assert {row["case"] for row in rows_in(tmp_path / "report")} == {*NAMES[2:]}


def test_limit_takes_the_first_cases(evaluate, tmp_path):
    assert evaluate("--max-clicks=0", "--limit=1") == 0
    assert {row["case"] for row in rows_in(tmp_path / "report")} == {NAMES[1]}


def test_corrupted_starts_are_in_their_range_and_seeded(evaluate, tmp_path):
    for name, seed in (("one", 0), ("again", 0), ("other", 1)):
        assert evaluate("--max-clicks=0", "--corrupt=0.4,0.7", f"--seed={seed}", output=tmp_path / name) == 0
    dice = {name: [row["dice"] for row in rows_in(tmp_path / name)] for name in ("one", "again", "other")}
    assert dice["one"] == dice["again"] != dice["other"]
    settings = json.loads((tmp_path / "one" / "report.json").read_text())
    assert settings["corrupt"] == [0.4, 0.7]
    assert 0.4 <= settings["mean"]["dice"][0] <= 0.7


def test_a_folder_of_segmentations_is_corrected(evaluate, dataset, tmp_path):
    assert evaluate("--max-clicks=0", f"--initial-segmentation={dataset / 'labelsTr'}") == 0
    assert {row["dice"] for row in rows_in(tmp_path / "report")} == {"1.0"}


def test_a_report_is_replaced_only_when_asked(evaluate, tmp_path, capsys):
    assert evaluate("--max-clicks=0") == 0
    assert "left out 1 of 3 cases, which have the names of cases that the model" in capsys.readouterr().out
    assert evaluate("--max-clicks=0") == 2
    assert "--overwrite" in capsys.readouterr().err
    assert evaluate("--max-clicks=0", "--overwrite", "--limit=1") == 0
    assert len(rows_in(tmp_path / "report")) == 3


def test_a_bad_case_is_named_and_the_others_are_reported(evaluate, tmp_path, capsys):
    data = write_phantom(tmp_path / "data", num_cases=3, shape=(16, 16, 16))
    (data / "imagesTr" / f"{NAMES[1]}.nii.gz").write_bytes(b"damaged")
    assert evaluate("--max-clicks=0", data=data) == 2
    error = capsys.readouterr().err.splitlines()
    assert error[0].startswith(f"deepedit-evaluate: {NAMES[1]} is left out: ")
    assert error[1] == "deepedit-evaluate: 1 of 2 cases are left out, as said above"
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert list(report["failures"]) == [NAMES[1]]
    assert report["cases"] == 1


def test_labels_of_a_dataset_that_make_no_sense_are_told_of(evaluate, tmp_path, capsys):
    data = write_phantom(tmp_path / "data", num_cases=2, shape=(16, 16, 16))
    description = json.loads((data / "dataset.json").read_text())
    description["labels"] = {"background": 0, "liver": 1, "whole": [1, 2]}
    (data / "dataset.json").write_text(json.dumps(description))
    assert evaluate("--max-clicks=0", data=data) == 0
    assert "whole is a region of several values" in (said := capsys.readouterr().err)
    assert "its labels are not compared with the model's" in said


def test_a_truth_that_calls_a_value_otherwise_is_told_of(evaluate, tmp_path, capsys):
    pytest.importorskip("SimpleITK", reason="SimpleITK is not installed; the extra formats brings it")
    data = write_phantom(tmp_path / "data", num_cases=2, shape=(16, 16, 16))
    (data / "dataset.json").unlink()
    path = data / "labelsTr" / f"{NAMES[1]}.nii.gz"
    truth = read_label(path)
    path.unlink()
    write_any_label(path.parent / f"{NAMES[1]}.seg.nrrd", truth.data, truth, {1: "other", 2: "b", 3: "c"})
    assert evaluate("--max-clicks=0", "--limit=1", data=data) == 0
    said = f"{NAMES[1]}.seg.nrrd: 1 is other, and here it is liver; both are taken for the same"
    assert said in capsys.readouterr().err


def test_a_picture_that_cannot_be_drawn_costs_the_picture_only(evaluate, tmp_path, capsys, monkeypatch):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed; the extra plot brings it")
    assert evaluate("--max-clicks=0") == 0
    assert (tmp_path / "report" / "report.png").exists()

    def fail(*arguments):
        raise ImportError("numpy.core.multiarray failed to import")

    monkeypatch.setattr(evaluation_report, "picture", fail)
    assert evaluate("--max-clicks=0", "--overwrite") == 0
    assert "no report.png: matplotlib cannot draw it (numpy.core" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == ["report.csv", "report.json"]


def test_a_label_with_dollars_in_its_name_is_drawn(evaluate, model_file, tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed; the extra plot brings it")
    model = model_file(labels=Labels(("a $\\foo$", "b", "c"), (1, 2, 3)))
    assert evaluate("--max-clicks=0", model=model) == 0
    assert "no report.png" not in capsys.readouterr().out
    assert (tmp_path / "report" / "report.png").exists()


def test_a_dataset_whose_values_mean_something_else_is_refused(evaluate, model_file, capsys):
    assert evaluate(model=model_file(labels=Labels(("liver",), (2,)))) == 2
    assert "liver is 1, for the model it is 2" in capsys.readouterr().err
    assert evaluate(model=model_file(labels=Labels(("kidney",), (9,)))) == 2
    assert "the model knows 9 kidney" in capsys.readouterr().err


def test_values_of_another_name_and_ignored_values_of_a_name_are_told_of(evaluate, model_file, tmp_path, capsys):
    data = write_phantom(tmp_path / "data", num_cases=2, shape=(16, 16, 16))
    description = json.loads((data / "dataset.json").read_text())
    values = {int(value): name for value, name in description["labels"].items()}
    assert evaluate("--max-clicks=0", data=data, model=model_file(labels=Labels(("other", values[2]), (1, 2)))) == 0
    assert f"1 is {values[1]}, for the model it is other" in capsys.readouterr().err
    model = model_file(labels=Labels((values[1],), (1,)), ignore=2)
    assert evaluate("--max-clicks=0", "--overwrite", data=data, model=model) == 0
    assert "voxels of the value 2 are left out of Dice" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--corrupt=0.9", "0.60,0.75"),
        ("--corrupt=0.9,0.8", "0.60,0.75"),
        ("--initial-segmentation=nowhere", "not a folder"),
        ("--max-clicks=-1", "whole number"),
        ("--max-clicks-per-label=-1", "whole number"),
        ("--tolerance=0", "above 0"),
        ("--overlap=0.95", "from 0 to 0.9"),
    ],
)
def test_arguments_that_cannot_be_meant_are_one_line(evaluate, capsys, option, message):
    assert evaluate(option) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_missing_dataset_and_a_missing_model_are_one_line(evaluate, tmp_path, capsys):
    assert evaluate(data=tmp_path / "nowhere") == 2
    assert evaluate(model=tmp_path / "no.pt") == 2
    assert capsys.readouterr().err.count("\n") == 2


def test_without_matplotlib_there_is_no_picture_and_that_is_said(evaluate, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr("deepedit_cli.evaluation_report.find_spec", lambda name: None)
    assert evaluate("--max-clicks=0", "--limit=1") == 0
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == ["report.csv", "report.json"]
    assert "deepedit[plot]" in capsys.readouterr().out


def test_label_files_without_a_description_are_taken_by_their_values(evaluate, tmp_path):
    data = write_phantom(tmp_path / "data", num_cases=2, shape=(16, 16, 16))
    (data / "dataset.json").unlink()
    write_label(data / "labelsTr" / f"{NAMES[1]}.nii.gz", *_like(data / "labelsTr" / f"{NAMES[1]}.nii.gz"))
    assert evaluate("--max-clicks=0", data=data) == 0


def _like(path):
    """The label map of a file with a value that the model does not know, and its grid."""
    from deepedit.io.nifti import read_label

    label = read_label(path)
    values = label.data.copy()
    values[np.unravel_index(0, values.shape)] = 7
    return values, Volume(values, label.affine, label.header)
