"""Folders as people have them: what is in them is read, or said to be left out, whatever its ending."""

import shutil

import pytest

from deepedit.io.nifti import read_label
from tests.cli.refusals import files, refused

pytestmark = pytest.mark.usefixtures("here")
OTHERS = ("a.mgz", "b.hdr.gz", "b.img.gz", "c.dcm")


@pytest.fixture
def images(here):
    """A folder of two images, one of them with its ending in capitals."""
    (here / "images").mkdir()
    shutil.copy("data/imagesTr/phantom_00.nii.gz", "images/a.nii.gz")
    shutil.copy("data/imagesTr/phantom_01.nii.gz", "images/B.NII.GZ")
    return here / "images"


def fill(folder, *names):
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_text("something")


def test_images_of_other_formats_are_named_and_endings_may_be_capitals(call, here, images):
    fill(images, *OTHERS, "notes.txt", ".hidden")
    status, out, err = call("infer", "--input=images", "--output=out")
    assert status == 0
    assert err == [
        "deepedit-infer: note: images: left out c.dcm, as a DICOM series is an image where it has a folder of its own; "
        "and a.mgz, b.hdr.gz, b.img.gz, to be converted to .nii.gz; "
        "and notes.txt, as only DICOM, NIfTI, NRRD, MetaImage and Analyze files are read"
    ]
    assert [line.split(":")[0] for line in out] == ["out/B.nii.gz", "out/a.nii.gz"]


def test_a_folder_of_other_formats_only_is_refused(call, here):
    fill(here / "images", *OTHERS)
    refused(
        call("infer", "--input=images", "--output=out"),
        "images: holds no image (.nii.gz, .nii, .nrrd, .nhdr, .mha, .mhd, .hdr, or a folder with a DICOM series); "
        "left out c.dcm, as a DICOM series is an image where it has a folder of its own; "
        "and a.mgz, b.hdr.gz, b.img.gz, to be converted to .nii.gz",
    )


def test_clicks_in_every_format_are_found_and_images_without_are_counted(call, here, images):
    shutil.copy("data/imagesTr/phantom_02.nii.gz", "images/c.nii.gz")
    fill(here / "clicks", "readme.md")
    (here / "clicks/a.MRK.JSON").write_text('{"liver": [[1, 2, 3]]}')
    (here / "clicks/B.CSV").write_text("label,i,j,k\nliver,1,2,3\n")
    (here / "clicks/z.json").write_text('{"liver": [[1, 2, 3]]}')
    (here / "clicks/c.fcsv").write_text("something")
    status, out, err = call("infer", "--input=images", "--output=out", "--clicks=clicks")
    assert status == 2
    assert "(1 click," in next(line for line in out if line.startswith("out/a.nii.gz"))
    said = "\n".join(err)
    assert "note: clicks: left out readme.md, as only .mrk.json" in said
    assert "note: clicks: left out z.json: of no image in images" in said
    assert "clicks/c.fcsv" in said
    (here / "clicks/c.fcsv").unlink()
    (here / "clicks/z.json").unlink()
    _, _, err = call("infer", "--input=images", "--output=again", "--clicks=clicks")
    assert "deepedit-infer: note: 1 of 3 images have no file in clicks, and so not clicks: c" in err


@pytest.mark.parametrize(
    ("option", "names", "said"),
    [
        ("--clicks", ("a.xlsx",), "given: nothing in it is for an image of images; left out a.xlsx, as only .mrk.json"),
        (
            "--initial-segmentation",
            ("a.mgz",),
            "given: nothing in it is for an image of images; left out a.mgz, to be converted to .nii.gz",
        ),
        ("--initial-segmentation", (), "given: nothing in it is for an image of images; it is empty"),
        ("--clicks", ("q.json",), "given: q.json: of no image in images; name each file as its image, or take it out"),
    ],
)
def test_a_folder_in_which_nothing_fits_is_refused(call, here, images, option, names, said):
    fill(here / "given", *names)
    refused(call("infer", "--input=images", "--output=out", f"{option}=given"), said)


