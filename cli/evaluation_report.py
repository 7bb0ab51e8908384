"""The report of an evaluation: a table for the terminal, and files with the rows, a summary and a picture."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from deepedit.evaluation import LEAST_GAIN, ClickSummary, Curve, Row, Summary, repaired_share
from deepedit.files import one_line, replace_atomically

FILES = ("report.csv", "report.json", "report.png")
CLICKS_SHOWN = (0, 1, 2, 3, 5, 10, 20, 50, 100)
ROW_COLUMNS = ("case", "label", "clicks", "dice", "nsd", "obeyed", "obeyed_alone", "seconds")
CLICK_COLUMNS = ("i", "j", "k", "clicked")
EFFECT_COLUMNS = (
    *("kept", "replaced", "replaced_before", "replaced_after", "region", "region_left", "changed_far", "counted"),
)
ORACLE_COLUMNS = ("oracle_dice", "repaired")
# Readable side by side for all kinds of colour vision (Okabe and Ito, Color Universal Design, 2008).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def write_report(
    folder: Path, rows: Sequence[Row], summary: Summary, settings: Mapping[str, Any]
) -> tuple[list[str], str | None]:
    """Write the files of the report, each completely or not at all; the picture last, if matplotlib can draw it.

    Args:
        folder: an existing folder.
        settings: how the rows were made, fit for JSON; among them `tolerance` in mm.

    Returns:
        The names of the files written, and why there is no picture, or None.

    Raises:
        FileError: if a file cannot be written.
    """
    contents = {
        "report.csv": csv_text(rows).encode(errors="surrogateescape"),  # names of files may be no UTF-8
        "report.json": (json.dumps({**settings, **summary.to_dict()}, indent=1, allow_nan=False) + "\n").encode(),
    }
    for name, content in contents.items():
        with replace_atomically(folder / name) as stream:
            stream.write(content)
    drawing = folder / "report.png"
    if drawing.is_file() or drawing.is_symlink():
        drawing.unlink()  # that of an earlier report
    if not find_spec("matplotlib"):
        return [*contents], "matplotlib is not installed; pip install deepedit[plot]"
    try:
        drawn = picture(summary, settings["tolerance"])
    except Exception as error:  # matplotlib fails in many ways, and hours of work are in the other files
        return [*contents], f"matplotlib cannot draw it ({one_line(error, 200)})"
    with replace_atomically(drawing) as stream:
        stream.write(drawn)
    return [*contents, drawing.name], None


def csv_text(rows: Sequence[Row]) -> str:
    """A header and a line for each row. Yes and no are 1 and 0; a cell without a value is empty.

    The repaired share of a line is that of its case and label.
    """
    without = {(row.case, row.label): row.dice for row in rows if not row.clicks}
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow((*ROW_COLUMNS, *CLICK_COLUMNS, *EFFECT_COLUMNS, *ORACLE_COLUMNS))
    for row in rows:
        values = [getattr(row, name) for name in ROW_COLUMNS]
        if row.click is None:
            values += [None] * (len(CLICK_COLUMNS) + len(EFFECT_COLUMNS))
        else:
            values += [*row.click.voxel, row.click.label, *(getattr(row.click, name) for name in EFFECT_COLUMNS)]
        share = None
        if row.oracle_dice is not None:
            share = repaired_share(without[row.case, row.label], row.dice, row.oracle_dice)
        values += [row.oracle_dice, share]
        writer.writerow([int(value) if isinstance(value, bool) else value for value in values])
    return stream.getvalue()


def table(summary: Summary, tolerance: float) -> str:
    """The summary as a table for a terminal."""
    parts = [_curves(summary, "dice", "Dice"), _curves(summary, "nsd", f"NSD {tolerance:g} mm")]
    if summary.mean.repaired is not None and summary.max_clicks:
        parts.append(_repaired(summary))
    return "\n\n".join([*parts, _clicks(summary.clicks)])


def _shown(summary: Summary, first: int = 0) -> list[int]:
    """The numbers of clicks, from the first on, for which a table has a column."""
    last = summary.max_clicks
    return sorted({clicks for clicks in CLICKS_SHOWN if first <= clicks < last} | {last})


def _clicks_head(shown: Sequence[int]) -> list[str]:
    return [f"{clicks} click{'s' * (clicks != 1)}" for clicks in shown]


def _curves(summary: Summary, score: str, title: str) -> str:
    """One score after some numbers of clicks: a line for each label, then their mean and its standard deviation."""
    shown = _shown(summary)
    head = [title, *_clicks_head(shown), f"AUC 0-{min(5, summary.max_clicks)}"]
    reach = score == "dice"
    if reach:
        head += [f"to {each.dice:.2f}" for each in summary.mean.clicks_to_reach] + ["clicks"]
    lines = [head]
    for curve in (*summary.labels, summary.mean):
        values = getattr(curve, score)
        line = [curve.label, *(f"{values[clicks]:.3f}" for clicks in shown), f"{getattr(curve, f'{score}_auc'):.3f}"]
        lines.append([*line, *(_reach(curve) if reach else ())])
    spread = getattr(summary.mean, f"{score}_sd")
    lines.append([f"sd of {summary.cases} cases", *(f"{spread[clicks]:.3f}" for clicks in shown)])
    notes = (
        "to D: clicks to reach Dice D, in the mean (share of cases that never did, counted as all clicks)\n"
        "clicks: how many of a case count for the label, in the mean; one for background counts for what it removes"
    )
    return _aligned(lines) + (f"\n{notes}" if reach else "")


def _reach(curve: Curve) -> list[str]:
    """The cells about clicks needed and clicks made."""
    return [*(f"{each.clicks:.1f} ({each.failed:.0%})" for each in curve.clicks_to_reach), f"{curve.clicks[-1]:.1f}"]


def _repaired(summary: Summary) -> str:
    """The repaired share after some numbers of clicks: a line for each label, then their mean and the oracle's Dice."""
    shown = _shown(summary, first=1)
    lines = [["Repaired share", *_clicks_head(shown)]]
    for curve in (*summary.labels, summary.mean):
        assert curve.repaired is not None  # it is there with the oracle
        lines.append([curve.label, *(_percent(curve.repaired[clicks]) for clicks in shown)])
    assert summary.mean.oracle_dice is not None
    lines.append(["the oracle's Dice", *(f"{summary.mean.oracle_dice[clicks]:.3f}" for clicks in shown)])
    notes = ["the oracle: each click repairs the whole error that it stands in; the share: what Dice gains of its gain"]
    if any("-" in line[1:] for line in lines):
        notes.append(f"-: nothing to repair, for the oracle gains less than {LEAST_GAIN:g}")
    return "\n".join([_aligned(lines), *notes])


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def _clicks(clicks: ClickSummary) -> str:
    """Lines about the effect of the clicks."""
    if not clicks.count:
        return "no clicks were made"
    lines = [
        f"{clicks.count} clicks: obeyed {clicks.obeyed:.1%}, still obeyed at the end {clicks.kept:.1%}, "
        f"{clicks.seconds:.3f} s each (median)",
        f"obeyed by the network itself {clicks.obeyed_alone:.1%}: {_by_number(clicks.obeyed_alone_after)}",
    ]
    if clicks.removing:
        lines.append(
            f"{clicks.removing} background clicks on false positives: {clicks.removing_reduced:.1%} reduce the region, "
            f"of which {clicks.removing_left:.1%} is left; the label's volume changes by {clicks.removing_volume:+.1%}"
        )
    if clicks.changed_far is not None:
        lines.append(f"voxels farther than ten voxels from the click: {clicks.changed_far:.2%} change")
    return "\n".join(lines)


