"""What a segmentation will need, said before it is allocated, and what it holds."""

import math
from collections.abc import Iterator

import numpy as np
from torch import Tensor

from deepedit.devices import free_on_gpu
from deepedit.errors import ImageTooLargeError
from deepedit.files import available_memory
from deepedit.inference.history import Change, Locked
from deepedit.inference.locks import Locks
from deepedit.inference.segmentation import Segmentation
from deepedit.inference.timeline import Timeline
from deepedit.network.checkpoint import Model
from deepedit.transforms.geometry import GridMap, Shape
from deepedit.transforms.preprocess import Preprocessor
from deepedit.volume import Volume


def refuse_too_large(grid: GridMap, model: Model) -> None:
    """Raise an ImageTooLargeError with an estimate if the segmentation of an image would not fit into memory."""
    plan, device = model.plan, model.device
    # float32 image, sum of logits and weights; float16 logits; a byte each for what was decided. The sum is made on the
    # CPU where a GPU has no room for it.
    each_class = 6 if device.type == "cpu" else 2
    needed = math.prod(grid.network_shape) * (4 * plan.image_channels + each_class * plan.labels.num_classes + 5)
    needed += math.prod(grid.native_shape) * (4 * plan.image_channels + 2)
    free = free_on_gpu(device, needed) if device.type == "cuda" else available_memory()
    if free is not None and needed > free:
        raise ImageTooLargeError(
            f"an image of {sides(grid.native_shape)} voxels, {sides(grid.network_shape)} at the model's spacing, "
            f"takes about {needed / 2**30:.1f} GiB of memory and {free / 2**30:.1f} GiB are free; "
            "crop the image or resample it"
        )


def expected_memory(volume: Volume, model: Model) -> int:
    """The bytes that a session on an image will hold about, before any click."""
    plan = model.plan
    grid = Preprocessor(plan).grid(volume.shape, volume.affine)
    each_voxel = 4 * plan.image_channels + 2 * plan.labels.num_classes + 1  # image, logits, their decision
    return math.prod(grid.network_shape) * each_voxel + math.prod(grid.native_shape) * 2


def memory_of(timeline: Timeline) -> dict[int, int]:
    """The bytes of each piece of memory that a timeline holds, by its address; clicks and the like are not counted."""
    held = {}
    for values in _arrays_of(timeline):
        if isinstance(values, Tensor):
            storage = values.untyped_storage()
            held[storage.data_ptr()] = storage.nbytes()
        elif values is not None:
            while isinstance(values.base, np.ndarray):
                values = values.base
            held[values.__array_interface__["data"][0]] = values.nbytes
    return held


def _arrays_of(timeline: Timeline) -> Iterator[Tensor | np.ndarray | None]:
    scene = timeline.scene
    yield from (scene.image, scene.initial)
    yield from _arrays_of_locks(scene.locks)
    if "initial_on_network" in scene.__dict__:  # worked out yet
        yield scene.initial_on_network
    for state in (timeline.state, timeline.first):
        if state is not None:
            yield from _arrays_of_segmentation(state)
    for entry in (*timeline.done, *timeline.undone):
        yield from _arrays_of_change(entry.change)
        if isinstance(entry.step, Locked):
            yield entry.step.bits


def _arrays_of_segmentation(state: Segmentation) -> Iterator[Tensor | np.ndarray | None]:
    yield from (state.logits, state.classes, state.decided, state.result, state.known)
    yield from _arrays_of_locks(state.locks)


def _arrays_of_change(change: Change) -> Iterator[Tensor | np.ndarray | None]:
    yield change.classes
    yield from (logits for _, logits in change.windows)
    yield from _arrays_of_locks(change.locks)


def _arrays_of_locks(locks: Locks | None) -> Iterator[Tensor | np.ndarray]:
    if locks is not None:
        yield from (locks.voxels, locks.on_network)


def sides(shape: Shape) -> str:
    """A shape as people write it."""
    return " x ".join(map(str, shape))
