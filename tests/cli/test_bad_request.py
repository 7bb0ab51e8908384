"""Clicks, models and outputs that cannot be meant: refused in one line, as bad images and datasets are."""

import os
import pickle

import pytest
import torch

from deepedit.network.checkpoint import FORMAT_VERSION
from deepedit.plan import Labels
from tests.cli.refusals import NEST, files, refused, write_model

pytestmark = pytest.mark.usefixtures("here")

CLICKS = {
    "cut short": ('{"liver": [[1, 2', "not valid JSON (Expecting ',' delimiter"),
    "nested deeply": ('{"liver": ' + NEST, "nested too deeply"),
    "NaN": ('{"liver": [[1, 2, NaN]]}', "not valid JSON (NaN is not a JSON number)"),
    "huge numbers": ('{"liver": [[1, 2, 1e300]]}', "position [1, 2, 1e+300] is not three numbers (within 10 million)"),
    "wrong types": ('{"clicks": [{"label": 5, "position": "x"}]}', "click 1: its label 5 is not a name; give it that"),
    "no clicks": ('{"clicks": 3}', "write clicks as docs/segmenting.md shows, or export them from 3D Slicer"),
    "unknown label": ('{"livr": [[1, 2, 3]]}', "'livr' is not one of background, liver, spleen, aorta; did you mean"),
    "outside": (
        '{"liver": [[1, 2, 300]]}',
        "voxel (1, 2, 300) lies outside the image of 16 x 16 x 16 voxels; check its",
    ),
    "empty": ("", "the file is empty; write or export it again"),
}


@pytest.mark.parametrize(("text", "said"), CLICKS.values(), ids=CLICKS)
def test_a_file_of_clicks(call, here, text, said):
    (here / "clicks.json").write_text(text)
    before = files()
    refused(call("infer", "--input=good.nii.gz", "--output=seg.nii.gz", "--clicks=clicks.json"), "clicks.json: ", said)
    assert files() == before


def test_a_click(call):
    image = ("--input=good.nii.gz", "--output=seg.nii.gz")
    refused(call("infer", *image, "--click=livr:1,2,3"), "--click livr:1,2,3: ", "did you mean liver?")
    refused(call("infer", *image, "--click=liver:1,2,300"), "good.nii.gz: the click at voxel (1, 2, 300) lies outside")


class Payload:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def changed(entries, **others):
    return lambda: torch.save({**torch.load("model.pt", weights_only=True), **entries, **others}, "bad.pt")


MODELS = {
    "truncated": (lambda: _copy(0.5), "damaged, or no model file at all; copy it again"),
    "zero bytes": (lambda: _copy(0), "damaged, or no model file at all; copy it again"),
    "a newer format": (changed({"version": FORMAT_VERSION + 1}), "is newer than this package reads (5); update"),
    "code": (changed({"training": Payload()}), "holds more than weights, such as code, which is not run; use a file"),
    "code alone": (lambda: _write(pickle.dumps(Payload())), "damaged, or no model file at all"),
    "not ours": (lambda: torch.save({"state_dict": {}}, "bad.pt"), "not a model of this package; use a file that"),
    "other weights": (changed({"weights": {}}), "its weights are not those of the network that it describes"),
}


def _copy(share):
    with open("model.pt", "rb") as stream:
        content = stream.read()
    _write(content[: int(share * len(content))])


def _write(content):
    with open("bad.pt", "wb") as stream:
        stream.write(content)


@pytest.mark.parametrize(("write", "said"), MODELS.values(), ids=MODELS)
def test_a_model_file(call, write, said):
    write()
    before = files()
    refused(call("infer", "--model=bad.pt", "--input=good.nii.gz", "--output=seg.nii.gz"), "bad.pt: ", said)
    refused(call("evaluate", "--model=bad.pt", "--input=data"), "bad.pt: ", said)
    refused(call("train", "--input=data", "--init-weights=bad.pt"), "bad.pt: ", said)
    assert files() == before
    assert not os.path.exists("executed")


