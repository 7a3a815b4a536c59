"""`compare.html`: runs side by side, in the style of a run's report."""

from collections.abc import Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from finetune.figures import learning
from finetune.figures.drawing import Drawing
from finetune.report.page import (
    bdi,
    document,
    duration,
    fill,
    image,
    interval_bar,
    interval_text,
    join,
    notice,
    panels,
    part,
    percent,
    section,
    soft,
    table_html,
)
from finetune.report.quality import scale_floor
from finetune.report.run_files import Finished
from finetune.report.write import Curves, error_curves
from zoo.contract import rundir

PAGE, NUMBERS = "compare.html", "compare.json"
SURE = 0.05
"""A difference with a smaller p-value is called more than chance."""


def write_comparison(folder: Path, runs: Sequence[Finished], numbers: Mapping[str, Any]) -> None:
    """Write `compare.json`, `compare.html` and figures of runs that lie in `folder`; `numbers` are
    those of `side_by_side`."""
    labels = [row["label"] for row in numbers["runs"]]
    wrong = dict(zip(labels, map(error_curves, runs), strict=True))
    drawings = comparison_figures(wrong)
    (folder / rundir.FIGURES).mkdir(exist_ok=True)
    for drawing in drawings:
        # one that could not be drawn is a notice on the page
        if drawing.svg:
            rundir.write_text(folder / rundir.FIGURES / f"{drawing.name}.svg", drawing.svg)
    rundir.write_json(folder / NUMBERS, numbers)
    title = " and ".join(labels)
    head = fill(
        '<header><h1>{}</h1><p class="soft">On {}; each name leads to the report of its '
        "run.</p></header>\n",
        bdi(title),
        f"{numbers['runs'][0]['pictures']:,} pictures of {numbers['split']}",
    )
    notes = join(map(notice, numbers["notes"]))
    body = join(
        (
            head,
            section(
                "good", "Which is better?", notes, runs_table(runs, numbers), pairs_part(numbers)
            ),
            section("curves", "How did they learn?", curves_part(wrong, drawings)),
            section("recipe", "What differed?", recipe_part(numbers)),
        )
    )
    rundir.write_text(folder / PAGE, document(f"{title}, compared", body))


def runs_table(runs: Sequence[Finished], numbers: Mapping[str, Any]) -> Markup:
    """Show one row a run, the best first."""
    floor = scale_floor([row["top1_interval"][0] for row in numbers["runs"]])
    scale = f"{100 * floor:.0f} to 100\u00a0%"
    columns = {
        "Base": "",
        "Top-1": "num",
        "95 % interval": "num",
        "Top-5": "num",
        "Macro F1": "num wide",
        "Loss": "num wide",
        "Probe": "num wide",
        "MB": "num",
        "Time": "num",
        scale: "wide",
    }
    # all of five classes are among the best five
    if len(runs[0].classes) <= 5:
        del columns["Top-5"]

    rows = []
    for run, row in zip(runs, numbers["runs"], strict=True):
        low, high = row["top1_interval"]
        cells = _run_cells(run, row)
        cells[scale] = interval_bar(low, row["top1"], high, floor=floor)
        rows.append((row["top1"], list(map(cells.__getitem__, columns))))
    rows.sort(key=itemgetter(0), reverse=True)
    return table_html(columns, map(itemgetter(1), rows), css="fit splits first")


def _run_cells(run: Finished, row: Mapping[str, Any]) -> dict[str, object]:
    """Give what stands in each column for one run, but for the interval's drawing."""
    # relative, so that the folder may be moved; a name may hold what an address may not
    page = f"{quote(run.folder.name)}/{rundir.PAGE}"
    return {
        "Base": fill('<a href="{}">{}</a>', page, row["label"]),
        "Top-1": percent(row["top1"], 2),
        "95 % interval": interval_text(row["top1_interval"]),
        "Top-5": percent(row["top5"], 2),
        "Macro F1": percent(row["macro_f1"], 2),
        "Loss": f"{row['loss']:.4f}",
        "Probe": percent(row["probe_top1"]),
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


def comparison_figures(wrong: Mapping[str, Curves]) -> list[Drawing]:
    """Draw the error curves of all runs in one picture, top-1 and top-5; none for what was not
    trained or not recorded."""
    drawings = []
    for top in ("top-1", "top-5"):
        curves = {label: of_run[top] for label, of_run in wrong.items() if top in of_run}
        if curves:
            title = f"{top.capitalize()} error"
            drawings.append(learning.errors(curves, name=f"error-{top}", title=title))
    return drawings


def curves_part(wrong: Mapping[str, Curves], drawings: Sequence[Drawing]) -> Markup:
    """Show all runs in one picture, then both errors of each run."""
    if not drawings:
        return fill("<p>No epoch was trained.</p>")
    own = []
    for label, curves in wrong.items():
        # runs of an earlier version, or of the probe alone, have none
        if curves:
            own.append(part(label, image(learning.errors(curves))))
    return join(
        (
            panels(drawings),
            soft(
                "Training error is measured on augmented pictures while the weights change, so it "
                "can lie above that on select. Epoch 0 is the model before the first step."
            ),
            fill('<div class="panels">{}</div>', join(own)),
        )
    )


def recipe_part(numbers: Mapping[str, Any]) -> Markup:
    """List the fields of the recipe that differ."""
    if not numbers["recipe"]:
        return fill("<p>Nothing but the base.</p>")
    labels = [row["label"] for row in numbers["runs"]]
    columns = {"Setting": "", **dict.fromkeys(labels, "")}
    rows = [
        [field.replace("_", "-"), *map(str, values)] for field, values in numbers["recipe"].items()
    ]
    return table_html(columns, rows, css="fit")
