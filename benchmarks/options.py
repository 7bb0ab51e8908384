"""The options that several benchmarks share, in the same words everywhere, and in those of the commands."""

import argparse
from pathlib import Path
from typing import Any

from deepedit_cli import options as commands
from deepedit_cli.options import count, positive_int


def parser(documentation: str) -> argparse.ArgumentParser:
    """A parser that describes a benchmark by the documentation of its module."""
    return argparse.ArgumentParser(description=documentation, formatter_class=argparse.RawDescriptionHelpFormatter)


def add_shared(options: argparse.ArgumentParser, *names: str, **changes: Any) -> None:
    """Add options of `SHARED`, or of those that the commands share; `changes` are what is different here."""
    for name in names:
        options.add_argument(name, **{**commands.SHARED, **SHARED}[name] | changes)


SHARED: dict[str, dict[str, Any]] = {
    "--input": {"type": Path, "required": True, "metavar": "FOLDER", "help": "dataset: imagesTr and labelsTr"},
    "--output": {"type": Path, "required": True, "metavar": "FOLDER"},
    "--clicks": {
        "type": positive_int,
        "default": 15,
        "metavar": "N",
        "help": "clicks that are timed (default: %(default)s)",
    },
    "--repeats": {"type": positive_int, "metavar": "N", "help": "runs that are timed (default: %(default)s)"},
    "--steps": {"type": positive_int, "metavar": "N", "help": "steps of training (default: %(default)s)"},
    "--seed": {
        "type": count,
        "default": 0,
        "metavar": "N",
        "help": "seed of everything random (default: %(default)s)",
    },
    "--threads": {
        "type": positive_int,
        "metavar": "N",
        "help": "threads of torch on the CPU (default: torch's own choice)",
    },
    "--json": {"action": "store_true", "help": "print JSON instead of tables"},
}
"""As `deepedit_cli.options.SHARED`."""
