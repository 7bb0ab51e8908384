"""Fine-tuned models that are served in place of the model that they derive from, which itself is never written to.

STUDIES/.deepedit/models/<digest of the model's file>/adopted.json    which file is served, and why
STUDIES/.deepedit/models/<digest of the model's file>/<time>.pt       the models that were adopted, the newest in use

Where a model's file changes, as it does when its run is made anew, it has another digest, and is served itself.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deepedit.errors import DeepEditError, FileError
from deepedit.files import make_folder, one_line, open_for_reading, read_json, replace_atomically
from deepedit.server.catalogue import OWN

RECORD = "adopted.json"


def adopted_model(model: Path, studies: Path) -> tuple[Path, str]:
    """The file to serve for a model: the newest that was adopted in its place, or else the model itself.

    Args:
        model: the file that the user named.
        studies: the folder of studies that it is served for.

    Returns:
        The file, and a line for the user that says which it is.

    Raises:
        FileError: if the model's file cannot be read.
    """
    folder = adoption_folder(model, studies)
    if not (folder / RECORD).exists():
        return model, f"serving {one_line(model)}"
    try:
        record = read_json(folder / RECORD)
        path = folder / Path(str(record.get("file"))).name
        if file_digest(path) != record.get("digest"):
            raise FileError(f"{one_line(path)}: is not the file that was adopted")
    except DeepEditError as error:
        return model, f"serving {one_line(model)}, as the model that was fine-tuned from it cannot be read: {error}"
    return path, (
        f"serving {one_line(path)}, which was fine-tuned from {one_line(model)} on these studies "
        f"({one_line(record.get('why'), 300)}); to serve the model itself, remove {one_line(folder)}"
    )


def adopt_file(new: Path, name: str, folder: Path) -> Path:
    """Copy a fine-tuned model to where adopted models lie; it is served after `record_adoption` only.

    Args:
        name: of the copy, which nothing has yet.
        folder: see `adoption_folder`.

    Raises:
        FileError: if a file cannot be read or written.
    """
    make_folder(folder)
    target = folder / f"{name}.pt"
    with open_for_reading(new) as source, replace_atomically(target) as stream:
        shutil.copyfileobj(source, stream)
    return target


def record_adoption(path: Path, why: str, more: Mapping[str, Any]) -> None:
    """Remember that a file that `adopt_file` wrote is served from now on.

    Args:
        why: told to the user at the next start.
        more: anything else to remember, fit for JSON.

    Raises:
        FileError: if the record cannot be written.
    """
    record = {"file": path.name, "digest": file_digest(path), "why": why, **more}
    with replace_atomically(path.parent / RECORD) as stream:
        stream.write(json.dumps(record, indent=1).encode())


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content.

    Raises:
        FileError: if it cannot be read.
    """
    digest = hashlib.sha256()
    with open_for_reading(path) as stream:
        while block := stream.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def adoption_folder(model: Path, studies: Path) -> Path:
    """Where the models lie that were adopted in the place of a model, which is known by the content of its file.

    Raises:
        FileError: if the model's file cannot be read.
    """
    return studies / OWN / "models" / file_digest(model)[:32]
