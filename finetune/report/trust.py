"""The report's second question, "Can I trust the numbers?": calibration, views, prediction sets,
foreign pictures."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from finetune.evaluation import metrics
from finetune.figures import certainty
from finetune.figures.drawing import Drawing
from finetune.report.advice import standard_error
from finetune.report.page import (
    Html,
    details,
    facts,
    fill,
    image,
    join,
    part,
    percent,
    plural,
    section,
    soft,
    strong,
    table,
)
from finetune.report.run_files import Finished
from finetune.report.trust_data import data_part
from zoo.picture import tta

SCORE_BINS = 30
"""Bins of the histogram of unknown scores."""


def trust_section(run: Finished, diagram: Drawing, scores: Drawing | None) -> Html:
    """Everything that tells how far a number of the page, or of an answer, can be believed."""
    warnings = join(
        fill('<p class="notice">{}</p>', warning) for warning in run.decision["fitted"]["warnings"]
    )
    return section(
        "trust",
        "Can I trust the numbers?",
        fit_text(run),
        warnings,
        calibration_part(run, diagram),
        views_part(run),
        sets_part(run),
        unknown_part(run, scores),
        data_part(run),
    )


def fit_text(run: Finished) -> Html:
    """What temperature, sets and threshold were fitted on, and what follows for the numbers
    below."""
    fitted = run.decision["fitted"]
    same = fitted["split"] == run.split
    verdict = (
        "They are measured here on the same pictures, so they look a little better than they will "
        "be: a test folder would tell."
        if same
        else f"They are measured here on {run.split}, which had no part in it."
    )
    return fill(
        '<p class="prose">Temperature, views, sets and threshold were fitted on {} of {} ({}). '
        "{}</p>",
        plural(fitted["pictures"], "picture"),
        fitted["split"],
        fitted["note"],
        verdict,
    )


def reliability_bins(run: Finished) -> tuple[list[metrics.Bin], list[metrics.Bin]]:
    """The bins of the diagram before and after calibration, on the headline's split."""
    own = run.answers
    return (
        metrics.reliability(own.plain_confidence, own.plain_predicted == own.label),
        metrics.reliability(own.confidence, own.right),
    )


def calibration_part(run: Finished, diagram: Drawing) -> Html:
    """Whether a probability means what it says."""
    head, temperature = run.numbers, run.decision["fitted"]["temperature"]
    shown = facts(
        [
            ("ECE before", percent(head.plain.ece, 2), "one view, temperature 1"),
            ("ECE after", percent(head.ece, 2), "as deployed"),
            (
                "Temperature",
                f"{run.decision['temperature']:.3f}",
                "above 1 makes answers less sure",
            ),
            (
                "Loss when fitted",
                f"{temperature['loss_after']:.4f}",
                f"{temperature['loss_before']:.4f} before; on {run.decision['fitted']['split']}",
            ),
        ]
    )
    text = join(
        (
            shown,
            soft("{}", tendency(run)),
            soft(
                "Each point gathers answers of about the same confidence; on the dotted diagonal, "
                "answers given with 80 % are right 80 % of the time. Below it they are "
                "over-confident. Upright bars are 95 % intervals; the bars at the foot count the "
                "pictures. ECE is the mean distance from the diagonal, weighted by pictures."
            ),
            details("The numbers of this figure", bins_table(run)),
        )
    )
    return part("Do probabilities mean what they say?", beside(diagram, text))


def tendency(run: Finished) -> str:
    """In words: whether answers were too sure before calibration, and whether they are now."""
    own = run.answers

    def verdict(confidence: np.ndarray, right: np.ndarray) -> str:
        stated, share = confidence.mean(), right.mean()
        # the smallest difference that is worth a word
        noise = 2 * standard_error(share, len(right))
        word = (
            "about as sure as it is right"
            if abs(stated - share) <= noise
            else "over-confident"
            if stated > share
            else "under-confident"
        )
        return f"{word} ({percent(stated)} sure on average, {percent(share)} right)"

    return (
        "Before calibration the network is "
        f"{verdict(own.plain_confidence, own.plain_predicted == own.label)}, as deployed "
        f"{verdict(own.confidence, own.right)}."
    )


def bins_table(run: Finished) -> Html:
    """The reliability diagram as a table."""
    rows = [
        [label, percent(b.confidence), percent(b.right), f"{b.pictures:,}"]
        for label, bins in zip(("before", "after"), reliability_bins(run), strict=True)
        for b in bins
    ]
    return table(
        {"Calibration": "", "Confidence": "num", "Right": "num", "Pictures": "num"},
        rows,
        css="fit narrow",
    )


def views_part(run: Finished) -> Html:
    """Which test-time views were measured, which were chosen, and why."""
    views, fitted = run.decision["views"], run.decision["fitted"]["views"]
    passes = len(tta.VIEWS[views])
    chosen = fill(
        "<p>Chosen: <b>{}</b>, {} a picture. {}.</p>",
        views,
        f"{passes} pass{'es' * (passes > 1)}",
        fitted["why"][:1].upper() + fitted["why"][1:],
    )
    if not fitted["table"]:
        return part("Test-time views", chosen, soft("No other views were measured."))
    rows = [
        [
            strong(row["views"], row["views"] == views),
            f"{row['passes']}×",
            percent(row["top1"], 2),
            f"{row['loss']:.4f}",
            gain(row) if row["views"] != "none" else "–",
            *(
                [row["only_it_right"], row["only_none_right"]]
                if row["views"] != "none"
                else ["–", "–"]
            ),
        ]
        for row in fitted["table"]
    ]
    columns = {
        "Views": "",
        "Time": "num",
        "Top-1": "num",
        "Loss": "num",
        "Gain in loss": "num",
        "Only these right": "num wide",
        "Only none right": "num wide",
    }
    return part(
        "Test-time views",
        chosen,
        table(columns, rows, css="fit views"),
        soft(
            "The same {} for each, each with its own temperature. Gain is the fall in loss against "
            "one view, ± its standard error; the last columns count pictures that only one of the "
            "two answers rightly.",
            plural(fitted["table"][0]["pictures"], "picture"),
        ),
    )


