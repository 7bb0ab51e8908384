"""Dataset folders: found, paired, checked, split."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from deepedit.errors import DatasetError, FileError
from deepedit.io.dataset_json import parse_labels
from deepedit.io.msd import Case, find_dataset, find_images, read_case, split_cases
from tests.io.conftest import MSD, problems

HIPPOCAMPUS = Path(__file__).parents[2].parent / "shared" / "data" / "Task04_Hippocampus"


def test_pairs_by_name_and_values_name_themselves(dataset):
    found = find_dataset(dataset(values=(1, 7)))
    assert [case.name for case in found.cases] == ["a", "b"]
    assert found.cases[0].image[0].name == "a.nii.gz"
    assert (found.labels.names, found.labels.values) == (("label_1", "label_7"), (1, 7))
    assert (found.modality, found.image_channels, found.warnings) == (None, 1, ())


def test_hidden_files_are_not_seen(dataset):
    folder = dataset()
    for room in ("imagesTr", "labelsTr"):
        (folder / room / "._a.nii.gz").write_bytes(b"resource fork")
        (folder / room / ".DS_Store").write_bytes(b"")
    assert len(find_dataset(folder).cases) == 2


def test_labels_that_the_user_names_leave_the_others_to_the_background(dataset):
    found = find_dataset(dataset(values=(1, 2, 9), description=MSD), labels={"tumour": 2})
    assert (found.labels.names, found.labels.values) == (("tumour",), (2,))


def test_every_problem_is_listed_at_once(dataset, save):
    folder = dataset(
        images=("a.nii.gz", "lost.nii.gz", "b.nii.gz", "c.nii.gz", "d.nii.gz"),
        labels=("a.nii.gz", "b.nii.gz", "c.nii.gz", "d.nii.gz", "alone.nii.gz"),
        description=MSD,
    )
    save(np.zeros((4, 5, 7), np.uint8), name="a.nii.gz", folder=folder / "labelsTr")
    moved = np.eye(4)
    moved[0, 3] = 0.2
    save(np.zeros((4, 5, 6), np.uint8), moved, name="b.nii.gz", folder=folder / "labelsTr")
    (folder / "imagesTr" / "c.nii.gz").write_bytes(b"damaged")
    save(np.full((4, 5, 6), 4, np.uint8), name="d.nii.gz", folder=folder / "labelsTr")
    text = "\n".join(problems(folder))
    assert "labelsTr/alone.nii.gz: has no image" in text
    assert "imagesTr/lost.nii.gz: has no label" in text
    assert "labelsTr/a.nii.gz does not lie on the grid of imagesTr/a.nii.gz: shape 4 x 5 x 6 against 4 x 5 x 7" in text
    assert "affines differ by up to 0.2 voxels" in text
    assert "imagesTr/c.nii.gz: this is not a NIfTI file" in text
    assert "labelsTr/d.nii.gz: value 4 has no name in dataset.json (known: 1 liver, 2 tumor); name it with" in text
    assert len(text.split("\n")) == 6


@pytest.mark.parametrize(("distance", "notes"), [(0.009, 0), (0.05, 1), (0.099, 1)])
def test_affines_may_differ_by_a_tenth_of_a_voxel_and_from_a_hundredth_on_that_is_said(dataset, save, distance, notes):
    folder = dataset()
    moved = np.eye(4)
    moved[0, 3] = distance
    save(np.ones((4, 5, 6), np.uint8), moved, name="a.nii.gz", folder=folder / "labelsTr")
    said = f"labelsTr/a.nii.gz: lies up to {distance:.2g} voxels off its image; it is taken voxel by voxel"
    assert find_dataset(folder).warnings == (said,) * notes


def test_a_turn_counts_where_it_moves_voxels_most(dataset, save):
    folder = dataset()
    turned = np.eye(4)
    turned[0, 1] = 0.04  # 0.16 voxels at the far corner
    save(np.ones((4, 5, 6), np.uint8), turned, name="a.nii.gz", folder=folder / "labelsTr")
    assert "0.16 voxels" in problems(folder)[0]


@pytest.mark.parametrize("values", [(-1,), (0.5,), (np.nan,)])
def test_labels_that_are_none_are_problems(dataset, save, values):
    folder = dataset()
    save(np.full((4, 5, 6), values[0], np.float32), name="b.nii.gz", folder=folder / "labelsTr")
    assert any(line.startswith("labelsTr/b.nii.gz: labels must be whole") for line in problems(folder))


def test_a_requested_value_that_no_file_has(dataset):
    assert "value 3 of kidney (found: 1, 2)" in problems(dataset(), {"liver": 1, "kidney": 3})[0]


def test_files_empty_of_foreground_are_reported_and_do_no_harm(dataset, save):
    folder = dataset(description=MSD)
    save(np.zeros((4, 5, 6), np.uint8), name="b.nii.gz", folder=folder / "labelsTr")
    assert find_dataset(folder).warnings == ("b: its label file is empty of foreground",)
    assert "every label file is empty" in problems(dataset(values=(0,)))[0]


def test_cases_of_other_numbers_of_channels(dataset, save):
    folder = dataset(images=("a.nii.gz", "b.nii.gz", "c.nii.gz"), labels=("a.nii.gz", "b.nii.gz", "c.nii.gz"))
    save(np.ones((4, 5, 6, 3), np.float32), name="b.nii.gz", folder=folder / "imagesTr")
    assert problems(folder) == ["b: its image has 3 channels, most have 1"]


def test_missing_empty_and_unusable_folders(tmp_path, dataset):
    for path, match in ((tmp_path / "none", "no such folder"), (__file__, "not a folder"), ("nul\0", "cannot be")):
        with pytest.raises(DatasetError, match=match):
            find_dataset(path)
    assert "no folder imagesTr and no folder labelsTr" in problems(tmp_path)[0]
    for room in ("imagesTr", "labelsTr"):
        (tmp_path / room).mkdir()
    assert "no image in imagesTr and no label map in labelsTr" in problems(tmp_path)[0]


def test_the_same_case_twice(dataset, save):
    folder = dataset()
    save(np.ones((4, 5, 6), np.float32), name="a.nii", folder=folder / "imagesTr")
    assert problems(folder) == ["imagesTr/a is there as .nii and as .nii.gz; keep one"]
    (folder / "imagesTr" / "a.nii").unlink()
    pair = {"image": "imagesTr/a.nii.gz", "label": "labelsTr/a.nii.gz"}
    (folder / "dataset.json").write_text(json.dumps({"training": [pair, pair]}))
    assert "two cases of the name a" in problems(folder)[0]


def test_a_missing_channel(dataset):
    lines = problems(dataset(["a_0000.nii.gz", "a_0002.nii.gz"], ["a.nii.gz"]))
    assert any("labelsTr/a.nii.gz: has no image" in line for line in lines)


def test_many_problems_are_cut(dataset):
    names = [f"{number}.nii.gz" for number in range(40)]
    lines = problems(dataset(names, ()))
    assert (len(lines), lines[-1]) == (31, "and 10 more")


@pytest.mark.skipif(not HIPPOCAMPUS.is_dir(), reason="the hippocampus dataset is not beside the project")
def test_the_hippocampus_dataset():
    found = find_dataset(HIPPOCAMPUS)
    assert (len(found.cases), found.labels.names, found.modality) == (200, ("Anterior", "Posterior"), "MRI")
    assert (found.image_channels, found.warnings) == (1, ())


def test_images_of_a_folder(tmp_path, save):
    for name in ("b.nii", "a_0000.nii.gz", "a_0001.nii.gz", "scan_2019.nii.gz", "._b.nii", "note.txt"):
        if name.endswith((".nii", ".gz")):
            save(np.ones((3, 3, 3), np.float32), name=name)
    (tmp_path / "note.txt").write_text("")
    cases = find_images(tmp_path)
    assert [(case.name, len(case.image)) for case in cases] == [("a", 2), ("b", 1), ("scan_2019", 1)]
    assert [case.name for case in find_images(tmp_path, image_channels=1)] == ["a_0000", "a_0001", "b", "scan_2019"]
    with pytest.raises(DatasetError, match=r"no image \(\.nii"):
        find_images(Path(__file__).parent)


def test_an_image_is_of_one_case_only(dataset):
    folder = dataset(["a_0000.nii.gz"], ["a.nii.gz", "a_0000.nii.gz"])
    assert problems(folder) == [
        "labelsTr/a.nii.gz: has no image of its name in imagesTr, nor one with channels from _0000 on"
    ]


def test_an_image_beside_one_that_looks_like_its_channel(tmp_path, save):
    for name in ("a.nii", "a_0000.nii.gz"):
        save(np.ones((3, 3, 3), np.float32), name=name)
    for channels in (None, 1, 2):
        assert [case.name for case in find_images(tmp_path, channels)] == ["a", "a_0000"]


def test_an_image_in_which_every_voxel_is_the_same_is_refused(save):
    with pytest.raises(FileError, match="every voxel has the value 7"):
        read_case(Case("a", (save(np.full((3, 3, 3), 7, np.float32)),)))


def test_channels_on_different_grids_are_not_stacked(save):
    paths = save(np.ones((3, 3, 3), np.float32)), save(np.ones((3, 3, 4), np.float32), name="b.nii")
    with pytest.raises(FileError, match="shape"):
        read_case(Case("a", paths))
    data = np.arange(54, dtype=np.float32).reshape(2, 3, 3, 3)
    several = save(np.moveaxis(data, 0, -1), name="c.nii")
    with pytest.raises(FileError, match="2 channels"):
        read_case(Case("a", (paths[0], several)))
    assert_array_equal(read_case(Case("a", (several,))).data, data)


def test_labels_on_the_command_line():
    assert parse_labels("spleen=1, liver=6") == {"spleen": 1, "liver": 6}
    for text in ("", "spleen", "spleen=", "=1", "spleen=x", "spleen=1.5", "a=1,a=2", "a=1,b=1", "a=0", "a=99999999999",
                 "background=0", "background=2", "a=1,", "a=-1", "a=" + "9" * 5000):  # fmt: skip
        with pytest.raises(DatasetError, match="`labels`"):
            parse_labels(text)


names = st.lists(st.text(min_size=1, max_size=4), min_size=2, max_size=40, unique=True)


@settings(max_examples=50, deadline=None)
@given(names=names, share=st.floats(0.01, 1), seed=st.integers(0, 9))
def test_a_split_leaves_no_side_empty_and_nobody_out(names, share, seed):
    training, validation = split_cases(names, share, seed)
    assert training
    assert validation
    assert sorted(training + validation) == sorted(names)
    assert split_cases(reversed(names), share, seed) == (training, validation)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), added=st.integers(0, 50))
def test_adding_a_case_moves_no_other(seed, added):
    names = [f"case_{number}" for number in range(60)]
    training, validation = split_cases(names, 0.8, seed)
    more_training, more_validation = split_cases([*names, f"new_{added}"], 0.8, seed)
    assert set(training) <= set(more_training)
    assert set(validation) <= set(more_validation)


def test_the_share_holds_in_the_mean_and_the_seed_counts():
    names = [f"case_{number}" for number in range(5000)]
    training, _ = split_cases(names)
    assert abs(len(training) / 5000 - 0.9) < 0.02
    assert split_cases(names, seed=1)[0] != training


def test_a_single_case_is_used_for_both():
    assert split_cases(["a"]) == (("a",), ("a",))
    for bad in ([], ["a", "a"]):
        with pytest.raises(ValueError, match="split"):
            split_cases(bad)


@given(
    names=st.sets(st.text("abcdef", min_size=1, max_size=3), min_size=2, max_size=12),
    seen=st.sets(st.text("abcdef", min_size=1, max_size=3)),
    held_back=st.sets(st.text("abcdef", min_size=1, max_size=3)),
    share=st.sampled_from([0.1, 0.5, 0.8, 1.0]),
    pick=st.data(),
)
def test_a_split_after_an_earlier_one_validates_on_no_case_that_was_trained_on_then(
    names, seen, held_back, share, pick
):
    seen |= pick.draw(st.sets(st.sampled_from(sorted(names))))
    held_back = (held_back | pick.draw(st.sets(st.sampled_from(sorted(names))))) - seen
    training, validation = split_cases(names, share, seen=seen, held_back=held_back)
    assert {*training, *validation} == names
    assert training
    assert validation
    assert not {*training} & {*validation}
    if names - seen:
        assert not seen & {*validation}
        assert len({*training} & held_back) <= 1
        if names - held_back:
            assert not held_back & {*training}
    else:
        assert (training, validation) == split_cases(names, share)
