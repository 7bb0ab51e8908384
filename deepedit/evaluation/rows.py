"""The rows of an evaluation."""

from dataclasses import dataclass

from deepedit.plan import BACKGROUND


@dataclass(frozen=True)
class ClickEffect:
    """A click and what it did, on the image's own grid.

    Attributes:
        label: the label that was clicked, which is the true one at that voxel.
        voxel: the clicked voxel.
        kept: whether the voxel has that label after the last click of the case.
        replaced: the label of the voxel before the click; the same as `label` for a redundant click.
        replaced_before, replaced_after: number of voxels with the label `replaced` before and after the click.
        region: number of voxels of the error that was clicked, which is the 6-connected component that holds the voxel;
            0 for a redundant click.
        region_left: number of these voxels that are still wrong after the click.
        changed_far: share of the voxels more than ten voxels away from the click that changed; None if no voxel is so
            far away.
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

    @property
    def counted(self) -> str:
        """The label that the click counts for: the one clicked, and the one removed by a click for background."""
        return self.replaced if self.label == BACKGROUND else self.label


@dataclass(frozen=True)
class Row:
    """How well one label of one case is segmented after a number of clicks.

    Attributes:
        clicks: number of clicks allowed so far. If nothing is wrong any more, no click is made, and the row repeats the
            last scores, with None for everything that describes a click.
        dice, nsd: Dice and normalised surface distance in [0, 1]; see `deepedit.metrics`.
        obeyed: whether the voxel of the newest click had the clicked label right after it, whether the network decided
            so or the session enforced the click. This and the attributes below are the same for all labels of the case.
        obeyed_alone: whether the answer of the network by itself had that label there, see
            `InteractiveSession.obeyed_alone`.
        seconds: time from the newest click to the result; for 0 clicks, the time of the automatic result.
        click: the newest click and its effect.
        oracle_dice: Dice after as many clicks of the oracle, see `deepedit.evaluation.oracle_dice`; None without it.
    """

    case: str
    label: str
    clicks: int
    dice: float
    nsd: float
    obeyed: bool | None
    obeyed_alone: bool | None
    seconds: float | None
    click: ClickEffect | None = None
    oracle_dice: float | None = None
