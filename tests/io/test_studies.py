"""Folders of studies: which files are images and label maps of which case, and what is left out of training."""

import json

import numpy as np
import pytest

from deepedit.errors import DatasetError
from deepedit.io.pairing import Case
from deepedit.io.studies import find_labelled_studies, list_studies
from deepedit.io.volumes import read_label, write_label

LABELS = {"spleen": 1, "liver": 6}
IMAGE = np.arange(120, dtype=np.float32).reshape(4, 5, 6)


@pytest.fixture
def studies(tmp_path, save):
    """Write images and label maps by their paths in a folder; the values of a label map are those given."""

    def studies(*images, folder="studies", **labels):
        for name in images:
            save(IMAGE, name=name, folder=tmp_path / folder)
        return tmp_path / folder

    return studies


@pytest.fixture
def label(tmp_path, save):
    def label(name, *values, shape=(4, 5, 6), folder="studies"):
        content = np.zeros(shape, np.int16)
        content.flat[: len(values)] = values
        return save(content, name=name, folder=tmp_path / folder)

    return label


def test_all_cases_are_listed_with_the_label_maps_that_somebody_approved(studies, label):
    folder = studies("a.nii.gz", "imagesTr/b.nii.gz", "imagesTr/c.nii.gz", "imagesTs/d.nii.gz", "._e.nii.gz")
    final, given = label("labels/final/b.nii.gz", 1), label("labelsTr/c.nii.gz", 1)
    label("labelsTr/b.nii.gz", 6)
    label("labels/original/a.nii.gz", 6)
    cases, notes = list_studies(folder)
    assert {case.name: case.label for case in cases} == {"a": None, "b": final, "c": given, "d": None}
    assert notes == ()


@pytest.mark.parametrize(("channels", "names"), [(2, ["a"]), (1, ["a_0000", "a_0001"]), (None, ["a"])])
def test_numbered_files_are_channels_if_the_model_has_as_many(studies, channels, names):
    cases, _ = list_studies(studies("a_0000.nii.gz", "a_0001.nii.gz"), channels)
    assert [case.name for case in cases] == names


def test_what_is_left_out_of_the_list_is_said(studies):
    folder = studies("a.nii.gz", "imagesTr/a.nii.gz", "labels/final/e.nii.gz")
    cases, notes = list_studies(folder)
    assert [case.image for case in cases] == [(folder / "imagesTr" / "a.nii.gz",)]
    assert len(notes) == 2


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DatasetError, match="no such folder"):
        list_studies(tmp_path / "none")


def test_cases_without_a_label_map_are_left_out_of_training_in_one_line(studies, label):
    folder = studies("a.nii.gz", "b.nii.gz", "c.nii.gz")
    label("labels/final/b.nii.gz", 1, 6)
    dataset = find_labelled_studies(folder, LABELS)
    assert [case.name for case in dataset.cases] == ["b"]
    assert dataset.labels.names == ("spleen", "liver")
    assert dataset.warnings == ("2 of 3 cases have no label map to train on; left out",)


def test_a_bad_case_costs_that_case_only(studies, label):
    folder = studies("a.nii.gz", "b.nii.gz", "c.nii.gz", "d.nii.gz", "e.nii.gz")
    label("labels/final/a.nii.gz", 1, 6)
    label("labels/final/b.nii.gz", 1, shape=(4, 5, 7))
    path = label("labels/final/c.nii.gz", 1)
    path.write_bytes(path.read_bytes()[:40])
    label("labels/final/d.nii.gz", 1, 9)
    label("labels/final/e.nii.gz")
    dataset = find_labelled_studies(folder, LABELS)
    assert [case.name for case in dataset.cases] == ["a", "d", "e"]
    said = "\n".join(dataset.warnings)
    assert "b is left out: labels/final/b.nii.gz does not lie on the grid of b.nii.gz" in said
    assert "c is left out: labels/final/c.nii.gz: " in said
    assert "d.nii.gz: 9 is no value of a label; it becomes background" in said
    assert "e: without foreground" in said


def test_images_of_another_number_of_channels_are_left_out(studies, label):
    folder = studies("a.nii.gz")
    label("labels/final/a.nii.gz", 1, 6)
    with pytest.raises(DatasetError, match="a is left out: its image has 1 channels where the model expects 2"):
        find_labelled_studies(folder, LABELS, image_channels=2)


