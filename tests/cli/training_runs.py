"""The runs of deepedit-train that tests begin, and how they are interrupted."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

QUICK = ("--epochs", "1", "--max-clicks", "0", "--limit", "1")
"""Of a run that is over at once."""


def arguments(dataset, run, *more):
    return [
        "--input",
        str(dataset),
        "--output",
        str(run),
        "--epochs",
        "2",
        "--batch-size",
        "2",
        "--device",
        "cpu",
        *more,
    ]


@contextmanager
def interrupted_at(owner: Any, name: str, number: signal.Signals) -> Iterator[None]:
    """A signal arrives when a function of `owner` is called for the first time during the block."""
    usual, signals = getattr(owner, name), [number]

    def interrupted(*given):
        if signals:
            signal.raise_signal(signals.pop())
        return usual(*given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, interrupted)
        yield
