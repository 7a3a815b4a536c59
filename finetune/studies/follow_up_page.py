"""`RUN-advised/`: what following the report's advice brought, as a page and as JSON."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from finetune.report.page import (
    document,
    duration,
    fill,
    join,
    percent,
    section,
    soft,
    strong,
    table_html,
)
from finetune.studies.comparison_page import points
from zoo.contract import rundir

PAGE, NUMBERS = "advised.html", "advised.json"
COLUMNS = {
    "Run": "",
    "Changed": "",
    "Because": "why",
    "Select top-1": "num",
    "Balanced": "num",
    "Gain": "num",
    "Headline": "num",
    "Time": "num",
}
"""Heading -> CSS class; Balanced only where balanced accuracy chose the weights."""


def write_advised(folder: Path, numbers: Mapping[str, Any]) -> None:
    """Write both; `numbers` is what finetune/studies/follow_advice.py gives."""
    folder.mkdir(exist_ok=True)
    rundir.write_json(folder / NUMBERS, numbers)
    columns = dict(COLUMNS)
    if all(row["select_balanced"] is None for row in numbers["runs"]):
        del columns["Balanced"]
    rows = [list(map(_cells(row).__getitem__, columns)) for row in numbers["runs"]]
    best = next(row for row in numbers["runs"] if row["best"])
    # two standard errors, as in the advice itself
    doubt = 2 * numbers["select"]["standard_error"]
    note = soft(
        "Gains are points of top-1 on the {} pictures of select, against the run that was changed; "
        "below {} they may be chance. The best there is {}: it was the best of {} tries, so its "
        "number flatters a little. Test pictures chose nothing.",
        f"{numbers['select']['pictures']:,}",
        f"{100 * doubt:.1f}",
        best["run"],
        len(rows),
    )
    header = fill("<header><h1>{}</h1></header>\n", best["run"])
    title = "What did following the advice bring?"
    body = join((header, section("advised", title, table_html(columns, rows), note)))
    rundir.write_text(folder / PAGE, document(f"{best['run']}: advice followed", body))


def _cells(row: Mapping[str, Any]) -> dict[str, object]:
    """Give what stands in each column for one run."""
    changed: object = ""
    gain = ""
    if row["changed"]:
        changed = fill("{} <code>{}</code>", row["changed"], row["flags"])
        gain = points(row["gain"])
    return {
        "Run": strong_link(row),
        "Changed": changed,
        "Because": row["finding"] or "the first run",
        "Select top-1": percent(row["select_top1"], 2),
        "Balanced": percent(row["select_balanced"], 2),
        "Gain": gain,
        "Headline": f"{percent(row['headline_top1'], 2)} {row['headline_split']}",
        "Time": duration(row["seconds"]),
    }


def strong_link(row: Mapping[str, Any]) -> Markup:
    """Link the run's name to its report; bold if it is the best."""
    return fill(
        # the runs stand beside this page's folder
        '<a href="../{}/{}">{}</a>',
        quote(row["run"]),
        rundir.PAGE,
        strong(row["run"], row["best"]),
    )
