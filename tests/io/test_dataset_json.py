"""What a dataset.json may say, and what is made of it."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deepedit.errors import DatasetError, DeepEditError
from deepedit.io.msd import find_dataset, read_case
from tests.io.conftest import MSD, problems


def test_the_decathlons_description(dataset):
    training = [{"image": f"./imagesTr/{n}.nii.gz", "label": f"./labelsTr/{n}.nii.gz"} for n in "ba"]
    found = find_dataset(dataset(description=MSD | {"training": training, "numTraining": 2}))
    assert [case.name for case in found.cases] == ["a", "b"]
    assert (found.labels.names, found.modality) == (("liver", "tumor"), "CT")


def test_nnunets_description_and_channels(dataset):
    files = [f"{case}_{channel:04d}.nii.gz" for case in ("a", "b_0001") for channel in range(2)]
    description = {
        "channel_names": {"0": "FLAIR", "1": "T1w"},
        "labels": {"background": 0, "liver": 1, "tumor": 2},
        "numTraining": 2,
        "file_ending": ".nii.gz",
    }
    found = find_dataset(dataset(files, ("a.nii.gz", "b_0001.nii.gz"), description=description))
    assert [[path.name for path in case.image] for case in found.cases] == [files[:2], files[2:]]
    assert (found.labels.names, found.modality, found.image_channels) == (("liver", "tumor"), "FLAIR,T1w", 2)
    assert read_case(found.cases[0]).data.shape == (2, 4, 5, 6)


def test_older_nnunet_lists_cases_and_stores_channels(dataset):
    training = [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}]
    found = find_dataset(dataset(["a_0000.nii.gz"], ["a.nii.gz"], description=MSD | {"training": training}))
    assert found.cases[0].image[0].name == "a_0000.nii.gz"


def test_newer_nnunet_lists_files_by_case(dataset):
    listed = {"a": {"images": ["imagesTr/a.nii.gz"], "label": "labelsTr/a.nii.gz"}}
    found = find_dataset(dataset(description=MSD | {"dataset": listed}))
    assert [case.name for case in found.cases] == ["a"]
    assert "b.nii.gz" in found.warnings[0]


@pytest.mark.parametrize("path", ["../../etc/passwd", "/etc/passwd", "imagesTr/../../a.nii.gz", ".", "a\nb"])
def test_listed_paths_stay_inside_of_the_folder(dataset, path):
    lines = problems(dataset(description=MSD | {"training": [{"image": path, "label": "labelsTr/a.nii.gz"}]}))
    assert "is not a path inside" in lines[0]


def test_listed_files_that_are_not_there(dataset):
    listed = {"training": [{"image": "imagesTr/z.nii.gz", "label": "labelsTr/z.nii.gz"}]}
    assert problems(dataset(description=listed)) == [
        "imagesTr/z.nii.gz: no such file; check the path",
        "labelsTr/z.nii.gz: no such file; check the path",
    ]


@pytest.mark.parametrize(
    ("labels", "match"),
    [
        ([1, 2], "labels should be an object"),
        ({"0": "background"}, "nothing but the background"),
        ({"1": ""}, "not a short text"),
        ({"1": "a\nb"}, "not a short text"),
        ({"1": "a", "2": "a"}, "twice"),
        ({"a": 1, "b": 1}, "twice"),
        ({"1": "background"}, "background"),
        ({"liver": -1}, "between"),
        ({"liver": 10**400}, "between"),
        ({"liver": 1e308}, "between"),
        ({"liver": 1.5}, "whole number"),
        ({"liver": True}, "whole number"),
        ({"liver": None}, "whole number"),
        ({"whole": [1, 2]}, "region"),
        ({"ignore": 3}, "nothing but the background"),
        ({"1": {"a": "b"}}, "whole number"),
    ],
)
def test_labels_in_the_description_that_make_no_sense(dataset, labels, match):
    folder = dataset(description={"labels": labels})
    assert match in "\n".join(problems(folder))
    assert find_dataset(folder, labels={"liver": 1}).labels.names == ("liver",)


def test_a_description_of_a_hundred_thousand_labels_takes_no_time(dataset):
    folder = dataset(description={"labels": {str(value): f"label_{value}" for value in range(1, 100_001)}})
    assert "dataset.json: names 100000 labels; at most 1000 are supported" in problems(folder)


@pytest.mark.parametrize(
    "description",
    [
        {"training": 3},
        {"training": [3]},
        {"training": [{"image": 3, "label": "a"}]},
        {"training": [{"image": "imagesTr/a.nii.gz"}]},
        {"modality": {"0": 3}},
        {"modality": 3.5},
        {"file_ending": ".nrrd"},
        {"file_ending": ["x"]},
    ],
)
def test_entries_of_wrong_types_are_problems(dataset, description):
    assert problems(dataset(description=description))[0].startswith("dataset.json: ")


def test_a_description_that_is_not_json(dataset):
    for text in ("{", "[" * 100_000, '{"labels": NaN}'):
        with pytest.raises(DatasetError, match=r"dataset\.json"):
            find_dataset(dataset(description=text))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda child: st.lists(child, max_size=3) | st.dictionaries(st.text(max_size=5), child, max_size=3),
    max_leaves=8,
)
PATH = st.sampled_from(["imagesTr/a.nii.gz", "labelsTr/a.nii.gz", "..", "/", "imagesTr", "", "a" * 300, "x/y/z"]) | JSON


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    description=st.fixed_dictionaries(
        {},
        optional={
            "labels": JSON | st.dictionaries(st.sampled_from(["0", "1", "2", "a", "liver"]), JSON, max_size=4),
            "modality": JSON,
            "channel_names": JSON,
            "training": JSON | st.lists(st.fixed_dictionaries({"image": PATH, "label": PATH}), max_size=3),
            "dataset": JSON,
            "numTraining": JSON,
            "file_ending": JSON,
        },
    )
)
def test_any_description_is_a_dataset_or_a_deepedit_error(tmp_path, dataset, description):
    folder = tmp_path / "data"
    if not folder.exists():
        dataset(("a.nii.gz",), ("a.nii.gz",))
    (folder / "dataset.json").write_text(json.dumps(description))
    message = ""
    try:
        assert find_dataset(folder).cases
    except DeepEditError as error:
        message = str(error)
    assert all(line.isprintable() for line in message.split("\n"))
