"""What a dataset.json may say, and what is made of it."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deepedit.errors import DatasetError, DeepEditError
from deepedit.io.dataset_json import parse_labels
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
        {"file_ending": ".png"},
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


def listed(image, label):
    return MSD | {"training": [{"image": image, "label": label}]}


def test_paths_written_on_windows(dataset):
    folder = dataset(description=listed(r".\imagesTr\a.nii.gz", "labelsTr\\a.nii.gz"))
    assert find_dataset(folder).cases[0].image == (folder / "imagesTr/a.nii.gz",)
    for path in (r"..\a.nii.gz", r"imagesTr\..\..\a.nii.gz"):
        lines = problems(dataset(description=listed(path, "labelsTr/a.nii.gz")))
        assert "is not a path inside" in lines[0]


def test_absolute_paths_inside_of_the_folder(dataset, tmp_path):
    folder = dataset(description=MSD)
    (tmp_path / "link").symlink_to(folder)
    for root in (folder, tmp_path / "link"):
        for written in (folder, folder.resolve()):
            dataset(description=listed(f"{written}/imagesTr/a.nii.gz", f"{written}/labelsTr/../labelsTr/a.nii.gz"))
            assert find_dataset(root).cases[0].image == (root / "imagesTr/a.nii.gz",)
    lines = problems(dataset(description=listed(f"{folder}/../a.nii.gz", "labelsTr/a.nii.gz")))
    assert "is not a path inside" in lines[0]


@pytest.mark.parametrize("ending", ["nii.gz", ".nii.gz", ".NII.GZ", "nii"])
def test_a_file_ending_with_or_without_its_dot(dataset, ending):
    assert len(find_dataset(dataset(description=MSD | {"file_ending": ending})).cases) == 2


@pytest.mark.parametrize("key", ["modality", "channel_names"])
def test_a_message_about_the_channels_calls_them_as_the_file_does(dataset, key):
    assert f"dataset.json: {key} should name each channel" in problems(dataset(description={key: [3]}))[0]


COMPOSED, DECOMPOSED = "Sch\u00e4del", "Scha\u0308del"


def test_names_are_compared_composed(dataset, save):
    folder = dataset((f"{COMPOSED}.nii.gz",), (f"{DECOMPOSED}.nii.gz",))
    assert [case.name for case in find_dataset(folder).cases] == [COMPOSED]
    paths = f"imagesTr/{DECOMPOSED}.nii.gz", f"labelsTr/{COMPOSED}.nii.gz"
    (folder / "dataset.json").write_text(json.dumps(listed(*paths)))
    assert find_dataset(folder).cases[0].image[0].name == f"{COMPOSED}.nii.gz"
    (folder / "dataset.json").write_text(json.dumps({"labels": {DECOMPOSED: 1, "tumor": 2}}))
    labels = find_dataset(folder).labels
    assert labels.names == (COMPOSED, "tumor")
    assert labels.index(DECOMPOSED) == 1
    assert find_dataset(folder, parse_labels(f"{DECOMPOSED}=1")).labels.names == (COMPOSED,)


@pytest.mark.parametrize("labels", [{"liver": 1, "ignore": 2}, {"0": "background", "1": "liver", "2": "ignore"}])
def test_a_value_to_ignore_is_no_label(dataset, labels):
    found = find_dataset(dataset(description={"labels": labels}))
    assert (found.labels.names, found.ignore) == (("liver",), 2)
    assert find_dataset(dataset(description={"labels": labels}), {"tumor": 2}).ignore is None
    assert find_dataset(dataset(description={"labels": labels}), {"organ": 1}).ignore == 2
    assert find_dataset(dataset(description={}), {"organ": 1, "ignore": 2}).ignore == 2


def test_files_that_hold_nothing_but_what_is_to_be_ignored_are_empty(dataset):
    folder = dataset(values=(2,), description={"labels": {"liver": 1, "ignore": 2}})
    assert "every label file is empty of foreground" in problems(folder)[0]


def test_a_region_of_one_value_is_a_label(dataset):
    found = find_dataset(dataset(description={"labels": {"background": 0, "liver": [1], "tumor": 2}}))
    assert (found.labels.names, found.labels.values) == (("liver", "tumor"), (1, 2))


def test_regions_get_the_option_that_names_their_values(dataset):
    labels = {"background": 0, "whole": [1, 2], "tumor core": [2], "ignore": 3}
    line = problems(dataset(description={"labels": labels}))[0]
    assert line.endswith("name the values instead: `labels` 'label_1=1,tumor core=2,ignore=3'")
    hostile = {"a": [[1], None, {}, 10**400, "x", -1, 2.5], "b": [1, True]}
    assert "a, b are regions of several values" in problems(dataset(description={"labels": hostile}))[0]
