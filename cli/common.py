"""What the command lines share: exit status and errors, messages and progress bars, and types of arguments.

A command line is three steps::

    def main(argv: Sequence[str] | None = None) -> int:
        return run("deepedit-infer", infer, argv)

    def infer(argv: Sequence[str] | None) -> int | None:    # the exit status; None is 0
        arguments = parser("deepedit-infer", "Segment images.").parse_args(argv)
        ...

    if __name__ == "__main__":
        sys.exit(main())
"""

import argparse
import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from deepedit import __version__
from deepedit.defaults import OVERLAP
from deepedit.errors import DeepEditError, FileError
from deepedit.plan import MAX_SPACING, MIN_SPACING

T = TypeVar("T")
USER_ERROR = 2
INTERRUPTED = 130

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


def complain(program: str, message: str) -> None:
    """Print a message on standard error; a progress bar, if there is one, stays intact."""
    _write(f"{program}: {message}", sys.stderr)


def say(text: str) -> None:
    """Print a line on standard output; a progress bar, if there is one, stays intact."""
    _write(text, sys.stdout)


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

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help")


class UsageError(DeepEditError):
    """Arguments that make no sense, alone or together."""


def parser(program: str, description: str, epilog: str | None = None) -> Parser:
    """An argument parser that knows ``--version``; `epilog` is for examples and keeps its line breaks."""
    made = Parser(
        program,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("--version", action="version", version=f"deepedit {__version__}")
    return made


def positive_int(text: str) -> int:
    """A whole number from 1 on."""
    return int(_number(text, int, "a whole number from 1 on", 1))


def count(text: str) -> int:
    """A whole number from 0 on."""
    return int(_number(text, int, "a whole number from 0 on", 0))


def positive(text: str) -> float:
    """A number above 0."""
    return _number(text, float, "a number above 0", sys.float_info.min)


def number(text: str) -> float:
    """Any number."""
    return _number(text, float, "a number", -sys.float_info.max)


def share(text: str) -> float:
    """A number from 0 to 1."""
    return _number(text, float, "a number from 0 to 1", 0, 1)


def overlap(text: str) -> float:
    """A share from 0 to 0.9; with more, windows would hardly advance."""
    return _number(text, float, "a share from 0 to 0.9", 0, 0.9)


def spacing(text: str) -> tuple[float, float, float]:
    """Three sizes of voxels in mm, as in ``1.5,1.5,3``; one size stands for all three."""
    meaning = f"a size from {MIN_SPACING:g} to {MAX_SPACING:g} mm"
    return _triple(text, lambda part: _number(part, float, meaning, MIN_SPACING, MAX_SPACING))


def int_triple(text: str) -> tuple[int, int, int]:
    """Three whole numbers from 1 on, as ``64,64,32``; one number stands for all three."""
    return _triple(text, positive_int)


def device(text: str) -> str:
    """The name of an available device, or ``auto``."""
    import torch

    try:
        kind = "auto" if text == "auto" else torch.device(text).type
        if kind not in ("auto", "cpu"):
            torch.empty(0, device=text)
    except (RuntimeError, AssertionError) as error:
        raise argparse.ArgumentTypeError(f"device {text!r} is not there; use auto, cpu, or cuda with a GPU") from error
    return text


def _triple(text: str, read: Callable[[str], Any]) -> tuple[Any, ...]:
    values = tuple(read(part.strip()) for part in text.split(","))
    if len(values) not in (1, 3):
        raise argparse.ArgumentTypeError(f"{text!r} is not one number, or three with commas between, as 1.5,1.5,3")
    return values * (3 // len(values))


def _number(text: str, kind: type, meaning: str, lowest: float, highest: float = sys.float_info.max) -> float:
    try:
        value = kind(text)
    except ValueError:
        value = math.nan
    if not lowest <= value <= highest:
        raise argparse.ArgumentTypeError(f"{text!r} is not {meaning}")
    return value


def add_common(options: argparse.ArgumentParser) -> None:
    """Add ``--device``, ``--amp`` and ``--overwrite``, for all command lines that run a network."""
    options.add_argument("--device", type=device, default="auto", help="auto (a GPU if there is one), cpu, cuda, ...")
    options.add_argument("--amp", choices=("auto", "off"), default="auto", help="mixed precision (default: auto)")
    options.add_argument("--overwrite", action="store_true", help="replace what is there already")


def add_start(options: argparse.ArgumentParser) -> None:
    """Add ``--map`` and ``--same-grid``, for the command lines that take an initial segmentation."""
    options.add_argument(
        "--map",
        action="append",
        default=[],
        type=value_and_label,
        metavar="VALUE=LABEL",
        help="label of a value in --initial-segmentation, as in 255=spleen; may be given several times",
    )
    options.add_argument(
        "--same-grid",
        action="store_true",
        help="take --initial-segmentation voxel by voxel, whatever its affine says",
    )


def chosen_mapping(options: Any, labels: Any) -> dict[int, str]:
    """The label of each value, as given by ``--map``.

    Args:
        labels: the labels of the model.

    Raises:
        DeepEditError: if a label is unknown, if a value has two labels, or if ``--map`` or ``--same-grid`` is given
            without an initial segmentation.
    """
    if (options.map or options.same_grid) and not options.initial_segmentation:
        raise UsageError("--map and --same-grid are about --initial-segmentation; give one, or leave them out")
    mapping: dict[int, str] = {}
    for value, label in options.map:
        try:
            labels.index(label)
        except DeepEditError as error:
            raise UsageError(f"--map {value}={label}: {error}") from error
        if mapping.setdefault(value, label) != label:
            raise UsageError(f"--map: {value} cannot be {mapping[value]} and {label}; leave one out")
    return mapping


def value_and_label(text: str) -> tuple[int, str]:
    """A value of a label file and its label, as in ``255=spleen``."""
    value, separator, label = (part.strip() for part in text.partition("="))
    if not separator or not label or not re.fullmatch(r"[0-9]{1,10}", value) or not int(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not a value above 0 and a label, as 255=spleen")
    return int(value), label


def add_passes(options: argparse.ArgumentParser) -> None:
    """Add ``--overlap``, ``--skip-air`` and ``--tta``, for the command lines that ask a network for segmentations."""
    options.add_argument(
        "--overlap",
        type=overlap,
        default=OVERLAP,
        metavar="SHARE",
        help="overlap of the windows of a large image, from 0 to 0.9 (default: %(default)g)",
    )
    options.add_argument(
        "--skip-air",
        action="store_true",
        help="for CT: leave out windows that hold only air; they become background",
    )
    options.add_argument(
        "--tta",
        action="store_true",
        help="test-time augmentation: the mean of two answers to each click, and for what one window covers, in twice "
        "the time",
    )


def add_reading(options: argparse._ActionsContainer, default: str) -> None:
    """Add ``--affine`` and ``--units``, which say how headers are read that contradict themselves or are wrong."""
    options.add_argument(
        "--affine", choices=("sform", "qform"), help=f"which affine is used if an image has both (default: {default})"
    )
    options.add_argument(
        "--units", choices=("header", "mm"), help=f"unit of lengths: as headers say, or always mm (default: {default})"
    )


def chosen_reading(options: Any, default: Any) -> Any:
    """The `Reading` given by ``--affine`` and ``--units``; what is not given is taken from `default`."""
    from dataclasses import replace

    given = {name: value for name in ("affine", "units") if (value := getattr(options, name)) is not None}
    return replace(default, **given)


def refuse_existing(path: str | os.PathLike[str], overwrite: bool) -> None:
    """Refuse to overwrite an existing file, before long work begins.

    Raises:
        FileError: if `path` exists and `overwrite` is not set.
    """
    if not overwrite and os.path.lexists(path):
        raise FileError(f"{Path(path)}: is there already; choose another name, or replace it with --overwrite")
