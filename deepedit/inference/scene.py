"""What stays the same while one image is worked on, and the windows that its clicks need."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from deepedit.boxes import Box, overlap, three
from deepedit.defaults import OVERLAP
from deepedit.inference.history import Click
from deepedit.inference.locks import Locks
from deepedit.inference.merge import RIM
from deepedit.inference.sliding_window import Triple, window_around, window_starts
from deepedit.network.checkpoint import Model
from deepedit.transforms.geometry import GridMap


@dataclass(frozen=True)
class Scene:
    """What stays the same while one image is worked on.

    Attributes:
        model: in evaluation mode.
        image: ``[C, *network_shape]`` float32.
        grid: between the image's own grid and the network's.
        window: sides of the network's windows, voxels.
        initial: class indices of the initial segmentation on the image's own grid; None without one.
        locks: what is locked in that from the start.
        amp, tta, overlap, skip_air: of the passes, see `sliding_window`.
    """

    model: Model
    image: Tensor
    grid: GridMap
    window: Triple
    initial: np.ndarray | None = None
    locks: Locks | None = None
    amp: str = "auto"
    tta: bool = False
    overlap: float = OVERLAP
    skip_air: bool = False

    @property
    def shape(self) -> Triple:
        """Of the network's grid."""
        return three(self.image.shape[1:])

    @property
    def num_classes(self) -> int:
        return self.model.plan.labels.num_classes

    @cached_property
    def is_one_window(self) -> bool:
        """Whether one window of the network covers the image."""
        return len(list(window_starts(self.shape, self.window, self.overlap))) == 1

    def place(self, start: Triple) -> Box:
        """The part of the network's grid that the window at `start` covers."""
        return overlap(start, self.window, self.shape)[0]

    @cached_property
    def initial_on_network(self) -> Tensor | None:
        """The initial segmentation on the network's grid."""
        if self.initial is None:
            return None
        classes = self.initial.astype(np.uint8 if self.num_classes <= 256 else np.int16)
        return self.grid.labels_to_network(torch.from_numpy(classes).to(self.image.device), self.num_classes)


def windows_of(clicks: Sequence[Click], scene: Scene) -> Iterator[tuple[Triple, list[Click]]]:
    """The windows that answer clicks, each with those that it answers.

    A window is placed around the first click that has none, and takes all others that lie in it where its answer counts
    in full.
    """
    left = list(clicks)
    while left:
        start = window_around(left[0].target, scene.shape, scene.window)
        place = scene.place(start)
        full = [
            slice(
                span.start + (math.ceil((span.stop - span.start) / RIM) if span.start > 0 else 0),
                span.stop - (math.ceil((span.stop - span.start) / RIM) if span.stop < size else 0),
            )
            for span, size in zip(place, scene.shape, strict=True)
        ]
        own = [
            click
            for click in left
            if click is left[0]
            or all(span.start <= at < span.stop for at, span in zip(click.target, full, strict=True))
        ]
        taken = set(map(id, own))
        left = [click for click in left if id(click) not in taken]
        yield start, own
