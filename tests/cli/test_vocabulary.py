"""The commands speak one language: the same option means the same in each, and stands in the same place."""

import argparse
import re
from itertools import combinations

import pytest

from deepedit_cli import evaluate, infer, options, serve, train

COMMANDS = {each.PROGRAM: each.command_line for each in (train, infer, evaluate, serve)}
GROUPS = (
    *("input and output", "DICOM store", "address and access", "reading of images", "preparation of images", "cases"),
    *("clicks", "initial segmentation", "training", "measures", "speed and memory", "import and export of models"),
)
KINDS = {
    *("FILE", "FOLDER", "FILE|FOLDER", "NAME", "URL", "UID"),
    *("N", "N,...", "SHARE", "RATE", "MINUTES", "GIB", "MM", "VOXELS", "LOW", "HIGH", "LOW,HIGH"),
    *("LABEL:I,J,K", "VALUE=LABEL", "NAME=VALUE,...", "|".join(("torchscript", "monai"))),
}
DIFFERENT = {
    "--input": "what is read: a dataset or a model, images, a dataset",
    "--output": "what is written: a run or an exported model, segmentations, a report",
    "--model": "the server takes several",
    "--studies": "the server reads and writes them, training only reads them",
    "--initial-segmentation": "one or a folder of them; an evaluation is always over a folder",
    "--affine": "training may have no model whose choice is the default",
    "--units": "likewise",
    "--limit": "of the cases to train on, or of those to evaluate on",
    "--max-clicks": "at most in a sample, or in each case",
    "--seed": "of all of a run, or of the errors that are added; None tells a resumed run that nothing is asked for",
    "--amp": "None tells a resumed run that nothing is asked for",
}
"""Why an option is not the same in all commands that have it."""


def actions(parser):
    return [each for each in parser._actions if not isinstance(each, argparse._HelpAction)]


def text(parser, action):
    """The help of an option, as it is shown."""
    return parser._get_formatter()._expand_help(action)


def described(command):
    """By its name, all that makes an option what it is."""
    parser = COMMANDS[command]()
    return {
        action.option_strings[0]: (
            action.metavar,
            text(parser, action),
            action.type,
            action.default,
            action.required,
            action.choices,
            type(action),
        )
        for action in actions(parser)
    }


@pytest.mark.parametrize(("one", "other"), list(combinations(COMMANDS, 2)))
def test_an_option_is_the_same_in_every_command(one, other):
    here, there = described(one), described(other)
    differing = {name for name in here.keys() & there.keys() if here[name] != there[name]}
    assert differing <= DIFFERENT.keys()


def test_what_is_said_to_differ_does():
    for name in DIFFERENT:
        assert len({repr(described(each)[name]) for each in COMMANDS if name in described(each)}) > 1, name


@pytest.mark.parametrize("name", options.SHARED)
def test_what_is_shared_is_in_several_commands(name):
    assert sum(name in described(each) for each in COMMANDS) > 1


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_has_one_name_and_a_help_that_tells_its_default(command):
    parser = COMMANDS[command]()
    for action in actions(parser):
        (name,) = action.option_strings
        assert re.fullmatch("--[a-z]+(-[a-z]+)*", name)
        told = text(parser, action)
        assert told, name
        assert not told.endswith("."), name
        if action.default not in (None, False, [], argparse.SUPPRESS):
            default = action.default
            shown = f"{default:g}" if isinstance(default, float) else str(default)
            assert re.search(rf"\(default: {re.escape(shown)}[,)]", told), name


@pytest.mark.parametrize("command", COMMANDS)
def test_a_value_is_shown_by_its_kind_or_its_unit(command):
    for action in actions(COMMANDS[command]()):
        if action.nargs != 0 and action.choices is None:
            shown = action.metavar if isinstance(action.metavar, tuple) else (action.metavar,)
            assert set(shown) <= KINDS, action.option_strings


@pytest.mark.parametrize("command", COMMANDS)
def test_options_stand_in_groups_in_one_order(command):
    _, general, *groups = COMMANDS[command]()._action_groups
    assert [each.option_strings[-1] for each in general._group_actions] == ["--help", "--version"]
    places = [GROUPS.index(group.title) for group in groups]
    assert places == sorted(set(places))
    assert all(group._group_actions for group in groups)


@pytest.mark.parametrize(("one", "other"), list(combinations(COMMANDS, 2)))
def test_options_stand_in_one_order(one, other):
    here, there = (
        [action.option_strings[0] for group in COMMANDS[each]()._action_groups for action in group._group_actions]
        for each in (one, other)
    )
    both = set(here) & set(there)
    assert [each for each in here if each in both] == [each for each in there if each in both]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_fits_80_columns_and_begins_with_what_has_to_be_given(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    parser = COMMANDS[command]()
    usage = parser.format_usage()
    assert max(map(len, parser.format_help().splitlines())) <= 80
    for action in actions(parser):
        needed = action.required or any(
            action in group._group_actions for group in parser._mutually_exclusive_groups if group.required
        )
        assert (re.search(rf"{action.option_strings[0]}(?![a-z-])", usage) is not None) == needed
