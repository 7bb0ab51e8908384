"""What README and the pages of docs say is still so: links, options, and the list of public names."""

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import deepedit
from deepedit_cli import evaluate, infer, serve, train
from tests.docs.pages import PAGES, ROOT, blocks

README = ROOT / "README.md"
PARSERS = {
    "deepedit-train": train.command_line,
    "deepedit-infer": infer.command_line,
    "deepedit-evaluate": evaluate.command_line,
    "deepedit-serve": serve.command_line,
}


def called(page, first):
    """The arguments of the commands of a page that begin so, wherever the program lies."""
    for block in blocks(page, "bash"):
        yield from (words[1:] for words in block.commands if Path(words[0]).name == first)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_all_links_within_the_project_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_python_are_in_blocks_that_tests_run(page):
    fences = re.findall(r"^ *```(.*)$", page.read_text(encoding="utf-8"), flags=re.M)
    assert {*fences[::2]} <= {"bash", "python", "json", ""}
    assert {*fences[1::2]} <= {""}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_of_the_package_take_the_options_that_they_are_shown_with(page):
    for program, parser in PARSERS.items():
        for words in called(page, program):
            parser().parse_args(words)
    for words in called(page, "torchrun"):
        module = words.index("-m")
        program = words[module + 1].replace("deepedit_cli.", "deepedit-")
        if "..." not in words:
            PARSERS[program]().parse_args(words[module + 2 :])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_modules_that_are_run_are_there_and_have_the_options_that_they_are_shown_with(page):
    for words in [*called(page, "python"), *called(page, "python3")]:
        if words[0] != "-m" or words[1].partition(".")[0] not in ("benchmarks", "tests"):
            continue
        spec = find_spec(words[1])
        folder = spec.submodule_search_locations
        files = Path(folder[0]).glob("*.py") if folder else [Path(spec.origin)]
        code = "\n".join(file.read_text(encoding="utf-8") for file in files)
        for option in (word for word in words[2:] if word.startswith("--")):
            assert f'"{option}"' in code, (words[1], option)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_extras_that_are_named_are_there(page):
    there = re.findall(r'^        "([a-z]+)": ', (ROOT / "setup.py").read_text(encoding="utf-8"), flags=re.M)
    for extras in re.findall(r"(?:deepedit|\.)\[([a-z,]+)\]", page.read_text(encoding="utf-8")):
        assert {*extras.split(",")} <= {*there}


def test_readme_is_short():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 130


def test_the_site_shows_every_page_and_the_reference_every_public_name():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for page in (ROOT / "docs").glob("*.md"):
        assert f": {page.name}\n" in navigation
    reference = re.findall(r"^::: (.+)$", (ROOT / "docs" / "reference.md").read_text(encoding="utf-8"), flags=re.M)
    assert sorted(name.rpartition(".")[2] for name in reference) == sorted(deepedit.__all__)


def test_the_site_is_built_without_a_warning(tmp_path):
    if find_spec("mkdocs") is None or find_spec("mkdocstrings") is None:
        pytest.skip("MkDocs is not installed; pip install 'deepedit[docs]' brings it")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path / "site"]
    ended = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    for name in deepedit.__all__:
        assert f'.{name}"' in (tmp_path / "site" / "reference" / "index.html").read_text(encoding="utf-8")
