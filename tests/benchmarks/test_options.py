"""The benchmarks speak one language, which is that of the commands."""

import argparse
import re
from importlib import import_module
from itertools import combinations
from pathlib import Path

import pytest

import benchmarks
from benchmarks.options import SHARED
from tests.cli.test_vocabulary import COMMANDS, KINDS, actions, text

FOLDER = Path(benchmarks.__file__).parent
MODULES = sorted(
    ".".join(("benchmarks", *path.relative_to(FOLDER).with_suffix("").parts))
    for path in FOLDER.rglob("*.py")
    if "= parser(__doc__" in path.read_text(encoding="utf-8")
)
DIFFERENT = {
    "--clicks": "how many are timed; a file of those to give",
    "--cases": "how many phantoms; which cases of a dataset",
    "--labels": "numbers of labels to try; names and values of those to train on",
    "--repeats": "what is repeated, and how often",
    "--steps": "how many",
    "--device": "one is timed on the CPU unless asked otherwise, and one takes no number of a GPU",
    "--model": "one or several, and where there may be none, what happens then",
    "--input": "where there may be none, what happens then; a command may also read images or a model",
    "--output": "what is written",
    "--max-clicks": "how many",
    "--seed": "of what",
    "--large": "what it takes",
    "--split": "None tells a resumed run that nothing is asked for",
    "--network": "likewise",
    "--batch-size": "likewise",
    "--patch-size": "what it is fitted to",
    "--corrupt": "read by another function",
    "--slices": "of one series, or of several volumes",
    "--quick": "what is left out",
    "--size": "of a slice, or of a volume",
    "--side": "of a slice, or of a volume",
}
"""Why an option is not the same wherever it is."""


class Found(Exception):
    """Carries the parser of a benchmark."""


@pytest.fixture(scope="module")
def parsers():
    def caught(parser, *arguments, **more):
        raise Found(parser)

    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", caught)
        for name in MODULES:
            try:
                module = import_module(name)
            except ImportError:  # needs what is not installed, such as a browser's driver
                continue
            with pytest.raises(Found) as ended:
                module.main()
            found[name] = ended.value.args[0]
    assert len(found) > len(MODULES) / 2
    return found


def visible(parser):
    return [each for each in actions(parser) if each.help is not argparse.SUPPRESS]


def test_all_benchmarks_with_options_are_looked_at():
    written = [path for path in FOLDER.rglob("*.py") if "add_argument(" in path.read_text(encoding="utf-8")]
    assert len(MODULES) >= len(written) - 2  # the shared options themselves, and a part of benchmarks.gpu


def test_every_option_has_a_help_that_tells_its_default_and_shows_a_kind_or_a_unit(parsers):
    for name, parser in parsers.items():
        for action in visible(parser):
            where = (name, action.option_strings)
            assert action.help, where
            if action.nargs != 0 and action.choices is None:
                assert action.metavar in KINDS | {"NAME=VALUE", "SECONDS"}, where
            default = action.default
            if default not in (None, False, []) and len(default if isinstance(default, list) else []) < 7:
                parts = default if isinstance(default, list) else [default]
                shown = " ".join(f"{each:g}" if isinstance(each, float) else str(each) for each in parts)
                assert f"(default: {shown})" in text(parser, action), where


def test_an_option_is_the_same_in_every_benchmark_and_command(parsers):
    described = [
        {
            action.option_strings[0]: (action.metavar, text(parser, action), action.type, action.default)
            for action in visible(parser)
        }
        for parser in (*parsers.values(), *(made() for made in COMMANDS.values()))
    ]
    # Those of two commands are compared in tests.cli.test_vocabulary.
    pairs = [pair for pair in combinations(range(len(described)), 2) if pair[0] < len(parsers)]
    differing = {
        name
        for one, other in pairs
        for name in described[one].keys() & described[other].keys()
        if described[one][name] != described[other][name]
    }
    assert differing <= DIFFERENT.keys()


@pytest.mark.parametrize("name", SHARED)
def test_what_is_shared_is_in_several_benchmarks(name, parsers):
    assert sum(name in parser._option_string_actions for parser in parsers.values()) > 1


def test_names_are_whole_words(parsers):
    for parser in parsers.values():
        for action in visible(parser):
            (name,) = action.option_strings
            assert re.fullmatch("--[a-z]+(-[a-z]+)*", name)
