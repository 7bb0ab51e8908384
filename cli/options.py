"""The options that several command lines share, in the same words everywhere, and what an argument may be.

Each command puts its options into groups with the same titles, in the same order. What stands in the place of a value
is its kind or its unit, such as ``FILE``, ``N`` or ``MM``.
"""

import argparse
import math
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from deepedit.defaults import OVERLAP
from deepedit.errors import DeepEditError
from deepedit.plan import MAX_SPACING, MIN_SPACING
from deepedit.volume import AFFINES, DEFAULT_READING, UNITS, Reading
from deepedit_cli.common import UsageError


def add_shared(options: argparse._ActionsContainer, *names: str, **changes: Any) -> None:
    """Add options of `SHARED`; `changes` are what is different here, by the keywords of ``add_argument``."""
    for name in names:
        options.add_argument(name, **{**SHARED[name], **changes})


def add_reading(options: argparse._ActionsContainer, model: str = "the model", otherwise: bool = False) -> None:
    """Add ``--affine`` and ``--units``, which say how headers are read that contradict themselves or are wrong.

    Args:
        model: what the default comes from.
        otherwise: whether there may be no such model, so that the help tells what holds then.
    """
    for name, choices, meaning in (
        ("affine", AFFINES, "which affine is used if an image has both"),
        ("units", UNITS, "unit of lengths: as headers say, or always mm"),
    ):
        default = f"as {model} was trained" + (f", else {getattr(DEFAULT_READING, name)}" if otherwise else "")
        options.add_argument(f"--{name}", choices=choices, help=f"{meaning} (default: {default})")


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


def chosen_reading(options: Any, default: Reading) -> Reading:
    """The `Reading` given by ``--affine`` and ``--units``; what is not given is taken from `default`."""
    given = {name: value for name in ("affine", "units") if (value := getattr(options, name)) is not None}
    return replace(default, **given)


def positive_int(text: str) -> int:
    """A whole number from 1 on."""
    return int(_number(text, int, "a whole number from 1 on", 1))


def count(text: str) -> int:
    """A whole number from 0 on."""
    return int(_number(text, int, "a whole number from 0 on", 0))


def port(text: str) -> int:
    """The number of a port, or 0 for one that is free."""
    return int(_number(text, int, "a port from 0 to 65535", 0, 65535))


def gibibytes(text: str) -> float:
    """An amount of memory or disk space in GiB."""
    return _number(text, float, "a number of GiB above 0, and at most 1,000,000", sys.float_info.min, 1e6)


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
    if text in ("auto", "cpu"):  # so that completion in a shell does not wait for torch
        return text
    from deepedit.network.inputs import pick_device

    try:
        return str(pick_device(text))
    except DeepEditError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


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


SHARED: dict[str, dict[str, Any]] = {
    "--model": {"type": Path, "required": True, "metavar": "FILE", "help": "model.pt, as deepedit-train writes it"},
    "--overwrite": {"action": "store_true", "help": "replace what is there already"},
    "--limit": {"type": positive_int, "metavar": "N"},
    "--max-clicks": {"type": count, "metavar": "N"},
    "--map": {
        "action": "append",
        "default": [],
        "type": value_and_label,
        "metavar": "VALUE=LABEL",
        "help": "label of a value in --initial-segmentation, as 255=spleen; may be given several times",
    },
    "--same-grid": {
        "action": "store_true",
        "help": "take --initial-segmentation voxel by voxel, whatever its affine says",
    },
    "--seed": {"type": count, "metavar": "N"},
    "--device": {
        "type": device,
        "default": "auto",
        "metavar": "NAME",
        "help": "cpu, cuda, cuda:1, ...; auto takes a GPU if there is one (default: auto)",
    },
    "--amp": {"choices": ("auto", "off"), "default": "auto", "help": "mixed precision (default: auto)"},
    "--overlap": {
        "type": overlap,
        "default": OVERLAP,
        "metavar": "SHARE",
        "help": "overlap of the windows of a large image, from 0 to 0.9 (default: %(default)g)",
    },
    "--skip-air": {
        "action": "store_true",
        "help": "for CT: leave out windows that hold only air; they become background",
    },
    "--tta": {
        "action": "store_true",
        "help": "test-time augmentation: the mean of two answers to each click, and for what one window covers, in "
        "twice the time",
    },
}
"""What ``add_argument`` is given for each option that several command lines have, by its name."""
