"""The report of an evaluation by itself, with figures that can be read off."""

import csv
from dataclasses import replace

import pytest

from deepedit.evaluation import ClickEffect, Row, summarise
from deepedit_cli.evaluation_report import csv_text, picture, table

EFFECT = ClickEffect("background", (1, 2, 3), True, "x", 10, 8, 4, 1, 0.001)
ROWS = [
    Row(case, label, clicks, 0.5 + 0.1 * clicks, 0.5, *((True, case == "a", 0.25, EFFECT) if clicks else (None,) * 4))
    for case in "ab"
    for clicks in range(3)
    for label in ("x", "y")
]


def test_the_table_is_aligned_and_says_all_figures():
    text = table(summarise(ROWS), 2.0)
    lines = text.splitlines()
    assert " ".join(lines[0].split()) == "Dice 0 clicks 1 click 2 clicks AUC 0-2 to 0.85 to 0.90 to 0.95 clicks"
    assert lines[1].split()[:5] == ["x", "0.500", "0.600", "0.700", "0.600"]
    assert [line.split()[-1] for line in lines[1:3]] == ["2.0", "0.0"]  # both clicks of a case remove x
    assert "Repaired" not in text
    assert len({len(line) for line in lines[:4]}) == 1
    assert "-20.0%" in text
    assert "0.10% change" in text
    assert "4 clicks: obeyed 100.0%" in text
    assert "obeyed by the network itself 50.0%: 50% of click 1, 50% of click 2" in text


def with_oracle(best):
    return [replace(row, oracle_dice=best[row.clicks]) for row in ROWS]


def test_the_table_tells_the_repaired_share_and_where_there_is_nothing_to_repair():
    # Dice is 0.5, 0.6 and 0.7.
    text = table(summarise(with_oracle([0.5, 0.504, 0.9])), 2.0)
    block = text.split("\n\n")[2].splitlines()
    assert [" ".join(line.split()) for line in block[:5]] == [
        "Repaired share 1 click 2 clicks",
        "x - 50%",
        "y - 50%",
        "mean - 50%",
        "the oracle's Dice 0.504 0.900",
    ]
    assert block[-1] == "-: nothing to repair, for the oracle gains less than 0.005"
    assert "nothing to repair" not in table(summarise(with_oracle([0.5, 0.8, 0.9])), 2.0)
    assert "-100%" in table(
        summarise([replace(row, dice=0.5 - 0.1 * row.clicks) for row in with_oracle([0.5, 0.6, 0.7])]), 2.0
    )


def test_the_csv_tells_the_oracles_dice_and_each_cases_own_share():
    lines = list(csv.DictReader(csv_text(with_oracle([0.5, 0.504, 0.9])).splitlines()))
    assert [(line["oracle_dice"], line["repaired"]) for line in lines[:6:2]] == [
        ("0.5", ""),
        ("0.504", ""),
        ("0.9", str((0.7 - 0.5) / (0.9 - 0.5))),
    ]
    assert [line["counted"] for line in lines[:3]] == ["", "", "x"]


def test_the_csv_has_a_cell_for_everything_and_leaves_empty_what_is_not_there():
    lines = list(csv.reader(csv_text(ROWS).splitlines()))
    assert len(lines) == 1 + len(ROWS)
    head, automatic, clicked = lines[0], lines[1], lines[3]
    assert len(clicked) == len(head)
    entries = dict(zip(head, clicked, strict=True))
    assert [entries[name] for name in ("i", "j", "k", "clicked", "kept", "replaced_after", "region_left")] == [
        *("1", "2", "3"),
        *("background", "1", "8", "1"),
    ]
    assert (entries["obeyed"], entries["obeyed_alone"]) == ("1", "1")
    entries = dict(zip(head, automatic, strict=True))
    assert (entries["obeyed"], entries["obeyed_alone"]) == ("", "")


@pytest.mark.parametrize("labels", [1, 2, 9])
@pytest.mark.parametrize("oracle", [None, (0.9, 0.95, 0.95), (0.9, 0.9, 0.9)])
def test_the_picture_is_a_png_for_any_number_of_labels(labels, oracle):
    pytest.importorskip("matplotlib")
    rows = [
        Row("a", f"label {n}", clicks, 0.9, 0.8, None, None, None, None, oracle and oracle[clicks])
        for n in range(labels)
        for clicks in range(3)
    ]
    assert picture(summarise(rows), 2.0).startswith(b"\x89PNG")
