"""`compare.html`: runs side by side, in the style of a run's report."""

from collections.abc import Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from finetune.report.page import (
    bdi,
    details,
    document,
    duration,
    fill,
    interval_bar,
    interval_text,
    join,
    notice,
    part,
    percent,
    section,
    soft,
    table_html,
)
from finetune.report.quality import scale_floor
from finetune.report.run_files import Finished
from finetune.studies import comparison_curves, comparison_table
from zoo.contract import rundir

PAGE, NUMBERS = "compare.html", "compare.json"
MOST_IN_TITLE = 4
SURE = 0.05
"""A difference with a smaller p-value is called more than chance."""


def write_comparison(folder: Path, runs: Sequence[Finished], numbers: Mapping[str, Any]) -> None:
    """Write `compare.json`, `compare.html` and figures of runs that lie in `folder`; `numbers` are
    those of `side_by_side`."""
    labels = [row["label"] for row in numbers["rows"]]
    shown = comparison_curves.learned_of(runs, numbers)
    drawings = comparison_curves.figures(shown)
    (folder / rundir.FIGURES).mkdir(exist_ok=True)
    for drawing in drawings:
        # one that could not be drawn is a notice on the page
        if drawing.svg:
            rundir.write_text(folder / rundir.FIGURES / f"{drawing.name}.svg", drawing.svg)
    rundir.write_json(folder / NUMBERS, numbers)
    title = " and ".join(labels)
    if len(labels) > MOST_IN_TITLE:
        title = f"{folder.resolve().name}: {len(labels)} settings"
    head = fill(
        '<header><h1>{}</h1><p class="soft">On {}; each name leads to the report of its '
        "run.</p></header>\n",
        bdi(title),
        f"{numbers['rows'][0]['pictures']:,} pictures of {numbers['split']}",
    )
    notes = join(map(notice, numbers["notes"]))
    body = join(
        (
            head,
            section(
                "good", "Which is better?", notes, rows_part(runs, numbers), pairs_part(numbers)
            ),
            section(
                "curves",
                "How did they learn?",
                comparison_curves.curves_part(shown, drawings, rows=len(labels)),
            ),
            section("recipe", "What differed?", recipe_part(numbers)),
        )
    )
    rundir.write_text(folder / PAGE, document(f"{title}, compared", body))


def rows_part(runs: Sequence[Finished], numbers: Mapping[str, Any]) -> Markup:
    """Show the table, what its numbers are, and the same as Markdown to copy."""
    first = numbers["rows"][0]["label"]
    explained = soft(
        "Differences are points of top-1 to the first row, {}, on the same pictures: McNemar's "
        "exact test; over several seeds a paired z test, whose error has a part of the pictures "
        "and one of the seeds (with two or three seeds a rough one).",
        first,
    )
    folded = details(
        f"As Markdown ({comparison_table.MARKDOWN}; {comparison_table.CSV} for spreadsheets)",
        fill("<pre>{}</pre>", comparison_table.markdown(numbers)),
    )
    meanings = join(map(soft, comparison_table.meanings(numbers)))
    return join((rows_table(runs, numbers), meanings, explained, folded))


def rows_table(runs: Sequence[Finished], numbers: Mapping[str, Any]) -> Markup:
    """Show one row a setting, the best first."""
    lows = [row["top1_interval"][0] for row in numbers["rows"]]
    floor = scale_floor(lows)
    scale = f"{100 * floor:.0f} to 100\u00a0%"
    setting = "Setting" if numbers["varied"] else "Base"
    columns = {
        setting: "",
        "Top-1": "num",
        "± seeds": "num",
        "95 % interval": "num",
        "To the first": "num",
        "p": "num",
        "Top-5": "num wide",
        "Macro F1": "num wide",
        "Loss": "num wide",
        "Probe": "num wide",
        "Parameters": "num",
        "MB": "num wide",
        "Time": "num",
        scale: "wide",
    }
    # all of five classes are among the best five
    unwanted = []
    if len(runs[0].classes) <= 5:
        unwanted.append("Top-5")
    if numbers["varied"]:
        # names of settings are long, and the size is that of the base
        unwanted += ["Loss", "Probe", "MB"]
    if all(row["top1_spread"] is None for row in numbers["rows"]):
        unwanted.append("± seeds")
    for title in dict.fromkeys(unwanted):
        del columns[title]

    rows = []
    for row in numbers["rows"]:
        low, high = row["top1_interval"]
        cells = _row_cells(row)
        links = join(map(_run_link, row["folders"], _link_texts(row)), " ")
        cells[setting] = fill('<div style="min-width:9rem">{}</div>', links)
        cells[scale] = interval_bar(low, row["top1"], high, floor=floor)
        rows.append((row["top1"], list(map(cells.__getitem__, columns))))
    rows.sort(key=itemgetter(0), reverse=True)
    return table_html(columns, map(itemgetter(1), rows), css="fit splits first")


