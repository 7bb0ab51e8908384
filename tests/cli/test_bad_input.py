"""What users hand in by mistake, from the command line: one line that names the file, the problem and the mend.

The exit status is 2, there is no traceback, nothing is left half-written, and the other cases of a folder are done.
"""

import os

import nibabel as nib
import pytest

from tests.cli.bad_files import AFFINE, IMAGES, change, describe, keep_only, moved, with_first
from tests.cli.refusals import NEST, files, refused

pytestmark = pytest.mark.usefixtures("here")


@pytest.mark.parametrize(("content", "said"), IMAGES.values(), ids=IMAGES)
class TestImage:
    def test_alone(self, call, here, content, said):
        (here / "case_07.nii.gz").write_bytes(content(AFFINE))
        before = files()
        refused(call("infer", "--input=case_07.nii.gz", "--output=seg.nii.gz"), "case_07.nii.gz: ", said)
        assert files() == before

    def test_among_others_which_are_done(self, call, here, content, said):
        (here / "data/imagesTr/phantom_01.nii.gz").write_bytes(content(AFFINE))
        status, out, err = call("infer", "--input=data/imagesTr", "--output=out")
        assert (status, len(out), len(err)) == (2, 2, 2)
        assert "phantom_01.nii.gz: " in err[0]
        assert said in err[0]
        assert err[1] == "deepedit-infer: 1 of 3 images failed, as said above; the others are in out"
        assert sorted(os.listdir("out")) == ["phantom_00.nii.gz", "phantom_02.nii.gz"]

    def test_to_train_on(self, call, here, content, said):
        grid = nib.load(here / "data/labelsTr/phantom_00.nii.gz").affine
        (here / "data/imagesTr/phantom_00.nii.gz").write_bytes(content(grid))
        result = call("train", "--input=data")
        if "promises" in said:  # its header is found not to fit the label file before its voxels are read
            said = "shape 64 x 64 x 64 against 16 x 16 x 16"
        refused(result, "imagesTr/phantom_00.nii.gz", said)
        assert not os.path.exists("run/model.pt")
        assert not os.path.exists("run/last.pt")

    def test_to_evaluate(self, call, here, content, said):
        (here / "data/imagesTr/phantom_01.nii.gz").write_bytes(content(AFFINE))
        status, out, err = call("evaluate", "--input=data")
        assert (status, len(err)) == (2, 2)
        assert "phantom_01 is left out: data/imagesTr/phantom_01.nii.gz: " in err[0]
        assert any(line.startswith("phantom_02: Dice") for line in out)
        assert sorted(os.listdir("report"))[:2] == ["report.csv", "report.json"]


LABEL_FILES = {
    "another shape": (lambda data, grid: (data[:-1], grid), "16 x 16 x 16 against 15 x 16 x 16; resample one onto"),
    "another affine": (moved, "affines differ by up to 0.678 voxels; resample one onto the other"),
    "negative": (lambda data, grid: (with_first(data, -1), grid), "whole numbers from 0 on, it has -1; write it anew"),
    "fractional": (lambda data, grid: (with_first(data, 0.5), grid), "whole numbers from 0 on, it has 0.5; write"),
    "unknown": (
        lambda data, grid: (with_first(data, 9), grid),
        "value 9 has no name in dataset.json (known: 1 liver, 2 spleen, 3 aorta); name it with --labels",
    ),
}


@pytest.mark.parametrize(("edit", "said"), LABEL_FILES.values(), ids=LABEL_FILES)
def test_a_label_file(call, here, edit, said):
    change(here / "data/labelsTr/phantom_00.nii.gz", edit)
    refused(call("train", "--input=data"), "labelsTr/phantom_00.nii.gz", said)
    assert not os.listdir("run")


def test_a_label_file_without_foreground_is_trained_on_and_reported(call, here):
    change(here / "data/labelsTr/phantom_00.nii.gz", lambda data, grid: (data * 0, grid))
    status, out, err = call("train", "--input=data")
    assert (status, err) == (0, [])
    assert out[0] == "note: phantom_00: its label file is empty of foreground"


