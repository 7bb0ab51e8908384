"""The command lines with files of other formats than NIfTI: in, out, beside each other, and without SimpleITK."""

import shutil
import sys

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from deepedit.inference.session import InteractiveSession
from deepedit.io.volumes import read_label, read_volume, write_label, write_volume
from tests.cli.refusals import LABELS, files, refused

sitk = pytest.importorskip("SimpleITK", reason="SimpleITK is not installed, which reads and writes these formats")
pytestmark = pytest.mark.usefixtures("here")
NAMES = dict(zip(LABELS.values, LABELS.names, strict=True))


def convert(source, target, dtype=np.int16):
    volume = read_volume(source)
    write_volume(target, volume.data, volume, dtype)


def convert_label(source, target, names=None):
    label = read_label(source)
    write_label(target, label.data, label, names)


@pytest.fixture
def as_nifti(call):
    """The segmentation of the same image as NIfTI."""
    assert call("infer", "--input=good.nii.gz", "--output=seg.nii.gz")[0] == 0
    return read_label("seg.nii.gz")


@pytest.mark.parametrize("given", ["good.nrrd", "good.mha"])
@pytest.mark.parametrize("output", ["out.seg.nrrd", "out.nrrd", "out.mha", "out.nii.gz"])
def test_an_image_is_segmented_alike_whatever_its_format(call, as_nifti, given, output):
    convert("good.nii.gz", given)
    status, out, err = call("infer", f"--input={given}", f"--output={output}")
    assert (status, err) == (0, [])
    assert out[0].startswith(f"{output}: ")
    label = read_label(output)
    assert_array_equal(label.data, as_nifti.data)
    assert_allclose(label.affine, as_nifti.affine, atol=1e-4)
    if output == "out.seg.nrrd":
        assert label.names == NAMES


def test_clicks_and_a_segmentation_of_slicer_start_and_end_in_it(call, here):
    convert("good.nii.gz", "good.nrrd")
    convert_label("data/labelsTr/phantom_01.nii.gz", "start.seg.nrrd", NAMES)
    status, _, err = call(
        "infer", "--input=good.nrrd", "--output=out.seg.nrrd", "--initial-segmentation=start.seg.nrrd"
    )
    assert (status, err) == (0, [])
    assert_array_equal(read_label("out.seg.nrrd").data, read_label("start.seg.nrrd").data)
    # A part of it, as Slicer saves it.
    whole = sitk.ReadImage("start.seg.nrrd")
    sitk.WriteImage(whole[2:14, 1:15, 3:16], "part.seg.nrrd")
    options = ("--input=good.nrrd", "--output=again.seg.nrrd", "--initial-segmentation=part.seg.nrrd")
    status, _, err = call("infer", *options)
    assert status == 0
    assert len(err) == 1
    assert "part.seg.nrrd: of another grid (12 x 14 x 13); it is brought over by the affines" in err[0]
    expected = np.zeros((16, 16, 16))
    expected[2:14, 1:15, 3:16] = read_label("start.seg.nrrd").data[2:14, 1:15, 3:16]
    assert_array_equal(read_label("again.seg.nrrd").data, expected)


def test_a_segment_with_the_name_of_another_label_is_told_of(call):
    convert_label("data/labelsTr/phantom_01.nii.gz", "start.seg.nrrd", {1: "spleen", 2: "liver", 3: "aorta"})
    _, _, err = call("infer", "--input=good.nii.gz", "--output=a.nii.gz", "--initial-segmentation=start.seg.nrrd")
    assert [line.partition("start.seg.nrrd: ")[2] for line in err] == [
        "calls the value 1 spleen, and the model liver; values count, --map 1=spleen takes it by its name",
        "calls the value 2 liver, and the model spleen; values count, --map 2=liver takes it by its name",
    ]
    options = ("--initial-segmentation=start.seg.nrrd", "--map=1=spleen", "--map=2=liver")
    assert call("infer", "--input=good.nii.gz", "--output=b.nii.gz", *options)[::2] == (0, [])
    assert_array_equal(read_label("b.nii.gz").data, np.array([0, 2, 1, 3])[read_label("a.nii.gz").data])


def test_a_folder_of_mixed_formats(call, here):
    for folder in ("images", "starts"):
        (here / folder).mkdir()
    shutil.copy("good.nii.gz", "images/a.nii.gz")
    convert("good.nii.gz", "images/b.nrrd")
    convert("good.nii.gz", "images/C.MHA")
    sitk.WriteImage(sitk.ReadImage("images/b.nrrd"), "images/d.mhd")
    (here / "images/e.nrrd").write_bytes((here / "images/b.nrrd").read_bytes()[:-40])
    for name, ending in (("a", ".seg.nrrd"), ("b", ".nii.gz"), ("C", ".mha"), ("d", ".nrrd"), ("e", ".seg.nrrd")):
        convert_label("data/labelsTr/phantom_01.nii.gz", f"starts/{name}{ending}")
    status, out, err = call("infer", "--input=images", "--output=out", "--initial-segmentation=starts")
    assert status == 2
    assert err == [
        "deepedit-infer: images/e.nrrd: cut short in its compressed voxels; copy or export it again",
        "deepedit-infer: 1 of 5 images failed, as said above; the others are in out",
    ]
    assert [line.split(":")[0] for line in out] == [f"out/{name}.nii.gz" for name in "Cabd"]
    truth = read_label("data/labelsTr/phantom_01.nii.gz").data
    assert all((read_label(f"out/{name}.nii.gz").data == truth).all() for name in "Cabd")
    (here / "images/e.nrrd").unlink()
    status, out, err = call("infer", "--input=images", "--output=segmentations", "--ending=.seg.nrrd")
    assert (status, err) == (0, [])
    assert [line.split(":")[0] for line in out] == [f"segmentations/{name}.seg.nrrd" for name in "Cabd"]


