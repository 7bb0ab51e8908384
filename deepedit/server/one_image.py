"""One image in the place of a folder of studies."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from deepedit.errors import FileError
from deepedit.files import one_line
from deepedit.io.msd import read_case
from deepedit.io.pairing import Case
from deepedit.io.suffixes import IMAGES, READ, ending, parts, stem
from deepedit.plan import Plan
from deepedit.server.names import safe_id
from deepedit.server.scratch import Scratch


def folder_of(images: Sequence[Path], plan: Plan) -> Scratch:
    """A temporary folder of studies with one case, whose files are links, so that nothing is written beside them.

    Args:
        images: the files of its channels, in order.
        plan: of the model.

    Raises:
        FileError: if one of them cannot be read, or the model takes another number of channels.
    """
    for path in images:
        if not path.is_file():
            raise FileError(f"--image {one_line(path)}: {'is no file' if path.exists() else 'no such file'}")
        if not ending(path.name, IMAGES):
            raise FileError(f"--image {one_line(path)}: only {', '.join(IMAGES)} are read")
    channels = read_case(Case(stem(images[0].name), tuple(images)), plan.reading).channels
    if channels != plan.image_channels:
        raise FileError(
            f"--image {one_line(images[0])}: {channels} channels, and the model takes {plan.image_channels}; give a "
            "file with all of them, or the file of each, in the order of the training"
        )
    scratch = Scratch()
    studies = scratch.path / "studies"
    studies.mkdir()
    name = safe_id(stem(images[0].name))
    for channel, path in enumerate(images):
        called = name if len(images) == 1 else f"{name}_{channel:04d}"
        own = len(path.name) - len(ending(path.name, READ))
        for part in parts(path):
            _link(part, studies / f"{called}{part.name[own:]}")
    return scratch


def _link(file: Path, link: Path) -> None:
    try:
        link.symlink_to(file.resolve())
    except OSError:  # as on Windows without a privilege
        shutil.copyfile(file, link)
