"""What messages tell the user to type is typed, as a shell would take it."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from deepedit.network.checkpoint import load_model
from deepedit_cli import next_steps, serve, train
from tests.cli.bad_files import change, describe, keep_only
from tests.cli.refusals import refused

pytestmark = pytest.mark.usefixtures("here")


def options(text):
    """The arguments in a hint, from its first option on."""
    return shlex.split(re.search(r"--[a-z].*", text)[0])


def labels_of(call, here, hint):
    """Names and values of the labels that are trained when what a hint says is typed."""
    status, _, err = call("train", "--input=data", "--overwrite", *options(hint))
    assert (status, err) == (0, [])
    labels = load_model(here / "run/model.pt").plan.labels
    return dict(zip(labels.names, labels.values, strict=True))


NAMES = {
    "plain": ("liver", "spleen"),
    "spaces": ("left atrium", "right 'upper' lobe"),
    "a minus in front": ("-tumor", "--other"),
    "what a shell reads": ("$HOME `ls` \\", "a;b&c|d*?#!"),
}


@pytest.mark.parametrize(("first", "second"), NAMES.values(), ids=NAMES)
def test_a_value_without_a_name(call, here, first, second):
    describe(here / "data", labels={"0": "background", "1": first, "2": second})
    status, _, err = call("train", "--input=data")
    assert (status, len(err)) == (2, 2)
    assert "value 3 has no name in dataset.json" in err[1]
    name_it, leave_it_out = re.search(r"name it with (.*), or leave it out: (.*)", err[1]).groups()
    assert labels_of(call, here, name_it) == {first: 1, second: 2, "NAME": 3}
    assert labels_of(call, here, leave_it_out) == {first: 1, second: 2}


def test_a_mask_of_255_beside_a_label_of_value_1(call, here):
    for path in (here / "data/labelsTr").iterdir():
        change(path, lambda data, grid: (255 * (data > 0).astype(np.uint8), grid))
    describe(here / "data", labels={"0": "background", "1": "lesion"})
    result = call("train", "--input=data")
    refused(result, "value 255 has no name in dataset.json (known: 1 lesion); name it with --labels lesion=255")
    assert "leave it out" not in result[2][-1]
    assert labels_of(call, here, result[2][-1]) == {"lesion": 255}


def test_names_that_cannot_be_typed_are_not_told_to_be(call, here):
    describe(here / "data", labels={"0": "background", "1": "lobe, upper", "2": "lobe, lower"})
    result = call("train", "--input=data")
    refused(result, "value 3 has no name in dataset.json", "name it there, or set its voxels to 0")
    assert "--labels" not in result[2][-1]


def test_regions_have_their_values_named(call, here):
    describe(here / "data", labels={"background": 0, "whole body": [1, 2, 3], "upper core": [2, 3], "aorta": [3]})
    status, _, err = call("train", "--input=data")
    assert (status, len(err)) == (2, 2)
    assert "dataset.json: whole body, upper core are regions of several values" in err[1]
    assert labels_of(call, here, err[1]) == {"label_1": 1, "label_2": 2, "aorta": 3}


@pytest.mark.parametrize("folder", ["my run", "-run", "ru'n"])
def test_what_to_run_next(call, here, folder, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(train.Stop, "__call__", lambda stop: True)
        status, out, _ = call("train", "--input=data", f"--output={folder}")
    assert (status, out[-1].startswith("stopped; go on with: ")) == (130, True)
    monkeypatch.setattr(next_steps, "find_spec", lambda package: package)
    status, out, err = call("train", *options(out[-1]))
    assert (status, err) == (0, [])
    assert out[-2].startswith("try it: ")
    assert call("infer", *options(out[-2]))[0] == 0
    assert (here / folder / "segmentation.nii.gz").exists()
    assert out[-1].startswith("click on it: ")
    chosen = serve.command_line().parse_args(options(out[-1]))
    assert chosen.model == [Path(folder) / "model.pt"]
    assert chosen.open
    assert all(path.is_file() for path in chosen.image)


def test_without_the_extra_the_page_is_not_named(call, monkeypatch):
    monkeypatch.setattr(next_steps, "find_spec", lambda package: None if package == "uvicorn" else package)
    _, out, _ = call("train", "--input=data")
    assert out[-1].startswith("try it: ")
    assert not any("deepedit-serve" in line for line in out)


@pytest.mark.parametrize(
    "called", ["bin/deepedit-train", "./deepedit-train", "deepedit-train", "my bin/deepedit-train"]
)
def test_commands_are_spelt_as_this_one_was_called(here, monkeypatch, called):
    folder = here / Path(called).parent
    folder.mkdir(exist_ok=True)
    other = write_script(folder / "deepedit-infer")
    monkeypatch.setattr("sys.argv", [called])
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert run_by_a_shell(next_steps.spelt("deepedit-infer")) == str(other)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    assert next_steps.spelt("deepedit-infer") == "deepedit-infer"
    (here / "elsewhere").mkdir()
    write_script(here / "elsewhere" / "deepedit-infer")
    monkeypatch.setenv("PATH", f"{here / 'elsewhere'}:/usr/bin:/bin")
    assert run_by_a_shell(next_steps.spelt("deepedit-infer")) == str(other)


def test_commands_of_a_module_are_spelt_as_modules(here, monkeypatch):
    monkeypatch.setattr("sys.argv", [train.__file__])
    monkeypatch.setenv("PATH", f"{here}:/usr/bin:/bin")
    write_script(here / "deepedit-infer")
    assert next_steps.spelt("deepedit-infer") == f"{shlex.quote(sys.executable)} -m deepedit_cli.infer"


def write_script(path):
    """A command that prints where it lies."""
    path.write_text(f"#!/bin/sh\necho {shlex.quote(str(path))}\n")
    path.chmod(0o755)
    return path


def run_by_a_shell(command):
    return subprocess.run(command, shell=True, check=True, capture_output=True, text=True).stdout.strip()


def test_what_is_there_already(call):
    assert call("train", "--input=data")[0] == 0
    result = call("train", "--input=data")
    refused(result, "run: holds a run already; go on with it by --resume, or replace it by --overwrite")
    assert call("train", "--resume")[0] == 0
    assert call("infer", "--input=good.nii.gz", "--output=seg.nii.gz")[0] == 0
    result = call("infer", "--input=good.nii.gz", "--output=seg.nii.gz")
    refused(result, "choose another name, or replace it with --overwrite")
    assert call("infer", "--input=good.nii.gz", "--output=seg.nii.gz", *options(result[2][-1]))[0] == 0


def test_a_model_that_has_seen_all_cases(call, here):
    keep_only(here / "data", "phantom_00")
    result = call("evaluate", "--input=data")
    refused(result, "evaluate it on others, or, knowing that it has seen them, with --cases all")
    assert call("evaluate", "--input=data", *options(result[2][-1]))[0] == 0


def test_voxels_of_a_metre(call, here):
    image = nib.load("good.nii.gz")
    image.header.set_xyzt_units("meter")
    nib.save(image, "metres.nii.gz")
    result = call("infer", "--input=metres.nii.gz", "--output=seg.nii.gz")
    refused(result, "cannot be right (0.001 to 100 mm expected); if its lengths are no metres, give --units mm")
    again = call("infer", "--input=metres.nii.gz", "--output=seg.nii.gz", *options(result[2][-1]))
    assert again[0] == 0
