"""What surrounds the code agrees with it: citation, changelog, layout, continuous integration."""

import re
from pathlib import Path

import deepedit

ROOT = Path(__file__).resolve().parents[1]


def text(name):
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_version_to_cite_is_that_of_the_package():
    assert re.findall(r"^version: (.*)$", text("CITATION.cff"), flags=re.MULTILINE) == [deepedit.__version__]


def test_the_changelog_begins_with_what_is_not_released():
    headings = re.findall(r"^## (.*)$", text("CHANGELOG.md"), flags=re.MULTILINE)
    assert headings[0] == "Unreleased"
    assert all(re.fullmatch(r"\d+\.\d+\.\d+ - \d{4}-\d{2}-\d{2}", heading) for heading in headings[1:])


def test_the_layout_that_contributors_are_shown_is_there():
    (layout,) = re.findall(r"## Layout\n\n```\n(.*?)```", text("CONTRIBUTING.md"), flags=re.DOTALL)
    named = re.findall(r"^( *)([a-z]+)/ ", layout, flags=re.MULTILINE)
    assert len(named) > 10
    for indent, folder in named:
        assert (ROOT / ("deepedit" if indent else "") / folder).is_dir(), folder
    packages = {path.parent.name for path in (ROOT / "deepedit").glob("*/__init__.py")}
    assert packages <= {folder for indent, folder in named if indent}


def test_the_workflow_covers_all_versions_of_python_that_are_allowed():
    (lowest,) = re.findall(r'python_requires=">=3\.(\d+)"', text("setup.py"))
    tried = {int(minor) for minor in re.findall(r'"3\.(\d+)"', text(".github/workflows/tests.yml"))}
    assert tried == set(range(int(lowest), 14))