def gain(row: Mapping[str, Any]) -> Html:
    """How much lower the loss is than that of one view, and the standard error (not on narrow
    screens)."""
    return fill(
        '{}<span class="wide"> ± {}</span>',
        f"{row['gain']:+.4f}".replace("-", "−"),
        f"{row['gain_error']:.4f}",
    )


def sets_part(run: Finished) -> Html:
    """How often the true class is in the prediction set, and how large sets are."""
    sets, own = run.decision["sets"], run.answers
    title = "Prediction sets"
    if sets is None:
        return part(title, fill("<p>None: no coverage was asked for.</p>"))
    covered = int(own.label_in_set.sum())
    low, high = metrics.wilson_interval(covered, len(own))
    short = (
        fill(
            '<p class="notice">The sets hold the true class less often than was asked for, by '
            "more than chance explains: {} may differ from the pictures they were fitted on.</p>",
            run.split,
        )
        if high < sets["coverage"]
        else ""
    )
    content = (
        "Too few pictures to fit it, so every set holds all classes."
        if sets["least_probability"] == 0
        else "A set holds each class with a probability of at least "
        f"{percent(sets['least_probability'])}, and always the most probable one."
    )
    return part(
        title,
        facts(
            [
                ("Asked for", percent(sets["coverage"]), "true class in the set"),
                (
                    "Measured",
                    percent(covered / len(own)),
                    f"on {run.split}, {interval_text_percent(low, high)}",
                ),
                ("Mean size", f"{own.set_size.mean():.2f}", f"of {len(run.classes):,} classes"),
                ("A single class", percent(float((own.set_size == 1).mean())), "of the sets"),
            ]
        ),
        short,
        soft("{}", content),
    )


def interval_text_percent(low: float, high: float) -> str:
    """(0.861, 0.912) -> '86.1 to 91.2 %'."""
    return f"{100 * low:.1f} to {percent(high)}"


def unknown_part(run: Finished, scores: Drawing | None) -> Html:
    """Whether pictures that show none of the classes are noticed."""
    unknown, fitted, found = (
        run.decision["unknown"],
        run.decision["fitted"]["unknown"],
        run.report.unknown,
    )
    title = "“None of these”"
    if unknown is None or found is None or scores is None:
        return part(
            title,
            fill(
                "<p>No threshold was fitted: every picture gets one of the classes, also one that "
                "shows none of them.</p>"
            ),
        )
    shown = facts(
        [
            ("Threshold", f"{unknown['threshold']:.4f}", "a larger score is unknown"),
            (
                "Own pictures rejected",
                percent(found.rejected),
                f"on {run.split}; {percent(fitted['rejected'])} when fitted",
            ),
        ]
    )
    columns = {
        "Foreign": "",
        "Pictures": "num",
        "AUROC": "num",
        "Called unknown": "num",
        "Plain confidence": "num",
    }
    rows = [
        [
            name,
            f"{of.pictures:,}",
            f"{of.auroc:.3f}",
            percent(of.rejected),
            percent(of.confidence),
        ]
        for name, of in found.foreign.items()
    ]
    text = join(
        (
            shown,
            table(columns, rows) if rows else "",
            soft(
                "AUROC is the chance that a foreign picture has a higher score than one of {} "
                "(0.5: they cannot be told apart). Plain confidence is how sure a classifier "
                "without this score would have been, on average, that such a picture shows one of "
                "the classes.",
                run.split,
            ),
            soft(
                "The score is the distance to the nearest of {} (number {} of them). Top-1 above "
                "counts the nearest class also where the answer is “unknown”.",
                plural(fitted["references"], "reference picture"),
                unknown["neighbours"],
            ),
        )
    )
    return part(title, beside(scores, text))


def score_histogram(run: Finished) -> tuple[dict[str, list[float]], list[float]]:
    """(set -> share of its pictures in each bin, the bins' edges): the headline's split first, then
    foreign sets."""
    known = run.answers.unknown_score
    sets = {run.split: known} | {
        name: run.every.of(name).unknown_score for name in run.every.foreign
    }
    every = np.concatenate(list(sets.values()))
    edges = np.linspace(
        every.min(), every.max() if every.max() > every.min() else every.min() + 1, SCORE_BINS + 1
    )
    return {
        name: (np.histogram(scores, edges)[0] / max(1, len(scores))).tolist()
        for name, scores in sets.items()
    }, edges.tolist()


def reliability_figure(run: Finished) -> Drawing:
    """The reliability diagram, before and after calibration."""
    return certainty.reliability(*reliability_bins(run))


def scores_figure(run: Finished) -> Drawing | None:
    """The histogram of unknown scores; None without a threshold."""
    unknown = run.decision["unknown"]
    return (
        certainty.unknown_scores(*score_histogram(run), unknown["threshold"]) if unknown else None
    )


def beside(drawing: Drawing, text: Html) -> Html:
    """A figure with text beside it; below it where there is no room."""
    return fill(
        '<div class="beside figure"><div class="plot">{}</div><div class="grow">{}</div></div>',
        image(drawing),
        text,
    )
