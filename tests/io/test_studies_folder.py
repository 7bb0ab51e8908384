"""Folders of studies: which files are cases, and which labels are theirs."""

import os
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepedit.errors import DatasetError
from deepedit.io.studies_folder import FINAL, natural, read_studies_folder


@pytest.fixture
def folder(tmp_path):
    """Make a folder with files of these names, which hold something."""

    def folder(*names):
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"something")
        return tmp_path

    return folder


def cases(folder, image_channels=None):
    found = read_studies_folder(folder, image_channels)
    return {name: [str(path.relative_to(folder)) for path in case.image] for name, case in found.cases.items()}


def test_images_lie_flat_or_as_in_the_decathlon(folder):
    where = folder("b.nii.gz", "imagesTr/a.nii", "imagesTs/c.NII.GZ")
    assert cases(where) == {"a": ["imagesTr/a.nii"], "b": ["b.nii.gz"], "c": ["imagesTs/c.NII.GZ"]}


def test_other_files_are_no_cases(folder):
    where = folder("a.nii.gz", "._a.nii.gz", ".b.nii.gz", ".deepedit-0.tmp.nii.gz", "c.nii.gz.part", "d.txt", "e.dcm")
    folder("datastore_v2.json", "labels/final/f.nii.gz", "labels/x.nii.gz", "other/g.nii.gz")
    (where / "h.nii.gz").mkdir()
    (where / "i.nii.gz").symlink_to("nothing")
    (where / "j.nii.gz").write_bytes(b"")
    found = read_studies_folder(where)
    assert list(found.cases) == ["a"]
    assert found.empty
    assert found.notes == ("labels of f: left out, as no image has this name",)


def test_channels_are_one_case_that_each_of_its_files_names(folder):
    where = folder("imagesTr/ct_0000.nii.gz", "imagesTr/ct_0001.nii.gz", "labelsTr/ct.nii.gz")
    assert cases(where) == {"ct": ["imagesTr/ct_0000.nii.gz", "imagesTr/ct_0001.nii.gz"]}
    found = read_studies_folder(where, 2)
    assert found.ids == {"ct": "ct", "ct_0000": "ct", "ct_0001": "ct"}
    assert found.label("ct", FINAL).name == "ct.nii.gz"
    assert list(cases(where, image_channels=1)) == ["ct_0000", "ct_0001"]


def test_images_with_labels_of_their_own_are_no_channels(folder):
    where = folder(*(f"{room}/ct_{number:04d}.nii.gz" for room in ("imagesTr", "labelsTr") for number in range(2)))
    assert list(cases(where)) == ["ct_0000", "ct_0001"]
    assert len(read_studies_folder(where).dataset_labels) == 2


def test_labels_by_their_versions(folder):
    where = folder(
        "a.nii.gz", "b.nii.gz", "labels/final/a.nii.gz", "labels/original/b.nii.gz", "labels/version_1/a.nii"
    )
    folder("labels/replaced/a.nii.gz", "labels/.x/a.nii.gz", "labels/Final x/a.nii.gz", "labels/final/c.nii.gz")
    found = read_studies_folder(where)
    assert {tag: list(files) for tag, files in found.labels.items()} == {
        "final": ["a"],
        "original": ["b"],
        "version_1": ["a"],
    }
    assert found.notes == ("labels of c: left out, as no image has this name",)


def test_labels_of_the_dataset_count_as_final_for_its_images_alone(folder):
    where = folder("imagesTr/a.nii.gz", "imagesTr/b.nii.gz", "imagesTs/c.nii.gz", "d.nii.gz")
    folder(*(f"labelsTr/{name}.nii.gz" for name in "acd"))
    folder("labels/final/b.nii.gz", "labels/final/a.nii")
    found = read_studies_folder(where)
    assert {name: found.label(name, FINAL) for name in found.cases} == {
        "a": where / "labels/final/a.nii",
        "b": where / "labels/final/b.nii.gz",
        "c": None,
        "d": None,
    }
    assert found.label("a", "original") is None


def test_of_images_of_one_name_one_is_taken_with_a_word(folder):
    where = folder("a.nii.gz", "a.nii", "imagesTr/a.nii.gz", "b.nii", "b.nii.gz", "imagesTs/b.nii")
    found = read_studies_folder(where)
    assert cases(where) == {"a": ["imagesTr/a.nii.gz"], "b": ["imagesTs/b.nii"]}
    assert "a.nii.gz: left out: has the same name as imagesTr/a.nii.gz; rename one" in found.notes
    assert "b.nii: left out: has the same name as b.nii.gz; rename one" in found.notes
    assert len(found.notes) == 4


def test_a_name_that_is_no_text_is_left_out_with_a_word(folder):
    where = folder("a.nii.gz")
    try:
        with open(os.fsencode(where) + b"/\xff.nii.gz", "wb") as stream:
            stream.write(b"something")
    except OSError:
        pytest.skip("this file system takes no such name")
    found = read_studies_folder(where)
    assert list(found.cases) == ["a"]
    assert "no valid text" in found.notes[0]


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="no such folder"):
        read_studies_folder(tmp_path / "none")


@given(st.lists(st.integers(0, 10**30), unique=True), st.randoms(use_true_random=False))
def test_numbers_sort_by_their_size(numbers, shuffle: random.Random):
    names = [f"ct_{number}a" for number in sorted(numbers)]
    mixed = shuffle.sample(names, len(names))
    assert sorted(mixed, key=natural) == names


@given(st.lists(st.text(max_size=8), unique=True))
def test_every_name_has_its_place(names):
    assert len({natural(name) for name in names}) == len(names)
    assert sorted(sorted(names), key=natural) == sorted(reversed(names), key=natural)
