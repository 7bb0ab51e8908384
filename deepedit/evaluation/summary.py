"""Summary of the rows of an evaluation: curves over the number of clicks, and how reliably clicks work."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from deepedit.evaluation.oracle import repaired_share
from deepedit.evaluation.rows import Row
from deepedit.plan import BACKGROUND

AUC_CLICKS = 5
DICE_TO_REACH = (0.85, 0.90, 0.95)


@dataclass(frozen=True)
class ClicksToReach:
    """Number of clicks needed to reach a certain Dice.

    Attributes:
        dice: the Dice to reach.
        clicks: mean over the cases; a case that never reaches it counts with the greatest number of clicks.
        failed: share of the cases that never reach it.
    """

    dice: float
    clicks: float
    failed: float


@dataclass(frozen=True)
class Curve:
    """The scores of one label, or the mean of the labels, against the number of clicks.

    Attributes:
        dice, nsd: mean over the cases after 0, 1, ... clicks.
        dice_sd, nsd_sd: standard deviation over the cases (of the population, so that it is 0 for one case).
        dice_auc, nsd_auc: area under the mean curve from 0 to 5 clicks (or to the last click, if there are fewer) by
            the trapezoid rule, divided by that number of clicks; 1 means perfect from the start. The interactive
            segmentation challenge of CVPR 2025 uses the same area without the division.
        clicks_to_reach: clicks needed for Dice 0.85, 0.90 and 0.95.
        clicks: mean over the cases of how many of the first 0, 1, ... clicks count for the label, see
            `ClickEffect.counted`.
        oracle_dice: mean over the cases after 0, 1, ... clicks of the oracle; None without it.
        repaired: the `repaired_share` of these means after 0, 1, ... clicks; None without the oracle.
    """

    label: str
    dice: tuple[float, ...]
    dice_sd: tuple[float, ...]
    nsd: tuple[float, ...]
    nsd_sd: tuple[float, ...]
    dice_auc: float
    nsd_auc: float
    clicks_to_reach: tuple[ClicksToReach, ...]
    clicks: tuple[float, ...]
    oracle_dice: tuple[float, ...] | None
    repaired: tuple[float | None, ...] | None


@dataclass(frozen=True)
class ClickSummary:
    """The effect of all clicks. A value for which there is no click is None.

    Attributes:
        count: number of clicks made; fewer than allowed if cases became perfect.
        obeyed: share of the clicks whose voxel had the clicked label right after the click.
        obeyed_alone: share of the clicks that the network obeyed by itself.
        obeyed_alone_after: the same share for the first click of all cases, the second, and so on.
        kept: share of the clicks whose voxel has the clicked label after the last click of the case.
        seconds: median time from click to result.
        changed_far: mean share of the voxels more than ten voxels away from the click that changed.
        removing: number of background clicks on false-positive regions.
        removing_reduced: share of these clicks that made the region smaller.
        removing_left: mean share of the region that was still wrong after such a click.
        removing_volume: mean relative change of the volume of the label that such a click removes; it is below 0 if the
            label shrinks.
    """

    count: int
    obeyed: float | None
    obeyed_alone: float | None
    obeyed_alone_after: tuple[float | None, ...]
    kept: float | None
    seconds: float | None
    changed_far: float | None
    removing: int
    removing_reduced: float | None
    removing_left: float | None
    removing_volume: float | None


@dataclass(frozen=True)
class Summary:
    """Summary of an evaluation.

    Attributes:
        cases, max_clicks: number of cases, and of clicks allowed for each.
        labels: a curve for each label.
        mean: the curve of the mean over the labels. Its standard deviation and clicks to reach a Dice are computed from
            the mean over the labels of each case.
        clicks: the effect of the clicks.
    """

    cases: int
    max_clicks: int
    labels: tuple[Curve, ...]
    mean: Curve
    clicks: ClickSummary

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings, lists and dictionaries, fit for JSON."""
        return asdict(self)


