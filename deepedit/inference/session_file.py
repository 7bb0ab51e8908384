"""A session in a file: what was done to an image, what is shown, and what it takes to go on.

The file is a NumPy archive (.npz) without pickled objects: ``about``, JSON as bytes, and arrays.
"""

import hashlib
import json
import math
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deepedit.errors import FileError
from deepedit.files import brief, one_line, open_for_reading, parse_json, replace_atomically
from deepedit.inference.history import Answered, Change, Click, Entry, Locked, Step, Unlocked
from deepedit.inference.segmentation import Scene, Segmentation
from deepedit.inference.timeline import Timeline
from deepedit.io.click_files import PointClick
from deepedit.network.checkpoint import Model
from deepedit.plan import Labels
from deepedit.volume import Volume

FORMAT, VERSION = "deepedit session", 1
MOST_ABOUT = 2**26
"""Bytes of JSON that are read: a click takes about 60."""

MOST_BYTES = 2
"""Of a value in an array."""


def image_digest(volume: Volume) -> str:
    """What tells an image from others: of its voxels and its affine."""
    digest = hashlib.blake2b(digest_size=16)
    data = volume.data
    digest.update(repr((data.shape, data.dtype.kind, volume.affine.round(6).tolist())).encode())
    for plane in np.moveaxis(data, -1, 0):  # a plane at a time: files come with the first axis adjacent in memory
        digest.update(np.ascontiguousarray(plane.astype(plane.dtype.newbyteorder("<"), copy=False)))
    return digest.hexdigest()