def _link_texts(row: Mapping[str, Any]) -> list[str]:
    """Name the links of a row: its label, and the number of each further seed."""
    return [row["label"], *(f"({number})" for number in range(2, len(row["folders"]) + 1))]


def _run_link(name: str, text: str) -> Markup:
    return fill('<a href="{}">{}</a>', f"{quote(name)}/{rundir.PAGE}", text)


def _row_cells(row: Mapping[str, Any]) -> dict[str, object]:
    """Give what stands in each column for one row, but for its name and the interval's drawing."""
    spread, difference, p_value, count = "–", "–", "–", "–"
    if row["top1_spread"] is not None:
        spread = f"{100 * row['top1_spread']:.2f}"
    if row["against_first"]:
        difference = points(row["against_first"]["difference"])
        p_value = f"{row['against_first']['p_value']:.2g}"
    if row["parameters"] is not None:
        count = f"{row['parameters'] / 1e6:.2f}\u00a0M"
    return {
        "Top-1": percent(row["top1"], 2),
        "± seeds": spread,
        "95 % interval": interval_text(row["top1_interval"]),
        "To the first": difference,
        "p": p_value,
        "Top-5": percent(row["top5"], 2),
        "Macro F1": percent(row["macro_f1"], 2),
        "Loss": f"{row['loss']:.4f}",
        "Probe": percent(row["probe_top1"]),
        "Parameters": count,
        "MB": f"{row['size_mb']:.1f}",
        "Time": duration(row["seconds"]),
    }


def pairs_part(numbers: Mapping[str, Any]) -> Markup:
    """Compare each pair of runs on the same pictures."""
    columns = {
        "Second": "",
        "against first": "",
        "Difference": "num",
        "95 % interval": "num",
        "Only first right": "num",
        "Only second right": "num",
        "p": "num",
        "": "",
    }
    if not numbers["pairs"]:
        return Markup("")
    return part(
        "Picture by picture",
        table_html(columns, map(_pair_row, numbers["pairs"]), css="fit"),
        soft(
            "Both answered the same pictures, so only those count that one has right and the other "
            "wrong (McNemar's exact test). Differences are in points of top-1. Another seed of one "
            "base may differ as much."
        ),
    )


def _pair_row(pair: Mapping[str, Any]) -> list[object]:
    low, high = map(points, pair["interval"])
    return [
        pair["second"],
        pair["first"],
        points(pair["difference"]),
        f"{low} to {high}",
        f"{pair['only_first']:,}",
        f"{pair['only_second']:,}",
        f"{pair['p_value']:.2g}",
        "more than chance" if pair["p_value"] < SURE else "may be chance",
    ]


def points(share: float) -> str:
    """Print a difference in points: 0.0123 -> '+1.2'."""
    # z: what rounds to -0.0 is printed as 0.0
    return f"{100 * share:+z.1f}".replace("-", "−")


def recipe_part(numbers: Mapping[str, Any]) -> Markup:
    """List the fields of the recipe that differ."""
    if not numbers["recipe"]:
        return fill("<p>Nothing but the base.</p>")
    labels = [row["label"] for row in numbers["rows"]]
    columns = {"Setting": "", **dict.fromkeys(labels, "")}
    rows = [
        [field.replace("_", "-"), *map(str, values)] for field, values in numbers["recipe"].items()
    ]
    return table_html(columns, rows, css="fit")
