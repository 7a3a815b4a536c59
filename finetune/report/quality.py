"""The report's first question, "How good is it?": the headline, with and without test-time views,
splits, classes."""

from collections.abc import Sequence
from pathlib import Path

from finetune.report.page import (
    Html,
    bdi,
    details,
    facts,
    fill,
    interval_bar,
    interval_text,
    join,
    meter,
    part,
    percent,
    plural,
    section,
    soft,
    table,
)
from finetune.report.run_files import Finished
from zoo.bases import catalog, licences
from zoo.contract.report import Numbers, Plain
from zoo.picture import tta

ALL_ROWS = 100
"""Up to this many classes every one has its row, above only the WORST_ROWS."""
WORST_ROWS = 50
OPEN_ROWS = 20
"""Up to this many rows the table of classes is unfolded."""


def quality_section(run: Finished, next_steps: Html, ranking: Html) -> Html:
    """The numbers a reader came for; `next_steps` is a summary that stands beside them, `ranking`
    the curves of the classes."""
    low, high = run.numbers.top1_interval
    hero = fill(
        """<div class="hero"><div>
<p class="label">{split} top-1</p><p class="big" id="top1">{top1}</p>
<p>95 % interval {low} to {high}</p><p class="soft">{pictures}; {note}</p></div>
{tiles}</div>""",
        split=run.split,
        top1=Html(top1_text(run).replace("\u00a0%", "<small>%</small>")),
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
    """Top-1 of the headline as it is shown everywhere."""
    return percent(run.numbers.top1, 2)


def tiles(run: Finished) -> list[tuple[object, object, object]]:
    """The lesser numbers of the headline."""
    head, best, probe = run.report.headline, run.report.best, run.report.probe
    largest = max(run.pictures_of.values(), default=0) / max(1, len(run.answers))
    return [
        ("Top-5", percent(run.numbers.top5, 2), "right within five")
        if len(run.classes) > 5
        else ("", "", ""),
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
        (
            "Linear probe",
            percent(probe.select_top1, 2) if probe else "none",
            "top-1 on select" if probe else "",
        ),
    ]


def notices(run: Finished) -> list[Html]:
    """What a reader must not overlook: the licence, and a run in which fine-tuning gained
    nothing."""
    base, probe = run.report.base, run.report.probe
    found = []
    started_from = catalog.Base(
        base.name,
        base.architecture,
        "",
        base.hub_id,
        licence=base.licence,
        folder=None if base.hub_id else Path(base.name),
    )
    if note := licences.licence_note(started_from):
        red = "bad" if licences.forbids_commercial_use(base.licence) else ""
        found.append(fill('<p class="notice {}">{}</p>', red, note))
    if probe and probe.kept and not run.value_of("probe_only"):
        found.append(
            fill(
                '<p class="notice">No epoch was better on select than the linear probe, so the '
                "probe is the result: try more epochs or another learning rate.</p>"
            )
        )
    return found


def views_part(run: Finished) -> Html:
    """The deployed answer against the plain one: one view, no temperature."""
    head, views, temperature = run.numbers, run.decision["views"], run.decision["temperature"]
    answers: list[tuple[str, float, Numbers | Plain]]
    count = len(tta.VIEWS[views])
    deployed = f"Deployed: {views}, {count} views" if count > 1 else "Deployed: one view"
    answers = [(deployed, temperature, head), ("Plain: one view", 1.0, head.plain)]
    rows = [
        [
            f"{name}, temperature {heat:.3g}",
            percent(of.top1, 2),
            interval_text(of.top1_interval),
            f"{of.loss:.4f}",
            percent(of.ece, 2),
        ]
        for name, heat, of in answers
    ]
    columns = {
        "Answer": "",
        "Top-1": "num",
        "95 % interval": "num wide",
        "Loss": "num",
        "ECE": "num",
    }
    note = (
        "The deployed answer is the mean over the views."
        if count > 1
        else "There is one view, so both give the same classes: the temperature changes "
        "probabilities, not their order."
    )
    return part(
        "With and without test-time views and calibration",
        table(columns, rows, css="fit first"),
        soft(
            "{} ECE is how far probabilities are from the share of right answers, on average.", note
        ),
    )


def splits_part(run: Finished) -> Html:
    """Every evaluated split, with its interval drawn on one scale."""
    splits = run.report.splits
    floor = scale_floor([of.top1_interval[0] for of in splits.values()])
    top5 = {"Top-5": "num"} if len(run.classes) > 5 else {}
    columns = {
        "Split": "",
        "Pictures": "num",
        "Top-1": "num",
        "95 % interval": "num",
        **top5,
        "Loss": "num wide",
        f"{100 * floor:.0f} to 100\u00a0%": "wide",
    }

    def row(name: str, of: Numbers) -> list[object]:
        low, high = of.top1_interval
        return [
            name,
            f"{of.pictures:,}",
            percent(of.top1, 2),
            interval_text(of.top1_interval),
            *([percent(of.top5, 2)] if top5 else []),
            f"{of.loss:.4f}",
            interval_bar(low, of.top1, high, floor=floor),
        ]

    ordered = sorted(splits.items(), key=lambda item: item[0] != run.split)
    return part(
        "All splits", table(columns, [row(*item) for item in ordered], css="fit splits first")
    )


def scale_floor(lowest: Sequence[float]) -> float:
    """Where a scale for these shares begins: the tenth below."""
    return min(min(lowest), 0.99) // 0.1 * 0.1


def per_class_part(run: Finished) -> Html:
    """Precision, recall and F1 of each class, the worst first; of many classes the worst."""
    order = sorted(run.report.per_class, key=lambda row: (row.f1 is None, row.f1, row.name))
    shown = order if len(order) <= ALL_ROWS else order[:WORST_ROWS]
    scope = (
        f"the {WORST_ROWS} classes (of {len(order):,}) with the lowest F1"
        if len(shown) < len(order)
        else "lowest F1 first"
    )
    rows = [
        [
            bdi(row.name),
            meter(row.f1, percent(row.f1)),
            percent(row.precision),
            percent(row.recall),
            f"{row.pictures:,}",
        ]
        for row in shown
    ]
    columns = {"Class": "", "F1": "num", "Precision": "num", "Recall": "num", "Pictures": "num"}
    content = join((soft("On {}; {}.", run.split, scope), table(columns, rows, css="fit classes")))
    return part(
        "Classes",
        content if len(rows) <= OPEN_ROWS else details(f"Show {len(rows)} classes", content),
    )
