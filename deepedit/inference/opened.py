"""An image that a model was given, and the timeline of what is done to its segmentation."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from deepedit.defaults import OVERLAP
from deepedit.errors import DeepEditError, FileError
from deepedit.files import one_line
from deepedit.inference.locks import Locks
from deepedit.inference.memory import memory_of, refuse_too_large
from deepedit.inference.scene import Scene
from deepedit.inference.session_file import image_digest
from deepedit.inference.sliding_window import window_shape
from deepedit.inference.timeline import Timeline
from deepedit.io.values import image_values
from deepedit.io.volumes import read_volume
from deepedit.network.checkpoint import Model
from deepedit.network.inputs import at_precision
from deepedit.transforms.preprocess import Preprocessor
from deepedit.volume import Volume


class OpenedImage:
    """A model, an image that it was given, and what was done to the segmentation of that.

    Args:
        model, amp, overlap, skip_air, tta: as of `deepedit.inference.session.InteractiveSession`.

    Attributes:
        notes: a line for each thing worth knowing of the files and clicks since the image was opened.
    """

    def __init__(
        self,
        model: Model,
        amp: str = "auto",
        overlap: float = OVERLAP,
        skip_air: bool = False,
        tta: bool = False,
    ) -> None:
        self.model = model
        self._answering = replace(model, network=at_precision(model.network, model.device, amp))
        self._passes: dict[str, Any] = {"amp": amp, "overlap": overlap, "skip_air": skip_air, "tta": tta}
        self._preprocess = Preprocessor(model.plan, model.device)
        self._volume: Volume | None = None
        self._timeline: Timeline | None = None
        self.notes: list[str] = []
        self._segmentation_notes: list[str] = []

    @property
    def image(self) -> Volume:
        """The grid and the header of the image, without its voxels."""
        return self._require_image()

    @property
    def is_partial(self) -> bool:
        """Whether clicks have been answered in their windows while the automatic result of others is still missing.

        `predict`, and all that tells of the whole volume, works that out and then answers the clicks anew, so that the
        result is the same as if the automatic result had been there before the first click.
        """
        return self._timeline is not None and self._timeline.is_partial

    @property
    def memory(self) -> dict[int, int]:
        """The bytes of each piece of memory that the session holds, by its address; a fork may hold some of them too.
        The model's are not among them."""
        return {} if self._timeline is None else memory_of(self._timeline)

    def _read(self, image: str | Path | Volume | np.ndarray, affine: np.ndarray | None) -> tuple[Volume, list[str]]:
        """A volume, and what is worth knowing of its file."""
        if isinstance(image, np.ndarray):
            refuse_values(image)
            return Volume(image, np.eye(4) if affine is None else affine), []
        if affine is not None:
            raise DeepEditError("`affine` is that of an array, and this image has its own; leave it out")
        if isinstance(image, Volume):
            refuse_values(image.data)
            return image, []
        reading = self.model.plan.reading
        volume = read_volume(image, reading.affine, reading.units)
        return volume, [f"{one_line(image)}: {note}" for note in volume.notes]

    def _open(self, volume: Volume) -> None:
        refuse_too_large(self._preprocess.grid(volume.shape, volume.affine), self.model)
        tensor, grid = self._preprocess(volume)
        window = window_shape(tensor.shape[1:], self.model.plan.patch_size, self.model.network.config.divisor)
        self._digest = image_digest(volume)
        # Only the grid is still needed: the header to write results with, not the voxels.
        self._volume = replace(volume, data=np.broadcast_to(np.uint8(0), volume.shape))
        self._timeline = Timeline(Scene(self._answering, tensor, grid, window, **self._passes))

    def _start_over(self, initial: np.ndarray | None, notes: list[str], locks: Locks | None = None) -> None:
        """Begin anew from an initial segmentation, or without; `notes` are of that."""
        self._timeline = Timeline(replace(self._require_timeline().scene, initial=initial, locks=locks))
        if locks is not None:  # clicks are held against what is shown
            self._require_timeline().whole()
        self.notes = [note for note in self.notes if note not in self._segmentation_notes]
        self._segmentation_notes = notes
        for note in notes:
            self._note(note)

    def _note(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)

    def _require_image(self) -> Volume:
        if self._volume is None:
            raise DeepEditError("the session has no image yet; call set_image first")
        return self._volume

    def _require_timeline(self) -> Timeline:
        self._require_image()
        assert self._timeline is not None
        return self._timeline


def refuse_values(data: np.ndarray) -> None:
    """Refuse an image in memory that would be refused as a file.

    Raises:
        FileError: if it has no voxels, or values that are not real and finite numbers.
    """
    if not data.size:
        raise FileError(f"the array has no voxels: its shape is {data.shape}")
    if data.dtype.kind not in "buif":
        raise FileError(f"the array has values of type {data.dtype}; give real numbers")
    if data.dtype.kind == "f":
        image_values(data.reshape(-1), "the array")
