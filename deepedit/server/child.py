"""Runs a module as a process that gives way to others, and that ends when the one that started it does.

    python -m deepedit.server.child MODULE ARGUMENT...

Its standard input is a pipe that the starting process holds open and never writes to. It closes when that process ends,
however it does: then this one is asked to end, as by SIGTERM, and does so `GRACE_SECONDS` later at the latest.
"""

import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

GRACE_SECONDS = 10.0
"""How long a process may take to end after it was asked to: it saves the state of training."""

NICENESS = 10


def start(module: str, arguments: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """Start a module in a process of its own, niced, whose lines are added to a file.

    The caller keeps ``stdin`` of what is returned open for as long as the process is to live.
    """
    flags: dict[str, Any] = {}
    if sys.platform == "win32":
        flags = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    with open(log, "ab") as lines:
        return subprocess.Popen(
            [sys.executable, "-m", "deepedit.server.child", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=lines,
            stderr=lines,
            # Ctrl-C in the terminal of the caller is for the caller, who then ends this process.
            start_new_session=sys.platform != "win32",
            **flags,
        )


def end(process: subprocess.Popen[bytes], seconds: float = GRACE_SECONDS) -> None:
    """Ask a process to end, kill it if it has not after some seconds, and wait until it is gone."""
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdin is not None:
        with suppress(OSError):
            process.stdin.close()


def _end_with_the_caller() -> None:
    # Unbuffered: a read that waits in a buffered stream would hold up the end of the interpreter.
    with suppress(OSError):
        while os.read(0, 1024):
            pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os._exit(1)


def main() -> None:
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    threading.Thread(target=_end_with_the_caller, daemon=True).start()
    module = sys.argv[1]
    sys.argv = [module, *sys.argv[2:]]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
