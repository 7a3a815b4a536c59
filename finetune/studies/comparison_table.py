"""The table of a comparison: on the console, as CSV, and as Markdown that can be pasted."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from finetune.report.page import duration
from zoo.contract import rundir
from zoo.files import tables
from zoo.host import console

CSV, MARKDOWN = "compare.csv", "compare.md"
CELLS = str.maketrans({"|": "\\|", "\n": " ", "<": "&lt;"})
"""What a name may not do in a table of Markdown."""


def write_tables(folder: Path, numbers: Mapping[str, Any]) -> None:
    """Write compare.csv, with numbers as they are, and compare.md, as they are read."""
    header = (
        *("setting", "meaning", "top1", "top1_low", "top1_high", "top1_spread", "seeds"),
        *("difference", "difference_low", "difference_high", "p_value", "seconds", "parameters"),
    )
    tables.write_table(folder / CSV, header, map(_csv_row, numbers["rows"]))
    rundir.write_text(folder / MARKDOWN, markdown(numbers))


def _csv_row(row: Mapping[str, Any]) -> list[Any]:
    against = row["against_first"] or {"difference": "", "interval": ("", ""), "p_value": ""}
    return [
        row["label"],
        row["meaning"],
        row["top1"],
        *row["top1_interval"],
        "" if row["top1_spread"] is None else row["top1_spread"],
        len(row["folders"]),
        against["difference"],
        *against["interval"],
        against["p_value"],
        row["seconds"],
        "" if row["parameters"] is None else row["parameters"],
    ]


def say_table(numbers: Mapping[str, Any]) -> None:
    """Print the table, what each name means that is no value of a flag, and each two runs."""
    header, lines = readable(numbers)
    columns = [console.Column(header[0])]
    columns += [console.Column(title, right=True, whole=True) for title in header[1:]]
    console.table(columns, lines, width=120)
    for note in meanings(numbers):
        console.say(note)
    for pair in numbers["pairs"]:
        console.say(
            f"  {pair['second']} against {pair['first']}: {100 * pair['difference']:+z.2f} points, "
            f"p = {pair['p_value']:.2g}"
        )


def markdown(numbers: Mapping[str, Any]) -> str:
    """Write the table as GitHub and most wikis read it."""
    header, lines = readable(numbers)
    rule = ["---", *["---:"] * (len(header) - 1)]
    rows = []
    for line in (header, rule, *lines):
        cells = [cell.translate(CELLS) for cell in line]
        rows.append(f"| {' | '.join(cells)} |")
    notes = [f"\n{note.translate(CELLS)}" for note in meanings(numbers)]
    return "\n".join((*rows, *notes)) + "\n"


def meanings(numbers: Mapping[str, Any]) -> list[str]:
    """Say what the settings mean that are no values of a flag, once each."""
    return list(dict.fromkeys(row["meaning"] for row in numbers["rows"] if row["meaning"]))


def readable(numbers: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Give the header and the rows as texts, in the order that was asked for."""
    columns = {
        "Setting": lambda row: row["label"],
        f"Top-1, {numbers['split']}": lambda row: f"{100 * row['top1']:.2f} %",
        "spread over seeds": _spread,
        "95 % interval": lambda row: "{:.1f} to {:.1f}".format(
            *(100 * share for share in row["top1_interval"])
        ),
        "to the first": lambda row: _of_difference(row, "difference", "+z.2f", 100),
        "p": lambda row: _of_difference(row, "p_value", ".2g", 1),
        "time": lambda row: duration(row["seconds"]).replace("\u00a0", " "),
        "parameters": _parameters,
    }
    if all(row["top1_spread"] is None for row in numbers["rows"]):
        del columns["spread over seeds"]
    lines = []
    for row in numbers["rows"]:
        lines.append([text(row) for text in columns.values()])
    return list(columns), lines


def _spread(row: Mapping[str, Any]) -> str:
    if row["top1_spread"] is None:
        return ""
    return f"± {100 * row['top1_spread']:.2f} ({len(row['folders'])})"


def _of_difference(row: Mapping[str, Any], name: str, digits: str, scale: float) -> str:
    if row["against_first"] is None:
        return "–"
    return f"{scale * row['against_first'][name]:{digits}}"


def _parameters(row: Mapping[str, Any]) -> str:
    if row["parameters"] is None:
        return "–"
    return f"{row['parameters'] / 1e6:.2f} M"