def test_a_folder_without_label_maps_says_what_to_do(studies):
    with pytest.raises(DatasetError, match="no case with a label map of spleen, liver can be used; submit some"):
        find_labelled_studies(studies("a.nii.gz"), LABELS)


def test_label_maps_whose_values_mean_something_else_are_left_out(studies, label):
    folder = studies("imagesTr/a.nii.gz", "imagesTr/b.nii.gz")
    label("labelsTr/a.nii.gz", 1, 2)
    label("labels/final/b.nii.gz", 1, 6)
    (folder / "dataset.json").write_text(json.dumps({"labels": {"0": "background", "1": "spleen", "2": "liver"}}))
    dataset = find_labelled_studies(folder, LABELS)
    assert [case.name for case in dataset.cases] == ["b"]
    assert "labelsTr: left out, as dataset.json says liver=2, and the model spleen=1, liver=6" in dataset.warnings


def test_a_segmentation_whose_segments_have_other_values_is_left_out(studies, label, tmp_path):
    pytest.importorskip("SimpleITK", reason="SimpleITK is not installed")
    folder = studies("a.nii.gz", "b.nii.gz")
    truth = read_label(label("labels/final/a.nii.gz", 1, 6))
    write_label(folder / "labels" / "final" / "b.seg.nrrd", truth.data.clip(0, 2), truth, {1: "spleen", 2: "liver"})
    dataset = find_labelled_studies(folder, LABELS)
    assert [case.name for case in dataset.cases] == ["a"]
    assert "b is left out: final/b.seg.nrrd: its segment liver has the value 2, and liver is 6" in dataset.warnings[0]


@pytest.mark.parametrize(("name", "used"), [("Liver", ["a"]), ("Spleen", ["a", "b"])])
def test_a_segmentation_that_gives_a_value_another_name_is_left_out(studies, label, name, used):
    pytest.importorskip("SimpleITK", reason="SimpleITK is not installed")
    folder = studies("a.nii.gz", "b.nii.gz")
    truth = read_label(label("labels/final/a.nii.gz", 1, 6))
    write_label(folder / "labels" / "final" / "b.seg.nrrd", truth.data.clip(0, 1), truth, {1: name})
    dataset = find_labelled_studies(folder, LABELS)
    assert [case.name for case in dataset.cases] == used
    said = "b is left out: 1 is Liver, and here it is spleen; rename the segment"
    assert (said in dataset.warnings) == (name == "Liver")


def test_a_label_map_of_other_values_alone_is_left_out(studies, label):
    folder = studies("a.nii.gz", "b.nii.gz")
    label("labels/final/a.nii.gz", 1, 6)
    label("labels/final/b.nii.gz", 7, 99)
    dataset = find_labelled_studies(folder, LABELS)
    assert [case.name for case in dataset.cases] == ["a"]
    assert "b is left out: has 7, 99, and none of the values of spleen, liver" in dataset.warnings


def test_a_value_to_ignore_stays_one(studies, label):
    folder = studies("a.nii.gz")
    label("labels/final/a.nii.gz", 1, 6, 9)
    dataset = find_labelled_studies(folder, {**LABELS, "ignore": 9})
    assert (dataset.ignore, dataset.labels.values, dataset.warnings) == (9, (1, 6), ())


def test_cases_of_an_earlier_training_are_mixed_in_as_far_as_they_are_there(studies, label, tmp_path):
    folder, old = studies("a.nii.gz", "b.nii.gz"), studies("a.nii.gz", "c.nii.gz", "d.nii.gz", folder="old")
    label("labels/final/a.nii.gz", 1, 6)
    label("labels/final/b.nii.gz", 1, 6)
    truth = label("c-label.nii.gz", 1, 6, folder="old")
    earlier = [
        Case("a", (old / "a.nii.gz",), truth),
        Case("b", (folder / "b.nii.gz",), truth),
        Case("c", (old / "c.nii.gz",), truth),
        Case("d", (old / "d.nii.gz",), old / "gone.nii.gz"),
    ]
    dataset = find_labelled_studies(folder, LABELS, earlier=earlier)
    assert {case.name: case.label.parent for case in dataset.cases} == {
        "a": folder / "labels" / "final",
        "b": folder / "labels" / "final",
        "c": old,
    }
    assert dataset.warnings == (
        "left out of the earlier training, as other studies have their names: a",
        f"1 of 4 cases of the earlier training are gone, such as {old / 'gone.nii.gz'}; left out",
    )
