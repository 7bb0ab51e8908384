"""The command that measures on a GPU: it ends in time with all that was found, whatever its parts do."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gpu import modes
from benchmarks.gpu.__main__ import SHARES, run_part
from benchmarks.gpu.report import figure, markdown
from benchmarks.timing import count_events, kernels, queued, timed

ROOT = Path(__file__).parents[2]

ONE_ROW = """
import pathlib, sys
rows = pathlib.Path(sys.argv[sys.argv.index("--rows") + 1])
rows.write_text('{"table": "Times", "ms": 1.5}\\n{"table": "Times", "ms": 2')
"""
"""A part that has written one row whole, and is at the next one."""


@pytest.fixture
def part(tmp_path):
    return lambda program, limit=60.0: run_part("some", [sys.executable, "-c", ONE_ROW + program], limit, tmp_path)


@pytest.mark.parametrize(
    ("program", "status", "error"),
    [
        ("", "done", None),
        ("raise MemoryError('no room')", "failed with exit status 1", "MemoryError: no room"),
        ("import os; print('so far', flush=True); os.abort()", "failed with signal SIGABRT", "so far"),
        ("sys.exit(3)", "failed with exit status 3", "without a word"),
    ],
)
def test_a_part_that_breaks_costs_itself_only(part, program, status, error):
    found = part(program)
    assert found["status"] == status
    assert found.get("error") == error
    assert found["rows"] == [{"table": "Times", "ms": 1.5}]


def test_a_part_that_hangs_is_ended_with_all_that_it_started(part, tmp_path):
    sleeper = "import subprocess\nchild = subprocess.Popen(['sleep', '600'])\n"
    found = part(sleeper + f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(child.pid))\nchild.wait()", 3.0)
    assert found["status"] == "ended by its limit of 3 s"
    assert found["rows"] == [{"table": "Times", "ms": 1.5}]
    state = Path("/proc", (tmp_path / "pid").read_text(), "stat")
    assert not state.exists() or ") Z " in state.read_text()


def test_a_parts_temporary_files_go_with_it(part, tmp_path):
    part(f"import tempfile; pathlib.Path({str(tmp_path / 'where')!r}).write_text(tempfile.mkdtemp()); 1 / 0")
    assert not Path((tmp_path / "where").read_text()).exists()


def test_the_report_shows_whatever_there_is():
    parts = {
        "clicks": {
            "status": "failed with exit status 1",
            "error": "a | b",
            "seconds": 2.0,
            "rows": [
                {"table": "Times", "who": "ours", "ms": 0.1234, "spread ms": [0.3, 0.1]},
                {"table": "Times", "who": "theirs", "ms": None, "kernels": 12345},
                {"note": "something was left out"},
            ],
        }
    }
    lines = markdown({"parts": parts}).splitlines()
    assert "| clicks | failed with exit status 1: `a / b` | 2.00 |" in lines
    assert "| who | ms | spread ms | kernels |" in lines
    assert "| ours | 0.123 | 0.100-0.300 |  |" in lines
    assert "| theirs |  |  | 12345 |" in lines
    assert "- clicks: something was left out" in lines


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1234.5, "1,234"),
        (99.96, "100"),
        (0.5, "0.500"),
        (0.0, "0"),
        (1e-5, "1.00e-05"),
        (float("nan"), "nan"),
        ([], ""),
    ],
)
def test_figures_have_three_digits_that_count(value, text):
    assert figure(value) == text


def test_a_trace_is_counted_by_what_the_gpu_did():
    events = [
        {"cat": "kernel", "name": "add", "dur": 3.0},
        {"cat": "kernel", "name": "DtoH in name only", "dur": 1.0},
        {"cat": "gpu_memcpy", "name": "Memcpy DtoH (Device -> Pageable)", "dur": 2.0},
        {"cat": "gpu_memset", "name": "Memset (Device)", "dur": 1.0},
        {"cat": "gpu_user_annotation", "name": "step", "dur": 100.0},
        {"cat": "cpu_op", "name": "aten::add", "dur": 100.0},
        {"name": "no category"},
    ]
    found = count_events(events)
    assert found == {"kernels": 2, "copies and fills": 2, "copies to the host": 1, "busy": pytest.approx(7e-6)}
    assert count_events(events[4:]) is None


def test_work_is_repeated_as_often_as_asked_or_as_time_allows():
    calls = []
    assert len(timed(lambda: calls.append(0), "cpu", repeats=4, seconds=60.0, warm_ups=2)) == 4
    assert len(calls) == 6
    assert len(timed(lambda: None, "cpu", repeats=4, seconds=0.0)) == 1
    assert len(queued(lambda: None, "cpu", seconds=60.0, groups=3)) == 3
    assert kernels(lambda: None, "cpu") is None


def test_every_network_mode_is_asked_for_once_and_on_shapes_that_its_network_takes():
    rows = list(modes.plan(small=False, on_gpu=True))
    assert len(rows) == len(set(rows))
    assert {mode for _, _, mode in rows} == {*modes.READY, *modes.COMPILED}
    for setting, _, _ in rows:
        assert all(side % multiple == 0 for side, multiple in zip(setting.shape, setting.config.divisor, strict=True))


@pytest.mark.slow
def test_the_command_runs_where_there_is_no_gpu(tmp_path):
    parts = ("clicks", "latency", "modes")
    command = [sys.executable, "-m", "benchmarks.gpu", "--small", "--device", "cpu", "--threads", "1"]
    command += ["--minutes", "9", "--output", str(tmp_path), "--parts", *parts]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "gpu.json").read_text())
    assert list(report["parts"]) == ["machine", *parts]
    for name in parts:
        figures = [row for row in report["parts"][name]["rows"] if "table" in row]
        assert figures
        assert not any("left out" in row.get("note", "") for row in report["parts"][name]["rows"])
    assert (tmp_path / "gpu.md").read_text().strip() in done.stdout
    assert set(parts) < set(SHARES)
