"""A folder of studies as MONAI Label describes a datastore to its clients."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deepedit.io.studies_folder import FINAL, LABELS, ORIGINAL, StudiesFolder
from deepedit.io.suffixes import READ, ending
from deepedit.plan import Labels
from deepedit.server.facts import Facts

SENT_SERIES = ".nii.gz"
"""The format in which a viewer gets a DICOM series."""


def listing(found: StudiesFolder, labels: Labels, facts: Facts, name: str) -> dict[str, Any]:
    """The answer to ``GET /datastore/?output=all``.

    Args:
        labels: of the model. Slicer reads their order for an ``original`` label, which is sent to it as
            `deepedit.server.submits.write_ranks` writes it.
        facts: what clients told about images and label maps.
        name: of the folder.
    """
    ranks = {label: rank for rank, label in enumerate(labels.names, 1)}
    objects = {}
    for each, case in found.cases.items():
        versions = {}
        for tag in dict.fromkeys((FINAL, *found.labels)):
            if (path := found.label(each, tag)) is not None:
                versions[tag] = _entry(path, facts.get(facts_key(each, tag)))
                if tag == ORIGINAL:
                    versions[tag]["info"]["params"] = {"label_names": ranks}
        objects[each] = {"image": _entry(case.image[0], facts.get(facts_key(each))), "labels": versions}
    return {"name": name, "description": "", "images_dir": ".", "labels_dir": LABELS, "objects": objects}


def described(path: Path) -> dict[str, Any]:
    """When a file was changed, in seconds, and what it is called; a DICOM series is called as the file that is sent."""
    try:
        changed = int(path.stat().st_mtime)
    except OSError:  # it is gone by now
        changed = 0
    return {"ts": changed, "name": path.name + SENT_SERIES * path.is_dir()}


def facts_key(case_id: str, tag: str | None = None) -> str:
    """The key of the facts about an image, or about one of its label maps."""
    return f"image {case_id}" if tag is None else f"label {tag} {case_id}"  # a tag has no space


def _entry(path: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "ext": SENT_SERIES if path.is_dir() else path.name[len(path.name) - len(ending(path.name, READ)) :],
        "info": {**facts, **described(path)},
    }
