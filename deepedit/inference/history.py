"""What was done to a segmentation, in order: clicks that were answered together, and locks."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from deepedit.boxes import Box
from deepedit.inference.locks import Locks
from deepedit.io.click_files import PointClick

Triple = tuple[int, int, int]


@dataclass(frozen=True)
class Click:
    """A click, and where it lies.

    Attributes:
        given: as it was given.
        label: class index.
        voxel: of the image's own grid.
        place: on the network's grid, exactly, in voxels; there it is shown to the network at the nearest voxel,
            `target`.
    """

    given: PointClick
    label: int
    voxel: Triple
    place: tuple[float, float, float]
    target: Triple


@dataclass(frozen=True)
class Answered:
    """Clicks that were answered together."""

    clicks: tuple[Click, ...]


@dataclass(frozen=True, eq=False)
class Locked:
    """A label that was locked.

    Attributes:
        label: class index.
        bits: the voxels of the image's own grid that had the label then, eight to a byte.
        shape: of that grid.
    """

    label: int
    bits: np.ndarray
    shape: Triple

    @classmethod
    def of(cls, label: int, voxels: np.ndarray) -> "Locked":
        """The lock of a label with these voxels ``[X, Y, Z]`` bool."""
        return cls(label, np.packbits(voxels), voxels.shape)

    @property
    def voxels(self) -> np.ndarray:
        """``[X, Y, Z]`` bool, those that had the label."""
        return np.unpackbits(self.bits, count=math.prod(self.shape)).reshape(self.shape).astype(bool)


@dataclass(frozen=True)
class Unlocked:
    """A label that was unlocked."""

    label: int


Step = Answered | Locked | Unlocked


class Start(NamedTuple):
    """What the steps of a session began with.

    Attributes:
        initial: ``[X, Y, Z]`` class indices of the initial segmentation; None for the automatic result.
        locked: labels that were approved in it.
        passes: options of the network's passes, as of `deepedit.inference.session.InteractiveSession`.
    """

    initial: np.ndarray | None
    locked: tuple[str, ...]
    passes: dict[str, Any]


@dataclass
class Change:
    """What a step changed. A segmentation and a change can be swapped: what was before comes back, and the change then
    holds what was after.

    Attributes:
        box: the smallest box of the image's own grid that holds all voxels that changed; None if none did.
        redraw: the same, with what was worked out on the way, where the automatic result was missing.
        classes: of the result in that box.
        windows: boxes of the network's grid, each with its logits ``[C, ...]``, float16.
        locks: what was locked.
        relocks: whether that changed.
        voxels: by how many voxels each class grew, when the step was made.
        heard: of each click, whether the network's answer alone gave its voxel the label; single values, perhaps still
            on a device.
        kept: whether `classes`, `windows` and `locks` are still held.
    """

    locks: Locks | None
    windows: list[tuple[Box, Tensor]] = field(default_factory=list)
    relocks: bool = False
    box: Box | None = None
    redraw: Box | None = None
    classes: np.ndarray | None = None
    voxels: tuple[int, ...] = ()
    heard: tuple[Tensor | bool, ...] = ()
    kept: bool = True

    @property
    def bytes(self) -> int:
        """Of memory that forgetting it would free."""
        held = sum(logits.nbytes for _, logits in self.windows)
        if self.relocks and self.locks is not None:
            held += self.locks.voxels.nbytes + self.locks.on_network.nbytes
        return held + (0 if self.classes is None else self.classes.nbytes)

    def forget(self) -> None:
        """Hold no more than its size and what is known of its clicks."""
        self.windows, self.classes, self.locks, self.kept = [], None, None, False


@dataclass
class Entry:
    """A step and what it changed."""

    step: Step
    change: Change


def clicks_of(entries: Iterable[Entry]) -> list[Click]:
    """All clicks, in order."""
    return [click for entry in entries if isinstance(entry.step, Answered) for click in entry.step.clicks]


def without_click(steps: Sequence[Step], number: int) -> tuple[int, list[Step]]:
    """The steps without a click.

    Args:
        number: of the click, counted over all of them.

    Returns:
        The place of the step that had it, and all steps from there on.
    """
    for index, step in enumerate(steps):
        if not isinstance(step, Answered):
            continue
        if number < len(step.clicks):
            rest = step.clicks[:number] + step.clicks[number + 1 :]
            return index, [*([Answered(rest)] if rest else []), *steps[index + 1 :]]
        number -= len(step.clicks)
    raise IndexError(number)
