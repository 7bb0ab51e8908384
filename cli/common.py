"""What the command lines share: exit status and errors, messages and progress bars, and the parser.

A command line is three steps::

    def main(argv: Sequence[str] | None = None) -> int:
        return run("deepedit-infer", infer, argv)

    def command_line() -> Parser:
        made = parser("deepedit-infer", "Segment images.")
        ...

    def infer(argv: Sequence[str] | None) -> int | None:    # the exit status; None is 0
        arguments = command_line().parse_args(argv)
        ...

    if __name__ == "__main__":
        sys.exit(main())
"""

import argparse
import contextlib
import errno
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from deepedit import __version__
from deepedit.errors import DeepEditError, FileError
from deepedit.files import one_line

T = TypeVar("T")
USER_ERROR = 2
INTERRUPTED = 130
PATIENCE = timedelta(hours=6)
"""How long processes that share cases wait for the one with the largest: many clicks and labels on a CPU."""

OPTIONS = {
    **{
        name: f"--{name.replace('_', '-')}"
        for name in (
            *("accumulate", "affine", "amp", "batch_size", "checkpointing", "click_probability", "device", "epochs"),
            *("init_weights", "labels", "learning_rate", "limit", "max_clicks", "max_minutes", "network", "patch_size"),
            *("resume", "seed", "series", "spacing", "split", "split_seed", "studies", "units", "workers"),
        )
    },
    "cache": "--cache-dir",
    "intensity": "--window or --percentiles",
}
"""What the library's parameters are called here, for its messages, see `in_options`."""


def run(program: str, body: Callable[[Sequence[str] | None], int | None], argv: Sequence[str] | None = None) -> int:
    """Run a command line. Errors that the user can mend are printed on standard error as ``program: message``, without
    a traceback.

    Args:
        program: name at the beginning of messages.
        body: function that does the work; it takes `argv` and returns an exit status, or None for 0.
        argv: the arguments; those of the process unless given.

    Returns:
        The exit status: that of `body`, 2 after a `DeepEditError`, 130 after Ctrl-C. Every other exception is a bug
        and is raised to the caller.
    """
    # Torch asks at its first allocation whether to take large pages, with which training on a CPU is a tenth faster.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    try:
        return body(argv) or 0
    except DeepEditError as error:
        complain(program, str(error))
        return USER_ERROR
    except KeyboardInterrupt:
        complain(program, "interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has left, as `head` does; Python would complain once more while it shuts down.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        # Looking whether a path is there fails by these.
        if error.errno not in (errno.EACCES, errno.ENAMETOOLONG) or error.filename is None:
            raise
        reason = "may not be looked into" if error.errno == errno.EACCES else "has a name that is too long"
        complain(program, f"{one_line(error.filename, 200)}: {reason}; choose another path")
        return USER_ERROR


def complain(program: str, message: str) -> None:
    """Print a message on standard error; a progress bar, if there is one, stays intact."""
    _write(f"{program}: {message}", sys.stderr)


def say(text: str) -> None:
    """Print a line on standard output; a progress bar, if there is one, stays intact."""
    _write(text, sys.stdout)


def untold(line: str) -> None:
    """Takes the place of what tells a line where the first of several processes has told it."""


def in_options(text: str) -> str:
    """A message of the library, with the option in the place of each parameter that it names in backticks."""
    return re.sub("`([a-z_]+)`", lambda found: OPTIONS.get(found[1], found[0]), text)


def _write(text: str, stream: Any) -> None:
    from tqdm import tqdm

    tqdm.write(in_options(text), file=stream)
    stream.flush()


def on_terminal() -> bool:
    """Whether standard error is a terminal: progress bars are shown only there, plain lines elsewhere."""
    return sys.stderr.isatty()


def progress(items: Iterable[T], description: str, total: int | None = None, unit: str = "case") -> Iterator[T]:
    """Iterate over `items`: with a progress bar on a terminal; elsewhere without, as the caller prints lines."""
    if not on_terminal():
        yield from items
        return
    from tqdm import tqdm

    yield from tqdm(items, desc=description, total=total, unit=unit, dynamic_ncols=True)


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, like all other errors; options cannot be abbreviated."""

    def parse_args(self, *arguments: Any, **more: Any) -> Any:
        if "_ARGCOMPLETE" in os.environ:  # a shell asks how the line that is being typed can go on
            with contextlib.suppress(ImportError):
                import argcomplete

                argcomplete.autocomplete(self)
        return super().parse_args(*arguments, **more)

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help")


class _Help(argparse.RawDescriptionHelpFormatter):
    """Help whose usage names only what has to be given: all else is explained below it, and would hide that."""

    def add_usage(self, usage: Any, actions: Iterable[Any], groups: Iterable[Any], prefix: str | None = None) -> None:
        alternatives = [group for group in groups if group.required]
        needed = [each for group in alternatives for each in group._group_actions]
        shown = [each for each in actions if each.required or each in needed]
        others = argparse.Action([], "options", nargs="?")  # is shown as [options]
        super().add_usage(usage, [*shown, others], alternatives, prefix)


class UsageError(DeepEditError):
    """Arguments that make no sense, alone or together."""


def parser(program: str, description: str, epilog: str | None = None) -> Parser:
    """An argument parser that knows ``--version``; `epilog` is for examples and keeps its line breaks."""
    made = Parser(
        program,
        description=description,
        epilog=epilog,
        formatter_class=_Help,
        allow_abbrev=False,
    )
    made.add_argument("--version", action="version", version=f"deepedit {__version__}")
    return made


def refuse_existing(path: str | os.PathLike[str], overwrite: bool) -> None:
    """Refuse to overwrite an existing file, before long work begins.

    Raises:
        FileError: if `path` exists and `overwrite` is not set.
    """
    if not overwrite and os.path.lexists(path):
        raise FileError(f"{Path(path)}: is there already; choose another name, or replace it with --overwrite")
