"""The tables of a run on a GPU, as Markdown, from rows of named figures.

A row is a dictionary in the order of its columns. Its ``"table"`` names the table that it belongs to; a row of nothing
but a ``"note"`` is a line below the tables of its part.
"""

from collections.abc import Mapping, Sequence


def markdown(report: Mapping) -> str:
    """All tables of a report, whatever is there of it."""
    parts = report["parts"]
    machine = [row for row in parts.get("machine", {}).get("rows", []) if "table" in row]
    lines = [", ".join(f"{name} {value}" for row in machine for name, value in row.items() if name != "table"), ""]
    lines += rendered(
        [{"part": name, "ended": ended(part), "seconds": part["seconds"]} for name, part in parts.items()]
    )
    for name, part in parts.items():
        rows = part["rows"]
        if name != "machine":
            for title in dict.fromkeys(row["table"] for row in rows if "table" in row):
                chosen = [{key: row[key] for key in row if key != "table"} for row in rows if row.get("table") == title]
                lines += ["", f"**{title}**", "", *rendered(chosen)]
        notes = [row["note"] for row in rows if "note" in row]
        if notes:
            lines += ["", *(f"- {name}: {note}" for note in notes)]
    return "\n".join(lines)


def ended(part: Mapping) -> str:
    return f"{part['status']}: `{part['error']}`" if "error" in part else part["status"]


def rendered(rows: Sequence[Mapping]) -> list[str]:
    """A table with all columns that any of the rows has."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    cells = [columns, ["---"] * len(columns)]
    cells += [[figure(row.get(column)) for column in columns] for row in rows]
    return ["| " + " | ".join(cell.replace("|", "/") for cell in line) + " |" for line in cells]


def in_brief(row: Mapping) -> str:
    """A row as one line."""
    told = {name: value for name, value in row.items() if name != "table" and value is not None}
    return row["note"] if "note" in row else ", ".join(f"{name} {figure(value)}" for name, value in told.items())


def figure(value: object) -> str:
    """A number with three digits that count, a list as its smallest and largest, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, list):
        return f"{figure(min(value))}-{figure(max(value))}" if value else ""
    if not isinstance(value, float):
        return str(value)
    if value == 0 or value != value:
        return f"{value:g}"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:#.3g}".rstrip(".") if abs(value) >= 0.001 else f"{value:.2e}"