def summarise(rows: Sequence[Row]) -> Summary:
    """Mean and spread over the cases of what `evaluate_dataset` measured.

    Raises:
        ValueError: if there is no row, or a case lacks rows that another case has.
    """
    if not rows:
        raise ValueError("there is nothing to summarise: no case was evaluated")
    cases, labels = (tuple(dict.fromkeys(getattr(row, name) for row in rows)) for name in ("case", "label"))
    max_clicks = max(row.clicks for row in rows)
    table = {(row.case, row.label, row.clicks): row for row in rows}
    if not len(table) == len(rows) == len(cases) * len(labels) * (max_clicks + 1):
        raise ValueError("every case needs one row for each label and each number of clicks")
    with_oracle = rows[0].oracle_dice is not None
    if any((row.oracle_dice is not None) != with_oracle for row in rows):
        raise ValueError("some cases were evaluated with the oracle, and some without")
    scores = np.array(
        [
            [[_scores(table[case, label, clicks]) for clicks in range(max_clicks + 1)] for label in labels]
            for case in cases
        ]
    )
    return Summary(
        cases=len(cases),
        max_clicks=max_clicks,
        labels=tuple(_curve(label, scores[:, index], with_oracle) for index, label in enumerate(labels)),
        mean=_curve("mean", scores.mean(axis=1), with_oracle),
        clicks=_click_summary((row for row in rows if row.label == labels[0] and row.click is not None), max_clicks),
    )


def _scores(row: Row) -> tuple[float, float, float, bool]:
    """Dice, surface distance, the oracle's Dice (0 without it), and whether the newest click counts for the label."""
    return row.dice, row.nsd, row.oracle_dice or 0.0, row.click is not None and row.click.counted == row.label


def _curve(label: str, scores: np.ndarray, with_oracle: bool) -> Curve:
    """The curve of `_scores`, ``[cases, clicks + 1, 4]``."""
    mean, spread = scores.mean(axis=0), scores.std(axis=0)
    dice, nsd, oracle, counted = mean.T.tolist()
    return Curve(
        label,
        dice=tuple(dice),
        dice_sd=tuple(spread[:, 0].tolist()),
        nsd=tuple(nsd),
        nsd_sd=tuple(spread[:, 1].tolist()),
        dice_auc=_area(mean[:, 0]),
        nsd_auc=_area(mean[:, 1]),
        clicks_to_reach=tuple(_clicks_to_reach(scores[..., 0], goal) for goal in DICE_TO_REACH),
        clicks=tuple(np.cumsum(counted).tolist()),
        oracle_dice=tuple(oracle) if with_oracle else None,
        repaired=tuple(repaired_share(dice[0], *each) for each in zip(dice, oracle, strict=True))
        if with_oracle
        else None,
    )


def _area(curve: np.ndarray) -> float:
    head = curve[: AUC_CLICKS + 1]
    return float((head[:-1] + head[1:]).mean() / 2) if len(head) > 1 else float(head[0])


def _clicks_to_reach(curves: np.ndarray, dice: float) -> ClicksToReach:
    """From Dice curves ``[cases, clicks + 1]``."""
    reached = curves >= dice
    ever = reached.any(axis=1)
    clicks = np.where(ever, reached.argmax(axis=1), curves.shape[1] - 1)
    return ClicksToReach(dice, float(clicks.mean()), float(1 - ever.mean()))


def _click_summary(rows: Iterable[Row], max_clicks: int) -> ClickSummary:
    """From one row for each click."""
    rows = list(rows)
    clicks = [row.click for row in rows if row.click is not None]
    removing = [click for click in clicks if click.label == BACKGROUND and click.region]
    return ClickSummary(
        count=len(clicks),
        obeyed=_mean(row.obeyed for row in rows),
        obeyed_alone=_mean(row.obeyed_alone for row in rows),
        obeyed_alone_after=tuple(
            _mean(row.obeyed_alone for row in rows if row.clicks == number) for number in range(1, max_clicks + 1)
        ),
        kept=_mean(click.kept for click in clicks),
        seconds=float(np.median([row.seconds for row in rows])) if rows else None,
        changed_far=_mean(click.changed_far for click in clicks if click.changed_far is not None),
        removing=len(removing),
        removing_reduced=_mean(click.region_left < click.region for click in removing),
        removing_left=_mean(click.region_left / click.region for click in removing),
        removing_volume=_mean(click.replaced_after / click.replaced_before - 1 for click in removing),
    )


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
