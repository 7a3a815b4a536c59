"""The report's first question, "How good is it?": the headline, with and without test-time views,
splits, classes."""

from collections.abc import Sequence
from itertools import starmap
from pathlib import Path

from markupsafe import Markup

from finetune.report.page import (
    bdi,
    details,
    facts,
    fill,
    interval_bar,
    interval_text,
    join,
    meter,
    notice,
    part,
    percent,
    plural,
    section,
    soft,
    table_html,
)
from finetune.report.run_files import Finished
from zoo.bases import catalog, licences
from zoo.contract.report import ClassNumbers, Numbers, Plain
from zoo.picture import tta

ALL_ROWS = 100
"""Up to this many classes every one has its row, above only the WORST_ROWS."""
WORST_ROWS = 50
OPEN_ROWS = 20
"""Up to this many rows the table of classes is unfolded."""


def quality_section(run: Finished, next_steps: Markup, ranking: Markup) -> Markup:
    """Show the numbers a reader came for; `next_steps` is a summary that stands beside them,
    `ranking` the curves of the classes."""
    low, high = run.numbers.top1_interval
    hero = fill(
        """<div class="hero"><div>
<p class="label">{split} top-1</p><p class="big" id="top1">{top1}</p>
<p>95 % interval {low} to {high}</p><p class="soft">{pictures}; {note}</p></div>
{tiles}</div>""",
        split=run.split,
        # only digits and a percent sign, so there is nothing to escape
        top1=Markup(top1_text(run).replace("\u00a0%", "<small>%</small>")),
        low=percent(low),
        high=percent(high),
        pictures=plural(run.numbers.pictures, "picture"),
        note=run.report.headline.note,
        tiles=facts(tiles(run)),
    )
    return section(
        "good",
        "How good is it?",
        hero,
        join(notices(run)),
        next_steps,
        views_part(run),
        splits_part(run),
        per_class_part(run),
        ranking,
    )


def top1_text(run: Finished) -> str:
    """Print top-1 of the headline as it is shown everywhere."""
    return percent(run.numbers.top1, 2)


def tiles(run: Finished) -> list[tuple[object, object, object]]:
    """List the lesser numbers of the headline."""
    head, best = run.report.headline, run.report.best
    largest = max(run.pictures_of.values(), default=0) / max(1, len(run.answers))
    # a tile without a title is left out
    top5: tuple[object, object, object] = ("", "", "")
    if len(run.classes) > 5:
        top5 = ("Top-5", percent(run.numbers.top5, 2), "right within five")
    probe: tuple[object, object, object] = ("Linear probe", "none", "")
    if run.report.probe:
        probe = ("Linear probe", percent(run.report.probe.select_top1, 2), "top-1 on select")
    return [
        top5,
        ("Macro F1", percent(head.macro_f1, 2), "mean over classes"),
        ("Macro precision", percent(head.macro_precision, 2), "of what it says"),
        ("Macro recall", percent(head.macro_recall, 2), "of what there is"),
        ("Loss", f"{run.numbers.loss:.4f}", "cross-entropy, nats"),
        ("Largest class", percent(largest), "always answering it"),
        (
            "Best epoch",
            best.epoch if best.step else "none",
            f"top-1 {percent(best.top1, 2)} on select",
        ),
        probe,
    ]


def notices(run: Finished) -> list[Markup]:
    """Say what a reader must not overlook: the licence, and that fine-tuning gained nothing."""
    base, probe = run.report.base, run.report.probe
    shown = []
    started_from = catalog.Base(
        base.name,
        base.architecture,
        "",
        base.hub_id,
        licence=base.licence,
        # what has no place on the Hub was named by its path
        folder=None if base.hub_id else Path(base.name),
    )
    if licence := licences.licence_note(started_from):
        red = "bad" if licences.forbids_commercial_use(base.licence) else ""
        shown.append(fill('<p class="notice {}">{}</p>', red, licence))
    if probe and probe.kept and not run.value_of("probe_only"):
        shown.append(
            notice(
                "No epoch was better on select than the linear probe, so the probe is the result: "
                "try more epochs or another learning rate."
            )
        )
    return shown


