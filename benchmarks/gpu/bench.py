"""What a part of the run works with: where its rows of figures go, and the time that is left to it."""

import contextlib
import gc
import json
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass
class Bench:
    """What a part works with.

    Attributes:
        folder: where it may write.
        small: take tiny sizes.
        until: when it must be done, seconds of `time.time`.
    """

    rows: Path
    folder: Path
    device: torch.device
    small: bool
    until: float
    dataset: Path | None
    training_minutes: float

    def row(self, table: str, **figures: object) -> None:
        """Keep a row of figures, the names of which are the table's columns."""
        self._write({"table": table} | {name.replace("_", " "): value for name, value in figures.items()})

    def note(self, text: str) -> None:
        self._write({"note": text})

    def left(self) -> float:
        """Seconds until it must be done."""
        return self.until - time.time()

    @contextlib.contextmanager
    def attempt(self, what: str) -> Iterator[None]:
        """What goes wrong within is noted, and the part goes on; so is what there is no time for, see `needs`."""
        try:
            yield
        except Exception as error:
            if not isinstance(error, Late):
                traceback.print_exc()
            said = f"{type(error).__name__}: {error}".strip().splitlines()
            self.note(f"{what}: left out, {said[0][:300]}")
        gc.collect()
        if self.device.type == "cuda":
            with contextlib.suppress(RuntimeError):  # after some errors a device answers nothing any more
                torch.cuda.empty_cache()

    def needs(self, seconds: float) -> None:
        """Raise `Late` where no more than so many seconds are left."""
        if self.left() < seconds:
            raise Late(f"there were {max(0.0, self.left()):.0f} s left")

    def _write(self, row: dict) -> None:
        with self.rows.open("a") as stream:
            stream.write(json.dumps(row) + "\n")


class Late(Exception):
    """There is no time for it."""


def milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else 1e3 * seconds
