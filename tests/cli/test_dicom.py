"""The command lines with DICOM: series in, DICOM SEG in and out, and nothing of the patient anywhere else."""

import gzip
import json
import shutil
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from deepedit.inference.session import InteractiveSession
from deepedit.io.codes import TISSUE, Code, Term
from deepedit.io.volumes import read_label, read_label_on, read_volume, write_label, write_volume
from deepedit.volume import DEFAULT_READING
from tests.cli.refusals import LABELS, files, refused, write_model
from tests.io.dicom_files import LPS, PATIENT, datasets, pydicom, save

pytest.importorskip("highdicom", reason="highdicom is not installed, which reads and writes DICOM SEG")
pytestmark = pytest.mark.usefixtures("here")

NAMES = dict(zip(LABELS.values, LABELS.names, strict=True))
TOLD = [text for text in PATIENT.values() if len(text) > 1]
"""What a series says of its patient, in the test files. ``F`` would be found everywhere."""


def upright(volume):
    """Voxels and affine with the slices in the order of their normal, as a series has them."""
    if np.linalg.det((LPS @ volume.affine)[:3, :3]) > 0:
        return volume.data, volume.affine
    turned = volume.affine @ np.diag([1, 1, -1, 1.0])
    turned[:3, 3] += volume.affine[:3, 2] * (volume.shape[2] - 1)
    return volume.data[:, :, ::-1], turned


def series_of(case, folder, **elements):
    """A case of the phantom as a DICOM series; returns the volume that is read of it, and its true labels."""
    data, affine = upright(read_volume(f"data/imagesTr/{case}.nii.gz"))
    save(folder, datasets(data.astype(np.int16), affine, **elements))
    return read_volume(folder), upright(read_label(f"data/labelsTr/{case}.nii.gz"))[0]


@pytest.fixture
def series(here):
    return series_of("phantom_01", "series")[0]


@pytest.fixture
def as_nifti(call, series):
    """The segmentation of the same image as NIfTI."""
    write_volume("image.nii.gz", series.data, series, np.int16)
    assert call("infer", "--input=image.nii.gz", "--output=seg.nii.gz")[0] == 0
    return read_label("seg.nii.gz").data


def on_image(path, image):
    return read_label_on(image, Path(path), DEFAULT_READING).data


@pytest.mark.parametrize("output", ["out.dcm", "out.nii.gz", "out.seg.nrrd", "out.mha"])
def test_a_series_is_segmented_as_the_same_image_in_another_format(call, series, as_nifti, output):
    status, out, err = call("infer", "--input=series", f"--output={output}")
    assert (status, err) == (0, [])
    assert out[0].startswith(f"{output}: ")
    assert_array_equal(on_image(output, series), as_nifti)
    assert_allclose(read_label("out.nii.gz").affine if output == "out.nii.gz" else series.affine, series.affine)
    if output == "out.dcm":
        assert read_label(output).names == NAMES


def test_clicks_and_a_segmentation_start_and_end_in_it(call, series):
    truth = series_of("phantom_01", "again")[1]
    write_label("start.dcm", truth, series, NAMES)
    assert call("infer", "--input=series", "--output=a.dcm", "--initial-segmentation=start.dcm")[0] == 0
    assert_array_equal(on_image("a.dcm", series), truth)
    assert call("infer", "--input=series", "--output=b.dcm", "--click=liver:3,4,5", "--save-clicks=c.json")[0] == 0
    assert on_image("b.dcm", series)[3, 4, 5] == 1
    for path in ("a.dcm", "b.dcm"):
        segments = pydicom.dcmread(path).SegmentSequence
        assert {each.SegmentAlgorithmType for each in segments} == {"SEMIAUTOMATIC"}


def test_codes_are_those_of_the_file_and_else_tissue(call, series):
    codes = {"liver": {"value": "10200004", "scheme": "SCT", "meaning": "Liver"}}
    Path("dataset.json").write_text(json.dumps({"labels": {"1": "liver"}, "codes": codes}))
    status, _, err = call("infer", "--input=series", "--output=out.dcm", "--codes=dataset.json")
    assert (status, err) == (
        0,
        ["deepedit-infer: note: dataset.json: no code for spleen, aorta; called tissue in the DICOM SEG"],
    )
    segments = pydicom.dcmread("out.dcm").SegmentSequence
    meanings = [each.SegmentedPropertyTypeCodeSequence[0].CodeMeaning for each in segments]
    assert meanings == ["Liver", "Tissue", "Tissue"]
    refused(
        call("infer", "--input=series", "--output=a.nii.gz", "--codes=dataset.json"),
        "--codes is for DICOM SEG; let the name of the output end in .dcm, or leave it out",
    )


