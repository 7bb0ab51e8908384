"""The tests that are marked `cuda`."""

import importlib.util
import os
import re
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.gpu.bench import Bench

ROOT = Path(__file__).parents[2]


def run(bench: Bench) -> None:
    missing = [name for name in ("pytest", "hypothesis") if importlib.util.find_spec(name) is None]
    if missing:
        bench.note(f"not run: {' and '.join(missing)} not installed")
        return
    # A line a test, so that what was done counts even if one hangs.
    command = [sys.executable, "-u", "-m", "pytest", "-vv", "-rfE", "--tb=short", "--continue-on-collection-errors"]
    chosen = ["tests/clicks/test_types.py"] if bench.small else ["-m", "cuda", "tests"]
    process = subprocess.Popen([*command, *chosen], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    os.set_blocking(process.stdout.fileno(), False)
    rest = b""
    while process.poll() is None and bench.left() > 0:
        time.sleep(0.1)
        rest += process.stdout.read() or b""
    ended = process.poll()
    process.kill()
    rest += process.stdout.read() or b""
    lines = rest.decode(errors="replace").splitlines()
    print("\n".join(lines))
    count = {word: 0 for word in ("PASSED", "FAILED", "ERROR", "SKIPPED", "XFAIL")}
    bad = []
    for line in lines:
        if found := re.match(r"(\S+::.+?) (PASSED|FAILED|ERROR|SKIPPED|XFAIL)\b", line):
            count[found[2]] += 1
            bad += [found[1]] if found[2] in ("FAILED", "ERROR") else []
    bench.row("Tests marked cuda", **{word.lower(): number for word, number in count.items()})
    reasons = [line for line in lines if line.startswith(("FAILED ", "ERROR "))]
    for reason in (reasons or bad)[:20]:
        bench.note(reason[:300])
    if ended is None:
        begun = [line for line in lines if "::" in line]
        bench.note(f"ended by the limit, at {begun[-1][:200] if begun else 'their collection'}")
    elif ended == 5:
        bench.note("no test is marked cuda")
    elif ended > 1:
        bench.note(f"pytest ended with exit status {ended}: {lines[-1] if lines else ''}")
