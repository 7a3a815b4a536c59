"""`compare.html`: runs side by side, in the style of a run's report."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from finetune.figures import learning
from finetune.figures.drawing import Drawing
from finetune.report.page import (
    Html,
    bdi,
    document,
    duration,
    fill,
    image,
    interval_bar,
    interval_text,
    join,
    part,
    percent,
    section,
    soft,
    table,
)
from finetune.report.quality import scale_floor
from finetune.report.run_files import Finished
from finetune.report.write import Curves, error_curves
from zoo.contract import rundir

PAGE, NUMBERS = "compare.html", "compare.json"
SURE = 0.05
"""A difference with a smaller p-value is called more than chance."""


def write_comparison(folder: Path, runs: Sequence[Finished], numbers: Mapping[str, Any]) -> None:
    """`compare.json`, `compare.html` and figures of runs that lie in `folder`; `numbers`:
    side_by_side's."""
    labels = [row["label"] for row in numbers["runs"]]
    wrong = dict(zip(labels, map(error_curves, runs), strict=True))
    drawings = comparison_figures(wrong)
    (folder / rundir.FIGURES).mkdir(exist_ok=True)
    for drawing in drawings:
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
    notes = join(fill('<p class="notice">{}</p>', note) for note in numbers["notes"])
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


def runs_table(runs: Sequence[Finished], numbers: Mapping[str, Any]) -> Html:
    """One row a run, the best first."""
    rows = sorted(zip(runs, numbers["runs"], strict=True), key=lambda item: -item[1]["top1"])
    floor = scale_floor([of["top1_interval"][0] for _, of in rows])
    top5 = {"Top-5": "num"} if len(runs[0].classes) > 5 else {}
    columns = {
        "Base": "",
        "Top-1": "num",
        "95 % interval": "num",
        **top5,
        "Macro F1": "num wide",
        "Loss": "num wide",
        "Probe": "num wide",
        "MB": "num",
        "Time": "num",
        f"{100 * floor:.0f} to 100\u00a0%": "wide",
    }

    def cells(run: Finished, of: Mapping[str, Any]) -> list[object]:
        low, high = of["top1_interval"]
        return [
            fill('<a href="{}">{}</a>', f"{quote(run.folder.name)}/{rundir.PAGE}", of["label"]),
            percent(of["top1"], 2),
            interval_text(of["top1_interval"]),
            *([percent(of["top5"], 2)] if top5 else []),
            percent(of["macro_f1"], 2),
            f"{of['loss']:.4f}",
            percent(of["probe_top1"]),
            f"{of['size_mb']:.1f}",
            duration(of["seconds"]),
            interval_bar(low, of["top1"], high, floor=floor),
        ]

    return table(columns, [cells(*item) for item in rows], css="fit splits first")


def pairs_part(numbers: Mapping[str, Any]) -> Html:
    """Each pair on the same pictures."""
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
    rows = [
        [
            of["second"],
            of["first"],
            points(of["difference"]),
            f"{points(of['interval'][0])} to {points(of['interval'][1])}",
            f"{of['only_first']:,}",
            f"{of['only_second']:,}",
            f"{of['p_value']:.2g}",
            "more than chance" if of["p_value"] < SURE else "may be chance",
        ]
        for of in numbers["pairs"]
    ]
    if not rows:
        return Html("")
    return part(
        "Picture by picture",
        table(columns, rows, css="fit"),
        soft(
            "Both answered the same pictures, so only those count that one has right and the other "
            "wrong (McNemar's exact test). Differences are in points of top-1. Another seed of one "
            "base may differ as much."
        ),
    )


def points(share: float) -> str:
    """0.0123 -> '+1.2'."""
    return f"{100 * share:+.1f}".replace("-", "−")


def comparison_figures(wrong: Mapping[str, Curves]) -> list[Drawing]:
    """Error curves of all runs in one picture, top-1 and top-5; none for what was not trained or
    not recorded."""
    return [
        learning.errors(
            {label: of[top] for label, of in wrong.items() if top in of},
            name=f"error-{top}",
            title=f"{top.capitalize()} error",
        )
        for top in ("top-1", "top-5")
        if any(top in of for of in wrong.values())
    ]


def curves_part(wrong: Mapping[str, Curves], drawings: Sequence[Drawing]) -> Html:
    """All runs in one picture, then both errors of each run."""
    if not drawings:
        return fill("<p>No epoch was trained.</p>")
    own = [part(label, image(learning.errors(of))) for label, of in wrong.items() if of]
    return join(
        (
            fill('<div class="panels">{}</div>', join(map(image, drawings))),
            soft(
                "Training error is measured on augmented pictures while the weights change, so it "
                "can lie above that on select. Epoch 0 is the model before the first step."
            ),
            fill('<div class="panels">{}</div>', join(own)),
        )
    )


def recipe_part(numbers: Mapping[str, Any]) -> Html:
    """Fields of the recipe that differ."""
    if not numbers["recipe"]:
        return fill("<p>Nothing but the base.</p>")
    columns = {"Setting": "", **{row["label"]: "" for row in numbers["runs"]}}
    return table(
        columns,
        [
            [field.replace("_", "-"), *(str(value) for value in values)]
            for field, values in numbers["recipe"].items()
        ],
        css="fit",
    )