def test_labels_with_other_values_than_1_to_n_keep_them(call, series):
    write_model("model.pt", type(LABELS)(("liver", "spleen"), (2, 7)))
    assert call("infer", "--input=series", "--output=out.nii.gz")[0] == 0
    assert call("infer", "--input=series", "--output=out.dcm")[0] == 0
    assert pydicom.dcmread("out.dcm").SegmentationType == "LABELMAP"
    assert read_label("out.dcm").names == {2: "liver", 7: "spleen"}
    assert_array_equal(on_image("out.dcm", series), read_label("out.nii.gz").data)


def test_of_several_series_one_is_chosen(call, series):
    other, _ = series_of("phantom_02", "other")
    for path in other.slices:
        shutil.copy(path, f"series/other_{path.name}")
    uids = [str(pydicom.dcmread(each.slices[0]).SeriesInstanceUID) for each in (series, other)]
    status, _, err = call("infer", "--input=series", "--output=out.nii.gz")
    assert status == 2
    assert len(err) == 1
    assert "series: holds 2 series: " in err[0]
    assert all(uid in err[0] for uid in uids)
    assert "choose one by its UID with --series" in err[0]
    for uid, image, name in zip(uids, (series, other), ("one.dcm", "other.dcm"), strict=True):
        assert call("infer", "--input=series", f"--output={name}", f"--series={uid}")[0] == 0
        referenced = pydicom.dcmread(name).ReferencedSeriesSequence[0]
        assert referenced.SeriesInstanceUID == uid
        assert on_image(name, image).shape == image.shape
    refused(call("infer", "--input=series", "--output=no.dcm", "--series=1.2.3"), "series: has no series 1.2.3; ")
    for given in ("good.nii.gz", "data/imagesTr"):
        refused(
            call("infer", f"--input={given}", "--output=no.nii.gz", "--series=1.2.3"),
            "is no folder with files of DICOM series; leave it out",
        )


def test_a_folder_of_series_and_files(call, here, as_nifti):
    (here / "images").mkdir()
    shutil.move("series", "images/a")
    series_of("phantom_02", "images/b")
    next(Path("images/b").iterdir()).unlink()
    Path("images/b/IM00000").write_bytes(b"something")
    shutil.copy("image.nii.gz", "images/c.nii.gz")
    status, out, err = call("infer", "--input=images", "--output=out")
    assert [line.split(":")[0] for line in out] == ["out/a.nii.gz", "out/c.nii.gz"] or status == 0
    assert_array_equal(read_label("out/a.nii.gz").data, as_nifti)
    assert_array_equal(read_label("out/c.nii.gz").data, as_nifti)
    shutil.rmtree("images/b")
    refused(
        call("infer", "--input=images", "--output=segs", "--ending=.dcm"),
        "segs/c.dcm: a DICOM SEG belongs to a DICOM series, and this image was not read from one",
    )
    (here / "images/c.nii.gz").unlink()
    status, out, err = call("infer", "--input=images", "--output=segs", "--ending=.dcm")
    assert (status, err) == (0, [])
    assert_array_equal(on_image("segs/a.dcm", read_volume("images/a")), as_nifti)


def test_what_cannot_be_written_is_refused_before_the_work(call, here, series, monkeypatch):
    monkeypatch.setattr("deepedit_cli.infer.segment", None)  # which may take hours
    before = files()
    refused(
        call("infer", "--input=good.nii.gz", "--output=a.dcm"),
        "a.dcm: a DICOM SEG belongs to a DICOM series, and this image was not read from one; choose another format",
    )
    refused(
        call("infer", "--input=series", "--output=a.nii.gz", "--probabilities=p.dcm"), "p.dcm: its name should end in"
    )
    monkeypatch.setitem(sys.modules, "highdicom", None)
    refused(call("infer", "--input=series", "--output=a.dcm"), "a.dcm: DICOM SEG needs highdicom; install it with")
    assert files() == before


def test_a_damaged_series_is_refused_in_one_line(call, series):
    series.slices[4].unlink()
    refused(call("infer", "--input=series", "--output=a.nii.gz"), "series: 1 slice is missing, the first between")


