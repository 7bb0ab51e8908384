"""What is asked of the sessions of a model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

EMPTY = "empty"
"""The start that is background everywhere."""


@dataclass(frozen=True)
class Question:
    """What a request asks.

    Attributes:
        images: the file of an image, or of each of its channels.
        clicks: voxels of the file's grid by label, those of each label in order.
        newest: the label that was clicked last, as far as that is known.
        start: a label map, in file values, that is to be corrected; None: the automatic result.
        tta: test-time augmentation.
    """

    images: tuple[Path, ...]
    clicks: Mapping[str, Sequence[Sequence[float]]] = field(default_factory=dict)
    newest: str | None = None
    start: Path | None = None
    tta: bool = False


@dataclass(frozen=True)
class Place:
    """Where a session is to be: what a page asks for.

    Attributes:
        images: the file of an image, or of each of its channels.
        steps: all of them, see `deepedit.server.steps.placed_steps`.
        start: a label map, in file values, that is to be corrected; `EMPTY`; None: the automatic result.
        tta: test-time augmentation.
    """

    images: tuple[Path, ...]
    steps: Sequence[Mapping[str, object]] = ()
    start: Path | str | None = None
    tta: bool = False
