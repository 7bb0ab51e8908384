"""What the files of a training tell."""

import pytest

from deepedit.server.task import LINES, Task


@pytest.fixture
def task(tmp_path):
    return Task("deepedit", tmp_path, {})


def test_it_tells_the_last_lines_and_at_first_one_of_its_own(task):
    assert task.described()["details"] == ["training begins"]
    for number in range(5000):
        task.tell(f"line {number}")
    assert task.described()["details"] == [f"line {number}" for number in range(5000 - LINES, 5000)]


def test_a_line_stays_one_line_whatever_is_in_it(task):
    task.tell("one\ntwo\x1b[31m")
    assert task.lines() == ["one\\ntwo\\x1b[31m"]


@pytest.mark.parametrize(
    ("log", "complaint"),
    [
        ("", "its process said nothing"),
        ("a\ndeepedit-train: model.pt: damaged\n", "model.pt: damaged"),
        ("deepedit-train: data: 2 problems:\n  a: cut short\n  b: empty\n", "data: 2 problems: a: cut short b: empty"),
        ("Traceback (most recent call last):\n  File x\nRuntimeError: no\n", "RuntimeError: no"),
    ],
)
def test_the_complaint_is_what_a_process_ended_with(task, log, complaint):
    (task.folder / "log.txt").write_text(log)
    assert task.complaint() == complaint


@pytest.mark.parametrize("content", [None, "", "{", "[]", "{}", '{"share": "much"}'])
def test_progress_that_cannot_be_read_is_none_yet(task, content):
    if content is not None:
        (task.folder / "progress.json").write_text(content)
    assert task.stats(0.5)["epoch"] == 0


def test_progress_is_in_percent(task):
    (task.folder / "progress.json").write_text('{"share": 0.376}')
    assert task.stats(0.5)["epoch"] == 37
    (task.folder / "progress.json").write_text('{"share": 1.0}')
    assert task.stats(0.5)["epoch"] == 99
    task.status, task.ended = "DONE", task.started + 3700
    assert task.stats(0.5)["epoch"] == 100
    assert task.stats(0.5)["total_time"] == "1:01:40"
