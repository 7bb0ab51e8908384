"""A session in a file: what was done to an image, what is shown, and what it takes to go on.

The file is a NumPy archive (.npz) without pickled objects: ``about``, JSON as bytes, and arrays.
"""

import hashlib
import json
import math
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deepedit.errors import DeepEditError, FileError
from deepedit.files import brief, one_line, open_for_reading, parse_json, replace_atomically
from deepedit.inference.history import Answered, Change, Click, Entry, Locked, Step, Unlocked
from deepedit.inference.locks import Locks
from deepedit.inference.scene import Scene
from deepedit.inference.segmentation import Segmentation
from deepedit.inference.timeline import Timeline
from deepedit.io.click_files import PointClick
from deepedit.network.checkpoint import Model
from deepedit.network.inputs import at_precision
from deepedit.plan import Labels
from deepedit.volume import Volume

FORMAT, VERSION = "deepedit session", 1
MOST_ABOUT = 2**26
"""Bytes of JSON that are read: a click takes about 60."""

PASSES = {"amp": str, "tta": bool, "overlap": float, "skip_air": bool}
"""Options of a session that its answers depend on, and their types."""


def image_digest(volume: Volume) -> str:
    """What tells an image from others: of its voxels and its affine."""
    digest = hashlib.blake2b(digest_size=16)
    data = volume.data
    digest.update(repr((data.shape, (volume.affine.round(6) + 0.0).tolist())).encode())  # + 0.0: there is no -0.0
    # As float32, so that it does not matter whether an image comes as a file or as an array of another type. A plane at
    # a time: files come with the first axis adjacent in memory.
    for plane in np.moveaxis(data, -1, 0):
        digest.update(np.ascontiguousarray(plane, dtype="<f4").data)
    return digest.hexdigest()


def model_digest(model: Model) -> str:
    """What tells a model from others: of its plan and its weights."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps(model.plan.to_dict(), sort_keys=True).encode())
    for network in (model.network, model.refiner):
        for name, tensor in sorted(network.state_dict().items()) if network is not None else ():
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
    state, scene, names = timeline.whole(), timeline.scene, model.plan.labels.class_names
    arrays: dict[str, Any] = {"result": state.result, "logits": state.logits.cpu().numpy()}
    if timeline.done:
        first = timeline.before_all()
        arrays |= {"first_result": first.result, "first_logits": first.logits.cpu().numpy()}
    if scene.initial is not None:
        arrays["initial"] = scene.initial.astype(state.result.dtype)
    about = {
        "format": FORMAT,
        "version": VERSION,
        "image": image,
        "model": model_digest(model),
        "locked": [names[label] for label in sorted(scene.locks.classes)] if scene.locks else [],
        "passes": {name: getattr(scene, name) for name in PASSES},
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
            small = np.dtype(np.uint8 if scene.num_classes <= 256 else np.int16)
            logits = ((scene.num_classes, *scene.shape), np.dtype(np.float16))
            initial = _array(archive, "initial", grid, small) if "initial.npy" in archive.namelist() else None
            if initial is not None and int(initial.max()) >= scene.num_classes:
                raise ValueError("its initial segmentation holds classes that cannot be")
            locked = frozenset(model.plan.labels.index(str(label)) for label in about.get("locked", ()))
            locks = None
            if locked and initial is not None:
                locks = Locks.of_labels(locked, initial, scene.grid, scene.num_classes, scene.image)
            passes, answering = _passes(about["passes"]), scene.model
            if passes["amp"] != scene.amp:
                answering = replace(model, network=at_precision(model.network, model.device, passes["amp"]))
            scene = replace(scene, model=answering, initial=initial, locks=locks, **passes)
            done, undone = (
                [_restored(entry, archive, scene, model.plan.labels, locate) for entry in about[part]]
                for part in ("done", "undone")
            )
            state = _segmentation(archive, scene, "", logits, small)
            first = _segmentation(archive, scene, "first_", logits, small) if done else None
            for entry in done:
                state.remember_lock(entry.step)
    except DeepEditError:
        raise
    except Exception as error:  # what a damaged archive raises is of a dozen types
        raise FileError(f"{name}: is no session, or damaged ({brief(error)}); begin a new one") from error
    timeline.scene, timeline.state, timeline.first, timeline.done, timeline.undone = scene, state, first, done, undone


def _passes(entries: Mapping[str, Any]) -> dict[str, Any]:
    passes = {name: entries[name] for name in PASSES}
    if not all(type(passes[name]) is kind for name, kind in PASSES.items()) or not 0 <= passes["overlap"] < 1:
        raise ValueError("its options are of other types")
    return passes


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
    arrays[voxels] = step.bits
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
        bits = _array(archive, str(entry["at"]), (-(-math.prod(shape) // 8),), np.dtype(np.uint8))
        step = Locked(labels.index(entry["lock"]), bits, shape)
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
    """An array that must have this shape and this type."""
    # Its header is looked at first: a few bytes may claim to be a billion.
    with archive.open(f"{name}.npy") as member:
        version = np.lib.format.read_magic(member)
        if version != (1, 0):
            raise ValueError(f"{name} has a header of another version")
        found, _, kind = np.lib.format.read_array_header_1_0(member)
    if found != shape or kind != dtype:
        raise ValueError(f"{name} is of another shape or type")
    return _load(archive, name)


def _load(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    with archive.open(f"{name}.npy") as member:
        return np.lib.format.read_array(member, allow_pickle=False)
