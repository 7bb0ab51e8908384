"""All that needs a GPU, in one command: tests, click simulation, training steps, clicks, network modes, a training run.

    python -m benchmarks.gpu --minutes 8 --output FOLDER --input Task04_Hippocampus

Every part runs in a process of its own and gets its share of the minutes that are left, so that a part that crashes,
hangs or runs out of memory costs itself only. After every part FOLDER/gpu.json holds all figures and FOLDER/gpu.md the
tables; FOLDER/PART.log is what the part said. It needs torch, numpy, scipy and nibabel; what needs more says so. The
exit status is 1 where a part failed.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.gpu.report import in_brief, markdown
from benchmarks.options import add_shared, parser
from deepedit_cli.options import positive

SHARES = {"machine": 40, "tests": 100, "clicks": 60, "step": 90, "latency": 35, "modes": 80, "training": 170}
"""The parts in their order, and how the time is shared among them. The last gets what the others leave."""

SECONDS_TO_END = 2.0
"""A part is told to be done so much before it is made to end."""

ROOT = Path(__file__).parents[2]


def part_command(name: str, seconds: float, options: argparse.Namespace) -> list[str]:
    """The command line of a part that is to be done within so many seconds, but for the file of its rows."""
    command = [sys.executable, "-u", "-m", "benchmarks.gpu.part", name, "--folder", str(options.output)]
    command += ["--until", str(time.time() + seconds), "--device", options.device]
    command += ["--training-minutes", str(options.training_minutes), "--threads", str(options.threads or 0)]
    command += ["--input", str(options.input.resolve())] if options.input else []
    return command + (["--small"] if options.small else [])


def run_part(name: str, command: Sequence[str], limit: float, folder: Path) -> dict:
    """Run a part in a process of its own for no more than `limit` seconds; returns its rows and how it ended.

    Args:
        command: is given ``--rows FILE`` as well.
        folder: what the part says goes to ``NAME.log`` in it.
    """
    log, start = folder / f"{name}.log", time.monotonic()
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch, log.open("wb") as stream:
        rows, shown = Path(scratch) / "rows", 0
        rows.touch()
        process = subprocess.Popen(
            [*command, "--rows", str(rows)],
            cwd=ROOT,
            # What the part keeps in temporary files goes when it has ended, however it did.
            env=os.environ | {"PYTHONPATH": paths, "TMPDIR": scratch},
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            while process.poll() is None and time.monotonic() - start < limit:
                time.sleep(0.2)
                shown = show(name, start, read_rows(rows), shown)
            status = process.poll()
        finally:
            end_group(process)
        found = {"status": "done", "seconds": time.monotonic() - start, "rows": read_rows(rows)}
    show(name, start, found["rows"], shown)
    if status is None:
        found["status"] = f"ended by its limit of {limit:.0f} s"
    elif status:
        how = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        found |= {"status": f"failed with {how}", "error": last_line(log)}
    return found


def end_group(process: subprocess.Popen) -> None:
    """End a process and all that it has started, whatever they are at."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)
    except (ProcessLookupError, PermissionError, subprocess.TimeoutExpired):
        pass  # gone already; or stuck in the driver, where nothing can reach it


def read_rows(path: Path) -> list[dict]:
    """The rows that are written whole."""
    lines = path.read_text().split("\n")[:-1]
    return [json.loads(line) for line in lines if line]


def show(name: str, start: float, rows: list[dict], shown: int) -> int:
    """Print the rows that are new; returns how many there are."""
    for row in rows[shown:]:
        print(f"{name} {time.monotonic() - start:4.0f} s  {in_brief(row)}", flush=True)
    return len(rows)


def last_line(log: Path) -> str:
    """The last line that a part printed, which is that of its error."""
    lines = log.read_text(errors="replace").split("\n")
    return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "without a word")


def write(folder: Path, report: dict) -> None:
    """Write the report's two files, each whole."""
    for name, text in (("gpu.json", json.dumps(report, indent=1)), ("gpu.md", markdown(report))):
        (folder / f".{name}").write_text(text + "\n")
        os.replace(folder / f".{name}", folder / name)


def arguments() -> argparse.Namespace:
    options = parser(__doc__)
    add_shared(options, "--input", required=False, help="dataset to train on (default: a synthetic one)")
    add_shared(options, "--output", help="for the report; made if needed")
    options.add_argument(
        "--minutes", type=positive, default=8.0, metavar="MINUTES", help="for everything (default: %(default)g)"
    )
    options.add_argument(
        "--training-minutes",
        type=positive,
        default=3.0,
        metavar="MINUTES",
        help="for the training run, at most (default: %(default)g)",
    )
    options.add_argument(
        "--parts", nargs="+", choices=list(SHARES), default=list(SHARES), help="what to do (default: all)"
    )
    options.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="auto takes a GPU if there is one (default: %(default)s)",
    )
    add_shared(options, "--threads")
    options.add_argument("--small", action="store_true", help="tiny sizes, to try the command itself on a CPU")
    given = options.parse_args()
    given.output = given.output.resolve()
    if given.input and not given.input.is_dir():
        options.error(f"--input {given.input}: is not a folder")
    return given


def main() -> int:
    options = arguments()
    options.output.mkdir(parents=True, exist_ok=True)
    # The machine is told in every report, and tells early whether the GPU can be used at all.
    waiting = [name for name in SHARES if name in options.parts or name == "machine"]
    end = time.monotonic() + 60 * options.minutes
    report: dict = {"command": " ".join(sys.argv[1:]), "parts": {}}
    while waiting:
        share = SHARES[waiting[0]] / sum(SHARES[name] for name in waiting)
        limit = max(0.0, end - time.monotonic()) * share
        name = waiting.pop(0)
        print(f"{name}: at most {limit:.0f} s", flush=True)
        command = part_command(name, limit - SECONDS_TO_END, options)
        part = report["parts"][name] = run_part(name, command, limit, options.output)
        print(f"{name}: {part['status']} after {part['seconds']:.0f} s  {part.get('error', '')}", flush=True)
        write(options.output, report)
    print(f"\n{markdown(report)}\n\nwrote {options.output / 'gpu.json'} and {options.output / 'gpu.md'}")
    return int(any(part["status"] != "done" for part in report["parts"].values()))


if __name__ == "__main__":
    sys.exit(main())
