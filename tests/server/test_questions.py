"""What viewers send is understood, or refused in one sentence."""

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepedit.errors import ClickError, DeepEditError
from deepedit.plan import Labels
from deepedit.server.questions import (
    STARTS,
    chosen_start,
    clicks_by_label,
    read_params,
    unreachable_labels,
    wants_tta,
)

LABELS = Labels(("liver", "spleen"), (1, 6))
ONE = Labels(("spleen",), (6,))


def test_clicks_come_by_label_and_the_chosen_label_is_the_newest():
    params = {"spleen": [[10, 21, 0], [5, 6, 7]], "liver": [], "background": [[1, 1, 1]], "label": "spleen"}
    clicks, newest = clicks_by_label(params | {"tta": False, "reset_state": True, "client_id": "user-xyz"}, LABELS)
    assert clicks == {"spleen": [(10, 21, 0), (5, 6, 7)], "background": [(1, 1, 1)]}
    assert newest == "spleen"


def test_a_viewer_that_knows_one_label_only_sends_a_foreground():
    params = {"foreground": [[1, 2, 3]], "background": [[0, 0, 0]]}
    assert clicks_by_label(params, ONE) == ({"spleen": [(1, 2, 3)], "background": [(0, 0, 0)]}, None)
    assert clicks_by_label(params | {"label": "liver"}, LABELS)[0]["liver"] == [(1, 2, 3)]
    with pytest.raises(ClickError, match="liver, spleen"):
        clicks_by_label(params, LABELS)


def test_a_label_that_was_made_in_the_viewer_is_named():
    with pytest.raises(ClickError, match="'tumour' is not one of background, liver, spleen"):
        clicks_by_label({"label": "tumour"}, LABELS)


def test_clicks_for_a_label_that_there_is_not_are_no_automatic_result():
    with pytest.raises(ClickError, match="'Spleen' is not one of background, liver, spleen; did you mean spleen"):
        clicks_by_label({"Spleen": [[1, 2, 3]]}, LABELS)
    assert clicks_by_label({"Spleen": [], "largest_cc": True, "sizes": [96, 96, 96]}, LABELS) == ({}, None)


def test_a_name_may_be_composed_in_another_way():
    composed, taken_apart = "l\u00e9sion", "le\u0301sion"
    clicks, _ = clicks_by_label({taken_apart: [[1, 2, 3]]}, Labels((composed,), (1,)))
    assert clicks == {composed: [(1, 2, 3)]}


@pytest.mark.parametrize(
    "clicks",
    [
        [[1, 2]],
        [1, 2, 3],
        "x",
        {"a": 1},
        [[1, 2, "3"]],
        [[1.5, 2, 3]],
        [[True, 2, 3]],
        [[1e300, 0, 0]],
        [[1, 2, 2**40]],
    ],
)
def test_what_is_no_voxel_is_refused(clicks):
    with pytest.raises(ClickError, match="spleen"):
        clicks_by_label({"spleen": clicks}, LABELS)


def test_whole_numbers_may_come_with_a_point():
    assert clicks_by_label({"spleen": [[1.0, 2.0, 3.0]]}, LABELS)[0] == {"spleen": [(1, 2, 3)]}


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
)
keys = st.sampled_from(["spleen", "liver", "background", "foreground", "label", "tta", "start_from", "other"])


@settings(deadline=None)
@given(params=st.dictionaries(keys, json_values, max_size=8))
def test_whatever_comes_is_read_or_refused(params):
    params = read_params(json.dumps(params))
    for read in (lambda given: clicks_by_label(given, LABELS), chosen_start, wants_tta):
        with contextlib.suppress(DeepEditError):
            read(params)


@pytest.mark.parametrize("text", ["[1]", "{", "x", "null", '"a"', "[" * 100_000, 7])
def test_parameters_are_an_object(text):
    with pytest.raises(DeepEditError, match="no JSON object"):
        read_params(text)


def test_without_parameters_there_are_none():
    assert read_params(None) == read_params("") == {}


def test_options_are_read_as_option_tables_send_them():
    assert chosen_start({}) == chosen_start({"start_from": None}) == "automatic"
    assert [chosen_start({"start_from": each}) for each in STARTS] == list(STARTS)
    assert [wants_tta({"tta": value}) for value in (True, "true", 1, False, "", "False", 0)] == [True] * 3 + [False] * 4


def test_labels_that_viewers_cannot_click_are_known():
    assert unreachable_labels(Labels(("label", "spleen", "tta"), (1, 2, 3))) == ["label", "tta"]