def test_a_single_case_is_trained_on_and_reported(call, here):
    keep_only(here / "data", "phantom_00")
    status, out, err = call("train", "--input=data")
    assert (status, err) == (0, [])
    assert out[0].startswith("note: a single case is used to train on and to validate")


def test_a_case_that_is_there_twice(call, here):
    (here / "data/dataset.json").unlink()
    image = nib.load(here / "data/imagesTr/phantom_00.nii.gz")
    nib.save(image, here / "data/imagesTr/phantom_00.nii")
    refused(call("train", "--input=data"), "imagesTr/phantom_00 is there as .nii and as .nii.gz; keep one")


def test_a_case_that_is_listed_twice(call, here):
    pair = {"image": "imagesTr/phantom_00.nii.gz", "label": "labelsTr/phantom_00.nii.gz"}
    describe(here / "data", training=[pair, pair])
    refused(call("train", "--input=data"), "dataset.json: lists two cases of the name phantom_00; remove or rename one")


@pytest.mark.parametrize("program", ["train", "evaluate"])
def test_a_dataset_folder(call, here, program):
    refused(call(program, "--input=nowhere"), "nowhere: no such folder; check the path")
    refused(call(program, "--input=good.nii.gz"), "good.nii.gz: this is not a folder; a dataset is one, with imagesTr")
    (here / "new").mkdir()
    refused(call(program, "--input=new"), "no folder imagesTr and no folder labelsTr in it: images belong in imagesTr")
    for room in ("imagesTr", "labelsTr"):
        (here / "new" / room).mkdir()
    refused(
        call(program, "--input=new"),
        "no image in imagesTr and no label map in labelsTr of a format that is read (DICOM, NIfTI, NRRD,",
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("program", ["train", "evaluate"])
def test_a_dataset_folder_that_may_not_be_read(call, here, program):
    (here / "data").chmod(0)
    refused(call(program, "--input=data"), "data: this folder may not be read; check its permissions")


DESCRIPTIONS = {
    "cut short": ('{"labels": {', "not valid JSON (Expecting property name"),
    "nested deeply": (NEST, "nested too deeply"),
    "NaN": ('{"numTraining": NaN}', "not valid JSON (NaN is not a JSON number); correct it"),
    "a huge number": ('{"numTraining": ' + "9" * 5000 + "}", "not valid JSON (a number of 5000 digits); correct it"),
    "a list": ("[]", "should hold a JSON object in braces, holds []; write or export it again"),
    "empty": ("", "the file is empty; write or export it again"),
}


@pytest.mark.parametrize("program", ["train", "evaluate"])
@pytest.mark.parametrize(("text", "said"), DESCRIPTIONS.values(), ids=DESCRIPTIONS)
def test_a_description_that_is_malformed_or_hostile(call, here, program, text, said):
    (here / "data/dataset.json").write_text(text)
    refused(call(program, "--input=data"), "data/dataset.json: ", said)


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"labels": 3}, "labels should be an object in braces, is 3"),
        (
            {"labels": {"liver": 1e308}},
            "label liver: its value 1000000000000000010979063629440455417... is not between",
        ),
        ({"labels": {str(value): f"label_{value}" for value in range(1, 2000)}}, "names 1999 labels; at most 1000"),
        ({"modality": [3]}, "modality should name each channel, is [3]"),
        ({"file_ending": [["x"]]}, "files end in [['x']]; convert them to .nii.gz"),
    ],
)
def test_a_description_of_wrong_types(call, here, entries, said):
    describe(here / "data", **entries)
    refused(call("train", "--input=data"), "dataset.json: ", said)


def test_a_description_that_lists_no_case_to_evaluate(call, here):
    describe(here / "data", training="all")
    status, _, err = call("evaluate", "--input=data")
    assert status == 2
    assert err[0] == "deepedit-evaluate: dataset.json: training should be a list, is 'all'"
    assert err[-1] == "deepedit-evaluate: data: no case is left to evaluate, as said above"