def test_segmentations_with_their_ending_in_capitals_are_corrected(call, here, images):
    (here / "given").mkdir()
    shutil.copy("data/labelsTr/phantom_00.nii.gz", "given/a.NII.GZ")
    shutil.copy("data/labelsTr/phantom_01.nii.gz", "given/B.nii.gz")
    assert call("infer", "--input=images", "--output=out", "--initial-segmentation=given")[::2] == (0, [])
    for name, truth in (("a", "phantom_00"), ("B", "phantom_01")):
        assert (read_label(f"out/{name}.nii.gz").data == read_label(f"data/labelsTr/{truth}.nii.gz").data).all()


def test_a_case_in_capitals_is_trained_on_too_and_other_formats_are_named(call, here):
    (here / "data/dataset.json").unlink()
    for room in ("imagesTr", "labelsTr"):
        (here / f"data/{room}/phantom_00.nii.gz").rename(here / f"data/{room}/phantom_00.NII.GZ")
    fill(here / "data/imagesTr", "extra.mgz")
    status, out, err = call("train", "--input=data")
    assert (status, err) == (0, [])
    assert "note: imagesTr: left out extra.mgz, to be converted to .nii.gz" in out
    assert any(line.startswith("2 cases to train on, 1 to validate") for line in out)
    _, out, err = call("evaluate", "--input=data", "--cases=all")
    assert "deepedit-evaluate: imagesTr: left out extra.mgz, to be converted to .nii.gz" in err
    assert any(line.startswith("phantom_00: Dice") for line in out)


def test_a_label_whose_image_is_of_another_format(call, here):
    (here / "data/dataset.json").unlink()
    (here / "data/imagesTr/phantom_00.nii.gz").rename(here / "data/imagesTr/phantom_00.mgz")
    status, _, err = call("train", "--input=data")
    assert status == 2
    assert err[1].endswith("labelsTr/phantom_00.nii.gz: has no image of its name in imagesTr, nor one with channels "
                           "from _0000 on")  # fmt: skip
    assert err[2].endswith("imagesTr: left out phantom_00.mgz, to be converted to .nii.gz")


def test_starts_of_an_evaluation_are_looked_through_first(call, here):
    fill(here / "given", "phantom_01.mgz")
    result = call("evaluate", "--input=data", "--initial-segmentation=given")
    refused(
        result, "given: has no segmentation of any case; name them as the cases, such as phantom_01.nii.gz; left out"
    )
    assert "report" not in [path.name for path in here.iterdir()]
    shutil.copy("data/labelsTr/phantom_01.nii.gz", "given/phantom_01.NII.GZ")
    status, out, err = call("evaluate", "--input=data", "--initial-segmentation=given")
    assert status == 2
    assert "phantom_01: Dice 1.000" in out
    assert err[0].startswith("deepedit-evaluate: note: given: left out phantom_01.mgz")
    assert err[1].startswith("deepedit-evaluate: phantom_02 is left out: given: has no segmentation phantom_02.nii.gz")


def test_a_name_is_the_same_alone_and_in_a_folder(call, here):
    for folder in ("images", "alone", "out"):
        (here / folder).mkdir()
    for name in ("case_000_0000.nii.gz", "case_001_0000.nii.gz", "x.NII.GZ"):
        shutil.copy("good.nii.gz", f"images/{name}")
    assert call("infer", "--input=images", "--output=out")[0] == 0
    for path in sorted((here / "images").iterdir()):
        assert call("infer", f"--input={path}", "--output=alone")[0] == 0
    names = ["case_000.nii.gz", "case_001.nii.gz", "x.nii.gz"]
    assert sorted(path.name for path in (here / "out").iterdir()) == names
    assert sorted(path.name for path in (here / "alone").iterdir()) == names


def test_a_result_may_be_called_in_capitals(call):
    assert call("infer", "--input=good.nii.gz", "--output=SEG.NII.GZ")[0] == 0
    with open("SEG.NII.GZ", "rb") as stream:
        assert stream.read(2) == b"\x1f\x8b"
    assert read_label("SEG.NII.GZ").shape == (16, 16, 16)


def test_an_image_that_is_there_twice(call, here, images):
    shutil.copy("images/a.nii.gz", "images/a.NII")
    before = files()
    refused(call("infer", "--input=images", "--output=out"), "images: a is there as .NII and as .nii.gz; keep one")
    assert files() == before
