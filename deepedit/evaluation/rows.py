"""The rows that an evaluation yields."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ClickEffect:
    """A click and what it did, on the image's own grid.

    Attributes:
        label: what was clicked, and what truly is there.
        voxel: where.
        kept: whether the voxel has that label after the last click of the case.
        replaced: the label that the voxel had before; the same as `label` for a redundant click.
        replaced_before, replaced_after: voxels that had that label before and after the click.
        region: voxels of the error that was clicked, the 6-connected component that holds the voxel; 0 for a
            redundant click.
        region_left: how many of them are still wrong after the click.
        changed_far: share of the voxels farther than ten voxels from the click that changed; None if there are none.
    """

    label: str
    voxel: tuple[int, int, int]
    kept: bool
    replaced: str
    replaced_before: int
    replaced_after: int
    region: int
    region_left: int
    changed_far: float | None


@dataclass(frozen=True)
class Row:
    """How well one label of one case is segmented after a number of clicks.

    Attributes:
        clicks: how many were allowed so far. Where nothing is wrong any more, no click is made, and the row repeats
            the last state with None for all that describes a click.
        dice, nsd: in [0, 1]; see `deepedit.metrics`.
        obeyed: whether the newest click's voxel had the clicked label right afterwards, be it by the network or by the
            session's last resort; alike for all labels of the case, as is all that follows.
        seconds: from the newest click to the result; at 0 clicks from the question to the automatic result.
        click: the newest click.
    """

    case: str
    label: str
    clicks: int
    dice: float
    nsd: float
    obeyed: bool | None
    seconds: float | None
    click: ClickEffect | None = None