def model_digest(model: Model) -> str:
    """What tells a model from others: of its plan and its weights."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps(model.plan.to_dict(), sort_keys=True).encode())
    for name, tensor in sorted(model.network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def write_session(path: str | Path, timeline: Timeline, image: str, model: Model) -> None:
    """Write a timeline that is worked out everywhere.

    Args:
        image: the digest of its image.
        model: its own.

    Raises:
        FileError: if it cannot be written; nothing is lost then.
    """
    state, names = timeline.state, model.plan.labels.class_names
    arrays = {"result": state.result, "logits": state.logits.cpu().numpy()}
    if timeline.done:
        first = timeline.before_all()
        arrays |= {"first_result": first.result, "first_logits": first.logits.cpu().numpy()}
    if timeline.scene.initial is not None:
        arrays["initial"] = timeline.scene.initial
    about = {
        "format": FORMAT,
        "version": VERSION,
        "image": image,
        "model": model_digest(model),
        **{
            part: [_entry(entry, names, arrays) for entry in entries]
            for part, entries in (("done", timeline.done), ("undone", timeline.undone))
        },
    }
    arrays["about"] = np.frombuffer(json.dumps(about).encode(), dtype=np.uint8)
    with replace_atomically(path) as stream:
        np.savez(stream, **arrays)


def read_session(
    path: str | Path, timeline: Timeline, image: str, model: Model, locate: Callable[[PointClick], Click]
) -> None:
    """Fill a new timeline from a file.

    The changes of its steps are not in the file: the steps that are undone are made anew, from the segmentation before
    the first of them, which is.

    Args:
        timeline: of the image; its scene must be without an initial segmentation.
        image: the image's digest.
        model: that of the session.
        locate: finds a click's place on the image.

    Raises:
        FileError: if the file is no session, is damaged, or belongs to another image or model.
        ClickError: if a click lies outside the image.
    """
    name = one_line(path)
    scene = timeline.scene
    try:
        with open_for_reading(path) as stream, zipfile.ZipFile(stream) as archive:
            about = _about(archive, name)
            for what, digest in (("image", image), ("model", model_digest(model))):
                if about.get(what) != digest:
                    raise FileError(
                        f"{name}: is a session of another {what}; open it with the {what} that it began with"
                    )
            grid = scene.grid.native_shape
            small = np.min_scalar_type(scene.num_classes - 1)
            logits = ((scene.num_classes, *scene.shape), np.dtype(np.float16))
            initial = _array(archive, "initial", grid, small) if "initial.npy" in archive.namelist() else None
            if initial is not None and int(initial.max()) >= scene.num_classes:
                raise ValueError("its initial segmentation holds classes that cannot be")
            scene = replace(scene, initial=initial)
            done, undone = (
                [_restored(entry, archive, scene, model.plan.labels, locate) for entry in about[part]]
                for part in ("done", "undone")
            )
            state = _segmentation(archive, scene, "", logits, small)
            first = _segmentation(archive, scene, "first_", logits, small) if done else None
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError, EOFError, zlib.error) as error:
        raise FileError(f"{name}: is no session, or damaged ({brief(error)}); begin a new one") from error
    for entry in done:
        state.remember_lock(entry.step)
    timeline.scene, timeline.state, timeline.first, timeline.done, timeline.undone = scene, state, first, done, undone


def _about(archive: zipfile.ZipFile, name: str) -> dict[str, Any]:
    if archive.getinfo("about.npy").file_size > MOST_ABOUT:
        raise ValueError("too much to tell")
    about = parse_json(_load(archive, "about").tobytes(), name)
    if about.get("format") != FORMAT:
        raise ValueError("it says so itself")
    if about.get("version") != VERSION:
        raise FileError(f"{name}: is of version {brief(about.get('version'))}, and this package reads {VERSION}")
    return about


def _entry(entry: Entry, names: Sequence[str], arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """A step as JSON; the voxels of a lock go to the arrays."""
    step, change = entry.step, entry.change
    known = {"voxels": list(change.voxels), "heard": [bool(each) for each in change.heard]}
    if isinstance(step, Answered):
        return {"clicks": [asdict(click.given) for click in step.clicks], **known}
    if isinstance(step, Unlocked):
        return {"unlock": names[step.label], **known}
    voxels = f"lock_{sum(key.startswith('lock_') for key in arrays)}"
    arrays[voxels] = np.packbits(step.voxels)
    return {"lock": names[step.label], "at": voxels, **known}


def _restored(
    entry: Mapping[str, Any],
    archive: zipfile.ZipFile,
    scene: Scene,
    labels: Labels,
    locate: Callable[[PointClick], Click],
) -> Entry:
    step: Step
    if "clicks" in entry:
        step = Answered(tuple(locate(_point_click(click)) for click in entry["clicks"]))
    elif "unlock" in entry:
        step = Unlocked(labels.index(entry["unlock"]))
    else:
        shape = scene.grid.native_shape
        count = math.prod(shape)
        packed = _array(archive, str(entry["at"]), (-(-count // 8),), np.dtype(np.uint8))
        step = Locked(labels.index(entry["lock"]), np.unpackbits(packed, count=count).reshape(shape).astype(bool))
    voxels, heard = tuple(map(int, entry["voxels"])), tuple(map(bool, entry["heard"]))
    if len(voxels) != scene.num_classes:
        raise ValueError("its changes are of other labels")
    return Entry(step, Change(None, voxels=voxels, heard=heard, kept=False))


def _point_click(entry: Mapping[str, Any]) -> PointClick:
    x, y, z = entry["position"]
    return PointClick(str(entry["label"]), (float(x), float(y), float(z)), str(entry["space"]))


def _segmentation(
    archive: zipfile.ZipFile, scene: Scene, prefix: str, logits: tuple[tuple[int, ...], np.dtype], small: np.dtype
) -> Segmentation:
    result = _array(archive, f"{prefix}result", scene.grid.native_shape, small)
    values = torch.from_numpy(_array(archive, f"{prefix}logits", *logits))
    if int(result.max()) >= scene.num_classes or not values.isfinite().all():
        raise ValueError("it holds classes or logits that cannot be")
    return Segmentation(scene, values.to(scene.image.device), result)


def _array(archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An array that must have this shape, and values that fit into this type."""
    # Its size is looked at first: a few bytes may claim to be a billion.
    if archive.getinfo(f"{name}.npy").file_size > math.prod(shape) * MOST_BYTES + 4096:
        raise ValueError(f"{name} is too large")
    array = _load(archive, name)
    if array.shape != shape or array.dtype.kind != dtype.kind:
        raise ValueError(f"{name} is of another shape or type")
    return array.astype(dtype, copy=False)


def _load(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    with archive.open(f"{name}.npy") as member:
        return np.lib.format.read_array(member, allow_pickle=False)
