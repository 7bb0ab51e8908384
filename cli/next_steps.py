"""What to run next, spelt so that it runs as it stands."""

import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from deepedit.files import pasted

SERVER = ("fastapi", "uvicorn", "python_multipart", "SimpleITK")
"""What the extra ``server`` brings."""


def spelt(command: str) -> str:
    """A command of this package as a shell finds it: by its name alone if that finds the one which lies beside the
    command that runs now, else with the folder that this one was called by, or as a module of this Python."""
    called, on_path = sys.argv[0], shutil.which(command)
    folder, name = os.path.split(called)
    if name.startswith("deepedit-"):
        beside = os.path.join(folder or os.curdir, command + os.path.splitext(name)[1])
        if os.path.isfile(beside):
            return command if on_path and os.path.samefile(on_path, beside) else shlex.quote(beside)
    as_module = os.path.dirname(os.path.realpath(called)) == os.path.dirname(os.path.realpath(__file__))
    if on_path and not as_module:
        return command
    return f"{shlex.quote(sys.executable)} -m deepedit_cli.{command.removeprefix('deepedit-')}"


def try_it(model: Path, images: Sequence[Path], result: Path) -> list[str]:
    """The lines with which to segment an image, and to click on it; that only where the extra ``server`` is installed.

    Args:
        model: file of the model.
        images: file of the image, or of each of its channels.
        result: file to be written.
    """
    segment = (("--model", model), ("--input", images[0]), ("--output", result))
    lines = [f"try it: {spelt('deepedit-infer')} {' '.join(pasted(*each) for each in segment)}"]
    if all(find_spec(package) for package in SERVER):
        files = " ".join([pasted("--image", images[0]), *(shlex.quote(str(path)) for path in images[1:])])
        lines.append(f"click on it: {spelt('deepedit-serve')} {pasted('--model', model)} {files} --open")
    return lines