def dataset_of_series(here):
    """The phantom's cases as DICOM series with DICOM SEG."""
    shutil.move("data/labelsTr", "labels")
    (here / "data/labelsTr").mkdir()
    for case in ("phantom_00", "phantom_01", "phantom_02"):
        shutil.copytree("labels", "data/labelsTr", dirs_exist_ok=True)
        image, truth = series_of(case, f"series/{case}")
        write_label(here / f"{case}.dcm", truth, image, NAMES)
    shutil.rmtree("data/labelsTr")
    shutil.rmtree("data/imagesTr")
    shutil.move("series", "data/imagesTr")
    (here / "data/labelsTr").mkdir()
    for path in here.glob("phantom_*.dcm"):
        shutil.move(path, "data/labelsTr")
    Path("data/dataset.json").unlink()


def test_a_dataset_of_series_is_trained_on_and_evaluated(call, here):
    dataset_of_series(here)
    status, out, err = call("train", "--input=data")
    assert (status, err) == (0, [])
    status, out, err = call("evaluate", "--input=data", "--cases=all", "--initial-segmentation=data/labelsTr")
    assert status == 0, err
    assert sum("Dice 1.000" in line for line in out) >= 3
    status, out, err = call("train", "--input=data", "--output=again", "--labels=liver=1,other=3")
    assert (status, err) == (0, [])


def test_a_prepared_case_is_prepared_anew_when_a_slice_changes(call, here):
    dataset_of_series(here)
    options = ("--input=data", "--cache-dir=cache")
    assert call("train", *options)[0] == 0
    entries = set(Path("cache").iterdir())
    assert call("train", *options, "--overwrite")[0] == 0
    assert set(Path("cache").iterdir()) == entries
    path = read_volume("data/imagesTr/phantom_00").slices[3]
    file = pydicom.dcmread(path)
    file.RescaleIntercept = 40
    file.save_as(path)
    assert call("train", *options, "--overwrite", "--split=1")[0] == 0
    assert any(path.name.startswith("phantom_00") for path in set(Path("cache").iterdir()) - entries)


def contents(path):
    """The bytes of a file, and those of what is packed in it."""
    raw = path.read_bytes()
    yield raw
    if raw[:2] == b"\x1f\x8b":
        yield gzip.decompress(raw)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                yield name.encode()
                yield archive.read(name)


def test_nothing_of_the_patient_is_in_any_other_file_or_message(call, here):
    """Reports, checkpoints, caches, logs, previews, sessions and results in other formats, of cases without names."""
    dataset_of_series(here)
    own = set(files())
    said = []
    for program, *options in (
        ("train", "--input=data"),
        ("evaluate", "--input=data", "--cases=all"),
        ("infer", "--input=data/imagesTr", "--output=out", "--preview=views", "--save-clicks=clicks"),
        ("infer", "--input=data/imagesTr/phantom_00", "--output=a.seg.nrrd", "--probabilities=p.nii.gz"),
        ("infer", "--input=data/imagesTr/phantom_00", "--output=a.mha", "--click=liver:3,4,5"),
        ("infer", "--input=data/imagesTr/phantom_00", "--output=seg.dcm"),
    ):
        status, out, err = call(program, *options)
        assert status == 0, err
        said += out + err
    session = InteractiveSession.from_checkpoint("run/model.pt", "cpu")
    session.set_image("data/imagesTr/phantom_00")
    session.add_click((3, 4, 5), "liver")
    session.save_session("case.session")
    session.save("by_session.dcm", {"liver": Term(Code("10200004", "SCT", "Liver"), TISSUE.category)})
    written = [path for path in Path().rglob("*") if path.is_file() and path not in own]
    kinds = {path.suffix for path in written}
    assert {".pt", ".png", ".npy", ".json", ".gz", ".nrrd", ".mha", ".session", ".csv", ".dcm"} <= kinds
    assert any("tensorboard" in path.parts for path in written)
    for text in TOLD:
        assert not any(text in line for line in said), text
    for path in written:
        found = {text for text in TOLD for content in contents(path) if text.encode() in content}
        if path.suffix == ".dcm":
            assert {
                PATIENT[key] for key in ("PatientName", "PatientID", "PatientBirthDate", "AccessionNumber")
            } <= found
        else:
            assert not found, path


def test_errors_name_nothing_of_the_patient(call, here, series):
    for key, value in (("ImagePositionPatient", None), ("PatientName", 7), ("StudyDate", "Mustermann^Erika")):
        shutil.rmtree("bent", ignore_errors=True)
        shutil.copytree("series", "bent")
        for path in Path("bent").iterdir():
            file = pydicom.dcmread(path)
            if value is None:
                delattr(file, key)
            else:
                file.add_new(key, "LO", str(value))
            file.save_as(path)
        _, out, err = call("infer", "--input=bent", "--output=bent.dcm", "--overwrite")
        assert not [text for text in TOLD if any(text in line for line in out + err)], err