def views_part(run: Finished) -> Markup:
    """Compare the deployed answer with the plain one: one view, no temperature."""
    head, views = run.numbers, run.decision["views"]
    count = len(tta.VIEWS[views])
    if count > 1:
        deployed = f"Deployed: {views}, {count} views"
        note = "The deployed answer is the mean over the views."
    else:
        deployed = "Deployed: one view"
        note = (
            "There is one view, so both give the same classes: the temperature changes "
            "probabilities, not their order."
        )
    rows = [
        _answer_row(deployed, run.decision["temperature"], head),
        _answer_row("Plain: one view", 1.0, head.plain),
    ]
    columns = {
        "Answer": "",
        "Top-1": "num",
        "95 % interval": "num wide",
        "Loss": "num",
        "ECE": "num",
    }
    return part(
        "With and without test-time views and calibration",
        table_html(columns, rows, css="fit first"),
        soft(
            "{} ECE is how far probabilities are from the share of right answers, on average.", note
        ),
    )


def _answer_row(answer: str, temperature: float, numbers: Numbers | Plain) -> list[object]:
    return [
        f"{answer}, temperature {temperature:.3g}",
        percent(numbers.top1, 2),
        interval_text(numbers.top1_interval),
        f"{numbers.loss:.4f}",
        percent(numbers.ece, 2),
    ]


def splits_part(run: Finished) -> Markup:
    """Show every evaluated split, with its interval drawn on one scale."""
    splits = run.report.splits
    floor = scale_floor([numbers.top1_interval[0] for numbers in splits.values()])
    scale = f"{100 * floor:.0f} to 100\u00a0%"
    columns = {
        "Split": "",
        "Pictures": "num",
        "Top-1": "num",
        "95 % interval": "num",
        "Top-5": "num",
        "Loss": "num wide",
        scale: "wide",
    }
    # all of five classes are among the best five
    if len(run.classes) <= 5:
        del columns["Top-5"]

    def row(name: str, numbers: Numbers) -> list[object]:
        low, high = numbers.top1_interval
        cells = {
            "Split": name,
            "Pictures": f"{numbers.pictures:,}",
            "Top-1": percent(numbers.top1, 2),
            "95 % interval": interval_text(numbers.top1_interval),
            "Top-5": percent(numbers.top5, 2),
            "Loss": f"{numbers.loss:.4f}",
            scale: interval_bar(low, numbers.top1, high, floor=floor),
        }
        return list(map(cells.__getitem__, columns))

    # the split of the headline comes first, where the style sheet sets the row in bold
    ordered = sorted(splits.items(), key=lambda item: item[0] != run.split)
    return part("All splits", table_html(columns, starmap(row, ordered), css="fit splits first"))


def scale_floor(lowest: Sequence[float]) -> float:
    """Say where a scale for these shares begins: at the tenth below."""
    # a floor of 1 would leave no scale
    return min(min(lowest), 0.99) // 0.1 * 0.1


def per_class_part(run: Finished) -> Markup:
    """Show precision, recall and F1 of each class, the worst first; of many classes the worst."""
    # classes without an F1, of which there are no pictures and no answers, come last
    order = sorted(run.report.per_class, key=lambda row: (row.f1 is None, row.f1, row.name))
    scope = "lowest F1 first"
    if len(order) > ALL_ROWS:
        scope = f"the {WORST_ROWS} classes (of {len(order):,}) with the lowest F1"
        order = order[:WORST_ROWS]
    columns = {"Class": "", "F1": "num", "Precision": "num", "Recall": "num", "Pictures": "num"}
    listed = table_html(columns, map(_class_row, order), css="fit classes")
    content = join((soft("On {}; {}.", run.split, scope), listed))
    if len(order) > OPEN_ROWS:
        content = details(f"Show {len(order)} classes", content)
    return part("Classes", content)


def _class_row(row: ClassNumbers) -> list[object]:
    f1 = meter(row.f1, percent(row.f1))
    return [bdi(row.name), f1, percent(row.precision), percent(row.recall), f"{row.pictures:,}"]