def _by_number(shares: Sequence[float | None]) -> str:
    """Shares of the first click, of the second, ...; those that no case needed are left out."""
    numbered = [(number, share) for number, share in enumerate(shares, start=1) if share is not None]
    shown = [each for each in numbered if each[0] in CLICKS_SHOWN or each == numbered[-1]]
    return ", ".join(f"{share:.0%} of click {number}" for number, share in shown)


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    """Lines with cells in columns, the first one aligned to the left and the others to the right."""
    widths = [max(len(line[column]) for line in lines if column < len(line)) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=False))
        ).rstrip()
        for line in lines
    )


def picture(summary: Summary, tolerance: float) -> bytes:
    """A PNG of Dice and surface distance against clicks: a line and a band of one standard deviation for each label.

    With the oracle, its mean Dice is a line of dashes, and the repaired share has axes of its own.
    """
    from matplotlib.figure import Figure

    scores = {"dice": "Dice", "nsd": f"Normalised surface distance ({tolerance:g} mm)"}
    if summary.mean.repaired is not None:
        scores["repaired"] = "Repaired share"
    figure = Figure(figsize=(5 * len(scores), 4.4), layout="constrained")
    axes = figure.subplots(1, len(scores), sharex=True)
    for axis, (score, title) in zip(axes, scores.items(), strict=True):
        _plot(axis, summary, score)
        axis.set_title(title, loc="left", fontsize=11)
    handles, names = axes[0].get_legend_handles_labels()
    legend = figure.legend(handles, names, loc="outside lower center", ncols=6, frameon=False, fontsize=9)
    for text in legend.get_texts():
        text.set_parse_math(False)  # a dollar sign in the name of a label begins no formula
    cases = f"{summary.cases} case{'s' * (summary.cases != 1)}"
    figure.suptitle(f"{cases}, bands: one standard deviation", x=0.995, ha="right", fontsize=9, color="0.4")
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=150)
    return stream.getvalue()


