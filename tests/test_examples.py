"""Every program in examples runs, and is short."""

import builtins
import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deepedit import InteractiveSession, Volume, read_volume, save_model, write_label
from deepedit.io.nifti import write_volume
from deepedit.metrics import dice
from deepedit.network.checkpoint import load_model
from deepedit.plan import Labels
from tests.inference.networks import random_model

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
LABELS = Labels(("spleen", "left kidney"), (1, 4))
SHAPE = (16, 14, 12)


def example(name):
    """A program of the folder as a module."""
    spec = importlib.util.spec_from_file_location(f"examples_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def data(tmp_path):
    """A dataset folder with one case, and beside it two models."""
    rng = np.random.default_rng(0)
    image = Volume(rng.normal(1, 0.5, SHAPE).astype(np.float32), np.diag([-1.0, 1.0, 2.0, 1.0]))
    for folder in ("imagesTr", "labelsTr"):
        (tmp_path / folder).mkdir()
    write_volume(tmp_path / "imagesTr" / "case.nii.gz", image.data, like=image)
    truth = np.zeros(SHAPE, np.uint8)
    truth[3:9, 4:10, 2:8], truth[10:14, 4:10, 2:8] = 1, 4
    write_label(tmp_path / "labelsTr" / "case.nii.gz", truth, like=image)
    model = random_model(labels=LABELS)
    for name in ("fast", "careful"):
        (tmp_path / name).mkdir()
        save_model(tmp_path / name / "model.pt", replace(model))
    return tmp_path


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_an_example_is_short_and_run_below(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) < 60
    assert f'example("{path.stem}").main(' in Path(__file__).read_text(encoding="utf-8")


def test_a_session_takes_clicks_and_outlives_mistakes(data, monkeypatch, capsys):
    typed = iter(["left kidney 12 7 5", "spleen 3 3", "liver 1 2 3", "spleen 99 0 0", "spleen 4 5 3", "undo", ""])
    monkeypatch.setattr(builtins, "input", lambda shown: print(shown) or next(typed))
    output = data / "seg.nii.gz"
    example("session").main(str(data / "fast" / "model.pt"), str(data / "imagesTr" / "case.nii.gz"), str(output))
    result = read_volume(output).data
    assert result.shape == SHAPE
    assert result[12, 7, 5] == 4
    said = capsys.readouterr().out
    assert said.count("; type a label and a voxel") == 4  # at the beginning, and at the three mistakes
    assert "outside the image" in said


def test_a_network_learns_from_volumes_in_memory(tmp_path):
    program = example("own_data")
    example("own_data").main(str(tmp_path / "model.pt"), epochs=2)
    model = load_model(tmp_path / "model.pt")
    assert len(model.training_cases) == 8
    image, truth = program.fetch(99)
    session = InteractiveSession(model)
    session.set_image(image)
    session.add_click(tuple(np.argwhere(truth.data).mean(0)), "ball")
    assert dice(session.predict() == 1, truth.data == 1) > 0


def test_clicks_are_simulated_in_a_loop_of_ones_own(capsys):
    example("click_simulation").main(2)
    said = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in said] == ["step 0", "step 1"]


def test_annotators_are_compared(data, capsys):
    paths = (data / "fast" / "model.pt", data / "imagesTr" / "case.nii.gz", data / "labelsTr" / "case.nii.gz")
    example("custom_annotator").main(*map(str, paths), clicks=3)
    curves = dict(line.split(": ") for line in capsys.readouterr().out.splitlines())
    assert list(curves) == ["largest_error_click", "hasty"]
    one, other = ([float(score) for score in curve.split()] for curve in curves.values())
    assert len(one) == len(other) == 4
    assert one[0] == other[0]
    assert one != other


def test_two_models_are_served_and_asked(data, capsys):
    for package in ("fastapi", "uvicorn", "python_multipart", "SimpleITK"):
        pytest.importorskip(package, reason=f"{package} is not installed; the extra server brings it")
    models = (data / "fast" / "model.pt", data / "careful" / "model.pt")
    example("two_models").main(*map(str, models), str(data / "imagesTr" / "case.nii.gz"))
    answers = [line for line in capsys.readouterr().out.splitlines() if "bytes of segmentation" in line]
    assert len(answers) == 2
    assert all(line.endswith("labels spleen, left kidney") for line in answers)
