import ast
import errno
import re
from pathlib import Path

import pytest

import deepedit
from deepedit.errors import DeepEditError, FileError
from deepedit_cli import common, infer, options, train


def failing(error):
    def body(argv):
        raise error

    return body


@pytest.mark.parametrize(("status", "expected"), [(None, 0), (0, 0), (3, 3)])
def test_the_status_is_the_bodys(status, expected):
    assert common.run("deepedit-x", lambda argv: status) == expected


def test_arguments_reach_the_body():
    seen = []
    common.run("deepedit-x", lambda argv: seen.append(argv), ["--a"])
    assert seen == [["--a"]]


def test_what_the_user_can_mend_is_one_line_and_status_2(capsys):
    assert common.run("deepedit-x", failing(FileError("a.nii: no such file; check the path"))) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", "deepedit-x: a.nii: no such file; check the path\n")


def test_an_interrupt_ends_quietly_with_status_130(capsys):
    assert common.run("deepedit-x", failing(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "deepedit-x: interrupted\n"


@pytest.mark.parametrize("error", [ZeroDivisionError(), OSError("no file is named"), FileNotFoundError(2, "gone", "a")])
def test_a_bug_keeps_its_traceback(error):
    with pytest.raises(type(error)):
        common.run("deepedit-x", failing(error))


def test_a_path_that_may_not_be_looked_into_is_one_line(capsys):
    assert common.run("deepedit-x", failing(PermissionError(errno.EACCES, "Permission denied", "/other/a.nii"))) == 2
    assert capsys.readouterr().err == "deepedit-x: /other/a.nii: may not be looked into; choose another path\n"


def test_a_reader_that_has_left_ends_quietly(monkeypatch, capsys):
    closed = []
    monkeypatch.setattr(common.os, "dup2", lambda *ends: closed.append(ends))
    monkeypatch.setattr(common.sys.stdout, "fileno", lambda: 1, raising=False)
    assert common.run("deepedit-x", failing(BrokenPipeError(errno.EPIPE, "Broken pipe"))) == 1
    assert len(closed) == 1
    assert capsys.readouterr().err == ""


def test_wrong_arguments_are_one_line_too(capsys):
    def body(argv):
        made = common.parser("deepedit-x", "Does x.")
        made.add_argument("--epochs", type=options.positive_int)
        made.parse_args(argv)

    for argv in (["--epochs", "0"], ["--epoch", "3"], ["--epochs"], ["more"]):
        assert common.run("deepedit-x", body, argv) == 2
        err = capsys.readouterr().err
        assert err.startswith("deepedit-x: ")
        assert err.endswith("see deepedit-x --help\n")
        assert err.count("\n") == 1


def test_parameters_in_messages_of_the_library_become_options(capsys):
    message = "`patch_size` 8,8,8: too small; name a folder with `cache`, or rename the label `ls`"
    assert common.run("deepedit-x", failing(FileError(message))) == 2
    common.say(message)
    expected = "--patch-size 8,8,8: too small; name a folder with --cache-dir, or rename the label `ls`\n"
    assert capsys.readouterr() == (expected, f"deepedit-x: {expected}")


def test_options_that_parameters_become_are_there():
    known = train.command_line().format_help() + infer.command_line().format_help()
    for names in common.OPTIONS.values():
        assert all(f"{name} " in known for name in names.split(" or "))


@pytest.mark.parametrize("room", ["io", "network", "training"])
def test_the_library_names_parameters_and_no_options(room):
    """Who calls it from Python has no command line, and every parameter becomes an option on one."""
    for path in (Path(deepedit.__file__).parent / room).glob("*.py"):
        for text in texts(ast.parse(path.read_text(encoding="utf-8"))):
            assert set(re.findall(r"`(\w+)`", text)) <= set(common.OPTIONS), (path, text)
            assert not re.search(r"--\w", text), (path, text)


def texts(tree):
    """The strings in a module that are no documentation."""
    statements = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in statements:
            yield node.value


def test_what_is_there_is_kept(tmp_path):
    path = tmp_path / "seg.nii.gz"
    common.refuse_existing(path, overwrite=False)
    path.touch()
    common.refuse_existing(path, overwrite=True)
    with pytest.raises(DeepEditError, match="--overwrite"):
        common.refuse_existing(path, overwrite=False)
    link = tmp_path / "dangling.nii.gz"
    link.symlink_to(tmp_path / "nowhere")
    with pytest.raises(DeepEditError, match="--overwrite"):
        common.refuse_existing(link, overwrite=False)


def test_a_bar_is_for_terminals_only(capsys, monkeypatch):
    assert list(common.progress([1, 2], "cases")) == [1, 2]
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(common, "on_terminal", lambda: True)
    for number in common.progress([1, 2], "cases"):
        common.say(f"done {number}")
    out, err = capsys.readouterr()
    assert out == "done 1\ndone 2\n"
    assert "cases" in err