def _plot(axis: Any, summary: Summary, score: str) -> None:
    """Draw the curves of one score."""
    clicks = range(summary.max_clicks + 1)
    marker = "o" if summary.max_clicks <= 20 else None
    lowest, highest = 1.0, 1.0
    for index, curve in enumerate(summary.labels):
        colour = COLOURS[index % len(COLOURS)]
        style = ("-", "--", ":")[index // len(COLOURS) % 3]
        values, spread = _drawn(curve, score), getattr(curve, f"{score}_sd", None)
        low = high = values
        if spread is not None:
            low = [max(value - width, 0) for value, width in zip(values, spread, strict=True)]
            high = [min(value + width, 1) for value, width in zip(values, spread, strict=True)]
            axis.fill_between(clicks, low, high, color=colour, alpha=0.15, linewidth=0)
        lowest, highest = min(lowest, *low), max(highest, *high)
        axis.plot(clicks, values, style, color=colour, marker=marker, markersize=4, label=curve.label)
    if len(summary.labels) > 1:
        axis.plot(clicks, _drawn(summary.mean, score), color="black", linewidth=2.2, label="mean")
    if score == "dice" and summary.mean.oracle_dice is not None:
        axis.plot(clicks, summary.mean.oracle_dice, linestyle=(0, (4, 2)), color="0.35", label="mean of the oracle")
    if score == "repaired" and all(share is None for share in summary.mean.repaired or ()):
        axis.text(0.5, 0.5, "nothing to repair", transform=axis.transAxes, ha="center", color="0.4")
    axis.set_ylim(max(lowest - 0.03, 0) if score != "repaired" else min(lowest - 0.03, 0), highest + 0.005)
    axis.set_xlabel("clicks")
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.grid(axis="y", color="0.9")
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)


def _drawn(curve: Curve, score: str) -> list[float]:
    """The values of a curve; matplotlib draws nothing where one is not a number."""
    return [float("nan") if value is None else value for value in getattr(curve, score)]
