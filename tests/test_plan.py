"""Labels by name, by class index and by file value; the plan in and out of a dictionary."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepedit.errors import ClickError, ModelError
from deepedit.plan import Intensity, Labels, Plan
from deepedit.volume import Reading

VALUES = st.lists(st.integers(1, 70000), min_size=1, max_size=8, unique=True).map(sorted)


@given(values=VALUES, seed=st.integers(0, 2**32 - 1))
def test_values_come_back_from_classes(values, seed):
    labels = Labels(tuple(f"label_{value}" for value in values), tuple(values))
    rng = np.random.default_rng(seed)
    volume = rng.choice([0, *values], size=(3, 4, 5))
    classes = labels.to_classes(volume)
    assert classes.max() <= len(values)
    assert np.array_equal(labels.to_values(classes), volume)
    assert labels.to_values(classes).dtype == np.min_scalar_type(values[-1])


@given(values=VALUES, other=st.integers(-5, 70005))
def test_a_value_of_no_label_is_background(values, other):
    labels = Labels(tuple(map(str, values)), tuple(values))
    expected = values.index(other) + 1 if other in values else 0
    assert labels.to_classes(np.array([other]))[0] == expected


def test_labels_are_ordered_by_value_and_the_background_is_class_zero():
    labels = Labels.from_mapping({"liver": 6, "spleen": 1, "background": 0, "kidney": 3})
    assert labels.names == ("spleen", "kidney", "liver")
    assert labels.values == (1, 3, 6)
    assert [labels.index(name) for name in ("background", "spleen", "kidney", "liver")] == [0, 1, 2, 3]
    assert labels.num_classes == 4


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(ClickError, match="did you mean spleen"):
        Labels(("liver", "spleen"), (1, 2)).index("splen")


@pytest.mark.parametrize("name", [1, None, ("spleen",)])
def test_what_is_no_name_is_refused(name):
    with pytest.raises(ClickError, match="is not a name; give one of background, spleen"):
        Labels(("spleen",), (1,)).index(name)


@pytest.mark.parametrize(
    ("names", "values"),
    [((), ()), (("a",), (1, 2)), (("a", "b"), (2, 1)), (("a", "a"), (1, 2)), (("a",), (0,)), (("background",), (1,))],
)
def test_labels_that_cannot_be_told_apart_are_refused(names, values):
    with pytest.raises(ValueError, match="label"):
        Labels(names, values)


def test_a_plan_comes_back_from_its_dictionary():
    plan = Plan(Labels(("a", "b"), (1, 5)), (1.0, 1.5, 3.0), (64, 48, 32), Intensity("percentile", 1, 99), 2, 1.5)
    assert Plan.from_dict(plan.to_dict()) == plan


@pytest.mark.parametrize("key", ["labels", "spacing", "patch_size", "intensity"])
@pytest.mark.parametrize("damage", [None, 1, "x", {"mode": "other"}])
def test_a_damaged_plan_is_an_error_of_the_package(key, damage):
    entries = Plan(Labels(("a",), (1,)), (1.0, 1.0, 1.0), (8, 8, 8)).to_dict()
    with pytest.raises(ModelError, match="plan"):
        Plan.from_dict({**entries, key: damage})


@pytest.mark.parametrize(
    "harm",
    [
        {"labels": {"names": ["a\nb"], "values": [1]}},
        {"labels": {"names": [["a"]], "values": [1]}},
        {"labels": {"names": ["a"], "values": [2**31]}},
        {"labels": {"names": ["a"], "values": [1.0]}},
        {"spacing": [float("nan"), 1, 1]},
        {"spacing": [0, 1, 1]},
        {"spacing": [1e300, 1, 1]},
        {"spacing": [1, 1]},
        {"patch_size": [0, 8, 8]},
        {"patch_size": [float("inf"), 8, 8]},
        {"fixed_shape": [8, 8]},
        {"intensity": {"mode": "window", "lower": "a", "upper": "b"}},
        {"intensity": {"mode": "window", "lower": 0.0, "upper": float("inf")}},
        {"sigma": "wide"},
        {"sigma": -1.0},
        {"image_channels": 0},
        {"image_channels": 1.0},
        {"previous": None},
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(harm):
    with pytest.raises(ModelError, match="plan") as caught:
        Plan.from_dict({**Plan(Labels(("a",), (1,)), (1.0, 1.0, 1.0), (8, 8, 8)).to_dict(), **harm})
    assert str(caught.value).isprintable()


def test_unknown_and_missing_entries_are_errors_too():
    entries = Plan(Labels(("a",), (1,)), (1.0, 1.0, 1.0), (8, 8, 8)).to_dict()
    with pytest.raises(ModelError):
        Plan.from_dict({**entries, "colour": "blue"})
    with pytest.raises(ModelError):
        Plan.from_dict({key: value for key, value in entries.items() if key != "labels"})


def test_a_plan_of_an_imported_model_comes_back_and_one_from_before_there_were_any_is_read():
    plan = Plan(Labels(("a",), (1,)), (1.0, 1.0, 1.0), (8, 8, 8))
    entries = plan.to_dict()
    for name in ("fixed_shape", "guidance", "previous"):
        del entries[name]
    assert Plan.from_dict(entries) == plan
    imported = replace(plan, fixed_shape=(8, 8, 8), guidance="sum-normalized", previous=False)
    assert Plan.from_dict({**imported.to_dict(), "fixed_shape": [8, 8, 8]}) == imported


@pytest.mark.parametrize("harm", [{"fixed_shape": 3}, {"fixed_shape": ["x"]}, {"guidance": "sum"}])
def test_damage_to_what_an_imported_model_adds_is_an_error_too(harm):
    with pytest.raises(ModelError, match="plan"):
        Plan.from_dict({**Plan(Labels(("a",), (1,)), (1.0, 1.0, 1.0), (8, 8, 8)).to_dict(), **harm})


def test_plans_of_models_from_before_a_choice_of_affine_mean_what_they_meant():
    plan = Plan(Labels(("a",), (1,)), (1.0, 1.5, 3.0), (64, 48, 32))
    entries = plan.to_dict()
    del entries["reading"], entries["ignore"]
    assert Plan.from_dict(entries) == plan
    assert (plan.reading.affine, plan.reading.units, plan.ignore) == ("sform", "header", None)


def test_what_is_believed_of_headers_and_ignored_comes_back():
    plan = Plan(Labels(("a",), (1,)), (1.0,) * 3, (8,) * 3, reading=Reading("qform", "mm"), ignore=4)
    assert Plan.from_dict(plan.to_dict()) == plan


@pytest.mark.parametrize(
    "damage",
    [{"reading": {"affine": "best"}}, {"reading": {"units": 3}}, {"reading": 3}, {"ignore": 1}, {"ignore": "4"}],
)
def test_a_damaged_reading_or_value_to_ignore_is_refused(damage):
    entries = Plan(Labels(("a",), (1,)), (1.0,) * 3, (8,) * 3).to_dict()
    with pytest.raises(ModelError, match="damaged"):
        Plan.from_dict({**entries, **damage})


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16, ">i2", np.int32, np.float32])
def test_classes_of_large_maps_are_those_of_their_values_one_by_one(dtype):
    labels = Labels(("a", "b", "c", "d"), (2, 5, 127, 40000))
    values = np.random.default_rng(0).choice([0, 2, 3, 5, 127], (50, 60, 40)).astype(dtype)
    if np.dtype(dtype).itemsize > 1:
        values[0] = -3 if np.dtype(dtype).kind in "if" else 40000
    expected = [(0, *labels.values).index(value) if value in labels.values else 0 for value in values.ravel().tolist()]
    np.testing.assert_array_equal(labels.to_classes(values).ravel(), expected)
    np.testing.assert_array_equal(
        labels.to_classes(values[:, ::2].T).ravel(order="F"), labels.to_classes(values)[:, ::2].ravel()
    )