def test_a_model_of_other_labels(call):
    write_model("model.pt", Labels(("kidney",), (9,)))
    image = ("--input=good.nii.gz", "--output=seg.nii.gz")
    refused(call("infer", *image, "--click=liver:1,2,3"), "label 'liver' is not one of background, kidney")
    refused(call("evaluate", "--input=data"), "data: has labels", "the model knows 9 kidney; evaluate it on its own")


@pytest.mark.parametrize(
    ("program", "arguments", "said"),
    [
        (
            "infer",
            ("--input=good.nii.gz", "--output=taken/seg.nii.gz"),
            "taken is a file, not a folder; choose another",
        ),
        ("infer", ("--input=good.nii.gz", "--output=none/seg.nii.gz"), "its folder does not exist; create it first"),
        ("infer", ("--input=data/imagesTr", "--output=taken"), "--output taken: is a file, and --input a folder"),
        ("infer", ("--input=data/imagesTr", "--output=taken/out"), "taken/out: cannot be made: there is a file where"),
        (
            "train",
            ("--input=data", "--output=taken"),
            "taken: cannot be made: there is a file where a folder should be",
        ),
        ("train", ("--input=data", "--output=taken/run"), "taken/run: cannot be made: there is a file where"),
        ("train", ("--input=data", "--cache-dir=taken/cache"), "taken/cache: cannot be made: there is a file where"),
        (
            "evaluate",
            ("--input=data", "--output=taken"),
            "taken: cannot be made: there is a file where a folder should",
        ),
    ],
)
def test_an_output_that_cannot_be_written(call, here, program, arguments, said):
    (here / "taken").write_text("precious")
    before = files()
    refused(call(program, *arguments), said)
    assert files() == before
    assert (here / "taken").read_text() == "precious"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.parametrize("program", ["infer", "train", "evaluate"])
def test_an_output_folder_that_may_not_be_written(call, here, program):
    (here / "locked").mkdir(mode=0o500)
    source = "good.nii.gz" if program == "infer" else "data"
    output = "locked/seg.nii.gz" if program == "infer" else "locked/run"
    refused(call(program, f"--input={source}", f"--output={output}"), "may not be written to")


@pytest.mark.parametrize(
    ("program", "arguments", "said"),
    [
        ("infer", ("--input=good.nii.gz", "--output=seg.nii.gz", "--space=ras"), "--space is that of --click"),
        (
            "infer",
            ("--input=good.nii.gz", "--output=seg.nii.gz", "--save-clicks=c.csv"),
            "c.csv: clicks are written as",
        ),
        (
            "train",
            ("--input=data", "--progress=none/p.json"),
            "none/p.json: its folder does not exist; create it first",
        ),
        ("train", ("--input=data", "--grid=64"), "--grid is for --import-monai"),
        ("train", ("--input=data", "--widen"), "--widen is for --import-monai"),
        ("train", ("--input=data", "--channel-order=dict"), "--channel-order is for --import-monai and --export monai"),
        ("train", ("--input=model.pt", "--output=model.pt", "--export", "--overwrite"), "is the model to export"),
        ("train", ("--input=model.pt", "--output=other.pt2", "--export"), "call the output model.ts"),
    ],
)
def test_options_without_an_effect_or_with_a_harmful_one(call, here, program, arguments, said):
    before = files()
    refused(call(program, *arguments), said)
    assert files() == before


@pytest.mark.parametrize("program", ["infer", "evaluate", "train", "serve"])
def test_a_path_that_is_too_long(call, program):
    name = 300 * "a"
    options = {"infer": "input", "evaluate": "initial-segmentation", "serve": "studies", "train": "output"}
    option = options[program]
    others = {"infer": ["--output=seg.nii.gz"], "serve": []}.get(program, ["--input=data"])
    refused(call(program, f"--{option}={name}", *others), "name that is too long")
