"""How the runs of a comparison learned: their learning rates in one picture, their errors in
others."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup

from finetune.data.loader import steps_per_epoch
from finetune.figures import learning
from finetune.figures.drawing import Drawing
from finetune.figures.svg import LONGEST_LABEL, MOST_POINTS, Series
from finetune.recipe.resolved import Resolved
from finetune.report.page import fill, image, join, panels, part, soft
from finetune.report.run_files import Finished
from finetune.report.write import Curves, error_curves
from finetune.train.schedule import schedule

MOST_LINES = len(learning.LINES)
"""Rows that a figure can tell apart."""
MOST_DOUBLE = 4
"""Of more rows, the picture with all of them shows select alone."""


class Learned(NamedTuple):
    """How a run learned."""

    label: str
    """Of its row."""
    rates: Series
    """(epoch, learning rate) of its schedule; empty where nothing was trained."""
    wrong: Curves


def learned_of(runs: Sequence[Finished], numbers: Mapping[str, Any]) -> dict[str, Learned]:
    """Give the curves of the first seed of each row that is drawn, by a name that fits into a
    legend: of the first row and the best others, in their order."""
    of_folder = {run.name: run for run in runs}
    first, *others = numbers["rows"]
    others.sort(key=lambda row: -row["top1"])
    drawn = [first, *others[: MOST_LINES - 1]]
    found = {}
    for number, row in enumerate(numbers["rows"], 1):
        if row in drawn:
            run = of_folder[row["folders"][0]]
            found[_short(row["label"], number)] = Learned(
                row["label"], rates(run), error_curves(run)
            )
    return found


def _short(label: str, number: int) -> str:
    """Begin a label that a legend would cut off with its number, which tells it from others that
    begin alike."""
    if len(label) <= LONGEST_LABEL:
        return label
    return f"{number}: {label}"[:LONGEST_LABEL].rstrip(" ,")


def rates(run: Finished) -> Series:
    """Compute the schedule of a run at up to MOST_POINTS of its steps, from its recipe."""
    recipe = Resolved.from_json(run.recipe).recipe
    trained = [step for step, _ in run.series.get("train/lr", ())]
    if not trained:
        return []
    pictures = sum(run.data["counts"]["train"].values())
    planned = schedule(recipe, steps_per_epoch=steps_per_epoch(pictures, recipe.batch_size))
    # a run without patience left ended before its schedule
    steps = np.unique(np.linspace(0, max(trained) - 1, MOST_POINTS).round().astype(int))
    return [(step / planned.steps_per_epoch, planned.lr(step)) for step in steps.tolist()]


def figures(learned: Mapping[str, Learned]) -> list[Drawing]:
    """Draw the schedules of all runs in one picture, and their errors beside it, top-1 and top-5;
    none for what was not trained or not recorded."""
    drawings = []
    if by_name := {name: run.rates for name, run in learned.items() if run.rates}:
        drawings.append(learning.schedules(by_name))
    for top in ("top-1", "top-5"):
        curves = {name: run.wrong[top] for name, run in learned.items() if top in run.wrong}
        if len(curves) > MOST_DOUBLE:
            curves = {name: {"select": by_split["select"]} for name, by_split in curves.items()}
        if curves:
            title = f"{top.capitalize()} error"
            drawings.append(learning.errors(curves, name=f"error-{top}", title=title))
    return drawings


def curves_part(
    learned: Mapping[str, Learned], drawings: Sequence[Drawing], *, rows: int
) -> Markup:
    """Show all runs in one picture, then both errors of each run."""
    if not drawings:
        return fill("<p>No epoch was trained.</p>")
    own = []
    for run in learned.values():
        if run.wrong:
            own.append(part(run.label, image(learning.errors(run.wrong))))
    scope = "Of several seeds, the first is drawn."
    if rows > len(learned):
        scope += f" Of {rows} rows, these are the first and the best {len(learned) - 1} others."
    return join(
        (
            panels(drawings),
            soft(
                "Training error is measured on augmented pictures while the weights change, so it "
                "can lie above that on select. Epoch 0 is the model before the first step. {}",
                scope,
            ),
            fill('<div class="panels">{}</div>', join(own)),
        )
    )