def test_an_ending_for_a_single_file_is_refused(call):
    options = ("--input=good.nii.gz", "--output=a.nrrd", "--ending=.seg.nrrd")
    refused(call("infer", *options), "--ending .seg.nrrd: --output names a file, whose own ending counts; leave it out")


def test_segmentations_beside_their_images_are_no_images(call, here):
    (here / "images").mkdir()
    convert("good.nii.gz", "images/a.nrrd")
    convert_label("data/labelsTr/phantom_01.nii.gz", "images/a.seg.nrrd")
    status, out, err = call("infer", "--input=images", "--output=out")
    assert (status, len(out)) == (0, 1)
    assert err == ["deepedit-infer: note: images: left out a.seg.nrrd, as only images are read here"]
    status, _, err = call("infer", "--input=images", "--output=images", "--ending=.seg.nrrd")
    assert status == 2
    assert err[-1].startswith("deepedit-infer: images/a.seg.nrrd: ")
    assert "--overwrite" in err[-1]


def test_probabilities_go_where_their_ending_says(call, here):
    convert("good.nii.gz", "good.nrrd")
    assert call("infer", "--input=good.nrrd", "--output=a.nrrd", "--probabilities=p.nrrd")[0] == 0
    probabilities = read_volume("p.nrrd").data
    assert probabilities.shape == (4, 16, 16, 16)
    assert_allclose(probabilities.sum(0), 1, atol=1e-5)
    before = files()
    for name in ("p.seg.nrrd", "p.mhd", "p.txt"):
        refused(
            call("infer", "--input=good.nrrd", "--output=b.nrrd", f"--probabilities={name}"),
            f"{name}: its name should end in .nii.gz, .nii, .nrrd or .mha",
        )
    refused(
        call("infer", "--input=good.nrrd", "--output=b.mhd"),
        "should end in .nii.gz, .nii, .seg.nrrd, .nrrd, .mha or .dcm",
    )
    assert files() == before


def test_a_dataset_of_slicer_is_trained_on_and_evaluated(call, here):
    (here / "data/dataset.json").unlink()
    for case in ("phantom_00", "phantom_01", "phantom_02"):
        convert(f"data/imagesTr/{case}.nii.gz", f"data/imagesTr/{case}.nrrd")
        convert_label(f"data/labelsTr/{case}.nii.gz", f"data/labelsTr/{case}.seg.nrrd", NAMES)
        for room in ("imagesTr", "labelsTr"):
            (here / f"data/{room}/{case}.nii.gz").unlink()
    part = sitk.ReadImage("data/labelsTr/phantom_02.seg.nrrd")
    sitk.WriteImage(part[:, :, 1:16], "data/labelsTr/phantom_02.seg.nrrd")
    status, out, err = call("train", "--input=data")
    assert (status, err) == (0, [])
    assert any("phantom_02.seg.nrrd: its grid is a part of its image's; it is placed there" in line for line in out)
    status, out, err = call("evaluate", "--input=data", "--cases=all", "--initial-segmentation=data/labelsTr")
    assert status == 0, err
    assert any(line.startswith("phantom_00: Dice 1.000") for line in out)
    assert any(line.startswith("phantom_02: Dice 1.000") for line in out)


def test_a_truth_whose_segments_have_other_values_than_the_model_is_left_out(call, here):
    first, second = list(NAMES)[:2]
    exchanged = {**NAMES, first: NAMES[second], second: NAMES[first]}
    convert_label("data/labelsTr/phantom_01.nii.gz", "data/labelsTr/phantom_01.seg.nrrd", exchanged)
    for path in ("dataset.json", "labelsTr/phantom_01.nii.gz"):
        (here / "data" / path).unlink()
    status, out, err = call("evaluate", "--input=data", "--cases=all", "--max-clicks=0")
    assert status == 2
    message = f"phantom_01.seg.nrrd: {NAMES[second]} is {first}, for the model it is {second}"
    assert any(message in line for line in err), err
    assert any(line.startswith("phantom_00: Dice") for line in out)


def test_a_session_reads_and_writes_them(here, as_nifti):
    convert("good.nii.gz", "good.mha")
    session = InteractiveSession.from_checkpoint("model.pt", "cpu")
    session.set_image("good.mha")
    assert_array_equal(session.predict(), as_nifti.data)
    session.save("out.seg.nrrd")
    session.set_segmentation("out.seg.nrrd")
    assert_array_equal(session.predict(), as_nifti.data)
    assert session.notes == []


def test_without_simpleitk_one_line_says_what_to_install(call, here, monkeypatch):
    convert("good.nii.gz", "good.nrrd")
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    words = "files of this format need SimpleITK; install it with: pip install 'deepedit[formats]'"
    refused(call("infer", "--input=good.nrrd", "--output=a.nii.gz"), f"good.nrrd: {words}")
    monkeypatch.setattr("deepedit_cli.infer.segment", None)  # which may take hours
    refused(call("infer", "--input=good.nii.gz", "--output=a.seg.nrrd"), f"a.seg.nrrd: {words}")
