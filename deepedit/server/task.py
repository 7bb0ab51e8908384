"""One training beside a server, as its files tell how it is doing."""

import json
import subprocess
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from deepedit.files import one_line

LOG, PROGRESS = "log.txt", "progress.json"
LINES = 20
TAIL_BYTES = 2**14
PROGRAMS = ("deepedit-train", "comparison")
"""How the lines begin in which processes complain."""


@dataclass
class Task:
    """One training.

    Attributes:
        trainer: its name for clients.
        folder: its run folder. Its processes, and `tell`, write lines to ``log.txt`` there.
        request: what was asked for.
        started, ended: seconds since 1970.
        status: RUNNING, DONE, ERROR or STOPPED.
        process: the one that works for it now.
        stopping: whether it was asked to stop.
    """

    trainer: str
    folder: Path
    request: dict[str, Any]
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    started: float = field(default_factory=time.time)
    ended: float | None = None
    status: str = "RUNNING"
    process: subprocess.Popen[bytes] | None = None
    stopping: bool = False

    def tell(self, line: str) -> None:
        """Add a line to the log."""
        with suppress(OSError), open(self.folder / LOG, "a", encoding="utf-8") as log:  # the disk may be full
            log.write(f"{one_line(line)}\n")

    def lines(self) -> list[str]:
        """The last lines of the log."""
        with suppress(OSError), open(self.folder / LOG, "rb") as log:
            log.seek(0, 2)
            log.seek(max(0, log.tell() - TAIL_BYTES))
            lines = log.read().decode(errors="replace").splitlines()
            return [one_line(line, 500) for line in lines if line.strip()][-LINES:]
        return []

    def complaint(self) -> str:
        """The error that a process ended with: what it complained of, or else the last line, as of a traceback."""
        lines = self.lines()
        for number in reversed(range(len(lines))):
            program, separator, message = lines[number].partition(": ")
            if separator and program in PROGRAMS:
                return " ".join((message, *(line.strip() for line in lines[number + 1 :])))
        return lines[-1] if lines else "its process said nothing"

    def share(self) -> float:
        """Share of the training that is over."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            return float(json.loads((self.folder / PROGRESS).read_bytes())["share"])
        return 0.0

    def described(self) -> dict[str, Any]:
        """The answer to ``GET /train/``. Its ``details`` are never empty: Slicer takes the last of them."""
        described = {
            "id": self.id,
            "model": self.trainer,
            "status": self.status,
            "request": self.request,
            "start_ts": _told(self.started),
            "details": self.lines() or ["training begins"],
        }
        return described if self.ended is None else {**described, "end_ts": _told(self.ended)}

    def stats(self, best: float) -> dict[str, Any]:
        """The entry of this trainer in ``train_stats`` of ``/info/``: progress is in percent, by the clock.

        Args:
            best: Dice, which clients need as a number.
        """
        seconds = int((self.ended or time.time()) - self.started)
        stats = {
            "best_metric": best,
            "epoch": 100 if self.status == "DONE" else min(99, int(100 * self.share())),
            "total_epochs": 100,
            "start_ts": int(self.started),
            "current_time": str(timedelta(seconds=seconds)),
        }
        return stats if self.ended is None else {**stats, "total_time": stats["current_time"]}


def _told(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")
