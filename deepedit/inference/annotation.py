"""The simulated annotator at work: looks at a session's result, clicks where it is most wrong, looks again."""

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from deepedit.clicks.largest_error import counted_class, largest_error_click
from deepedit.inference.session import InteractiveSession


@dataclass(frozen=True, eq=False)
class Round:
    """What the session showed after a number of clicks.

    Attributes:
        clicks: how many so far; 0 is the automatic result, or the segmentation that was given.
        classes: ``[X, Y, Z]`` class indices on the image's own grid.
        voxel, label: the newest click, on that grid, and its class index; None before the first.
        seconds: from the click, or from the question, to the result.
        obeyed_alone: see `InteractiveSession.obeyed_alone`; None before the first click.
    """

    clicks: int
    classes: np.ndarray
    voxel: tuple[int, int, int] | None
    label: int | None
    seconds: float
    obeyed_alone: bool | None


def annotate(
    session: InteractiveSession,
    truth: np.ndarray,
    max_clicks: int,
    unknown: np.ndarray | None = None,
    *,
    first: tuple[tuple[int, int, int], int] | None = None,
    max_per_class: int | None = None,
) -> Iterator[Round]:
    """Click the deepest voxel of the largest error, time and again, until nothing is wrong or the clicks are used up.

    Args:
        session: with its image set, and a segmentation, if the clicks are to correct one.
        truth: ``[X, Y, Z]`` class indices on the image's own grid.
        max_clicks: at most that many.
        unknown: ``[X, Y, Z]`` bool, where the truth is not known; it and the rounds have background there, so that
            nothing is clicked, nor counted.
        first: voxel and class index of a first click that is made whatever is wrong.
        max_per_class: at most that many clicks count for each foreground class, see `counted_class`.

    Yields:
        The state before the first click, then one after each. A click more changes nothing once all is right, so
        there are fewer rounds then.
    """
    start = time.perf_counter()
    classes = _known_classes(session, unknown)
    yield Round(0, classes, None, None, time.perf_counter() - start, None)
    made: Counter[int] = Counter()
    for count in range(1, max_clicks + 1):
        used_up = {index for index, clicks in made.items() if clicks == max_per_class}
        click = first if count == 1 and first is not None else largest_error_click(classes, truth, used_up)
        if click is None:
            return
        voxel, label = click
        made[counted_class(label, classes[voxel])] += 1
        start = time.perf_counter()
        session.add_click(voxel, session.model.plan.labels.class_names[label])
        classes = _known_classes(session, unknown)
        yield Round(count, classes, voxel, label, time.perf_counter() - start, session.obeyed_alone)


def _known_classes(session: InteractiveSession, unknown: np.ndarray | None) -> np.ndarray:
    """``[X, Y, Z]`` class indices that a session shows, with background where the truth is not known."""
    classes = session.model.plan.labels.to_classes(session.predict())
    return classes if unknown is None else np.where(unknown, 0, classes)
