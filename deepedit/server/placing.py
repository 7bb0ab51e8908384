"""Clicks of a request, checked and put on the voxels of the image."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from deepedit.boxes import three
from deepedit.errors import ClickError
from deepedit.files import brief, one_line
from deepedit.inference.history import Triple
from deepedit.plan import Labels
from deepedit.transforms.geometry import nearest_voxel

MOST_CLICKS = 2000
"""In one request; each takes a pass of the network if it comes to the worst."""


def placed_clicks(
    clicks: Mapping[str, Sequence[Sequence[float]]], labels: Labels, shape: Sequence[int]
) -> tuple[dict[int, list[Triple]], list[str]]:
    """Voxels by class index, and a line on each click that was moved.

    Viewers round positions on the border of the image to voxels just outside of it; these are moved inside.

    Args:
        clicks: positions by label name, as they were sent.
        shape: of the image.

    Raises:
        ClickError: if a label is unknown, a click is no three numbers or lies farther outside, or there are too many.
    """
    found: dict[int, list[Triple]] = {}
    notes: list[str] = []
    for name, positions in clicks.items():
        label = labels.index(name)
        if not isinstance(positions, Sequence) or isinstance(positions, str):
            raise ClickError(f"the clicks of {one_line(name, 60)} are a list of voxels; got {brief(positions)}")
        for position in positions:
            found.setdefault(label, []).append(_inside(name, position, shape, notes))
    refuse_too_many(sum(map(len, found.values())))
    return found, notes


def placed_in_order(
    clicks: Iterable[tuple[str, Sequence[float]]], labels: Labels, shape: Sequence[int]
) -> tuple[list[tuple[int, Triple]], list[str]]:
    """The same for clicks that come in order, label and position each: class index and voxel of each."""
    notes: list[str] = []
    return [(labels.index(name), _inside(name, position, shape, notes)) for name, position in clicks], notes


def refuse_too_many(count: int) -> None:
    """Raise a ClickError where a request has more clicks than are answered."""
    if count > MOST_CLICKS:
        raise ClickError(f"a request has at most {MOST_CLICKS} clicks; this one has {count}: remove some")


def _inside(name: str, position: Sequence[float], shape: Sequence[int], notes: list[str]) -> Triple:
    """The voxel of a click; a line is added to `notes` where it was moved."""
    voxel = _voxel(position)
    inside = three(min(max(at, 0), side - 1) for at, side in zip(voxel, shape, strict=True))
    if any(abs(at - to) > 1 for at, to in zip(voxel, inside, strict=True)):
        raise ClickError(
            f"the click for {one_line(name, 60)} at voxel {_listed(voxel)} lies outside the image of "
            f"{' x '.join(map(str, shape))} voxels; remove it"
        )
    if voxel != inside:
        notes.append(
            f"the click for {one_line(name, 60)} at voxel {_listed(voxel)} lies just outside the image; "
            f"it is taken to be at {_listed(inside)}"
        )
    return inside


def _voxel(position: Sequence[float]) -> Triple:
    try:
        x, y, z = (float(value) for value in position)
        exact = np.array([x, y, z])
    except (TypeError, ValueError, OverflowError) as error:
        raise ClickError(f"a click is three numbers; got {brief(position)}") from error
    if not np.isfinite(exact).all():
        raise ClickError(f"a click is three numbers; got {brief(position)}")
    # Clipped first: what is far outside does not fit into an integer.
    return tuple(nearest_voxel(exact.clip(-(2.0**31), 2.0**31)).tolist())


def _listed(voxel: Triple) -> str:
    return f"({', '.join(map(str, voxel))})"
