"""The report's second question, "Can I trust the numbers?": calibration, views, prediction sets,
foreign pictures."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from markupsafe import Markup

from finetune.evaluation import metrics
from finetune.figures import certainty
from finetune.figures.drawing import Drawing
from finetune.report.history import standard_error
from finetune.report.page import (
    beside,
    details,
    facts,
    fill,
    join,
    notice,
    part,
    percent,
    plural,
    section,
    soft,
    strong,
    table_html,
)
from finetune.report.run_files import Finished
from finetune.report.trust_data import data_part
from finetune.report.trust_unknown import unknown_part
from zoo.picture import tta


def trust_section(run: Finished, diagram: Drawing, scores: Drawing | None) -> Markup:
    """Show everything that tells how far a number of the page, or of an answer, can be believed."""
    warnings = join(map(notice, run.decision["fitted"]["warnings"]))
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


def fit_text(run: Finished) -> Markup:
    """Say what temperature, sets and threshold were fitted on, and what follows for the numbers
    below."""
    fitted = run.decision["fitted"]
    verdict = f"They are measured here on {run.split}, which had no part in it."
    # so it is without a test folder
    if fitted["split"] == run.split:
        verdict = (
            "They are measured here on the same pictures, so they look a little better than they "
            "will be: a test folder would tell."
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
    """Compute the bins of the diagram before and after calibration, on the headline's split."""
    own = run.answers
    return (
        metrics.reliability(own.plain_confidence, own.plain_predicted == own.label),
        metrics.reliability(own.confidence, own.right),
    )


def calibration_part(run: Finished, diagram: Drawing) -> Markup:
    """Show whether a probability means what it says."""
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
    """Say in words whether answers were too sure before calibration, and whether they are now."""
    own = run.answers
    before = _sureness(own.plain_confidence, own.plain_predicted == own.label)
    deployed = _sureness(own.confidence, own.right)
    return f"Before calibration the network is {before}, as deployed {deployed}."


def _sureness(confidence_N: np.ndarray, right_N: np.ndarray) -> str:
    """Say whether answers claim more than they keep, with the numbers."""
    stated, share = confidence_N.mean(), right_N.mean()
    # the smallest difference that is worth a word
    noise = 2 * standard_error(share, len(right_N))
    if abs(stated - share) <= noise:
        word = "about as sure as it is right"
    elif stated > share:
        word = "over-confident"
    else:
        word = "under-confident"
    return f"{word} ({percent(stated)} sure on average, {percent(share)} right)"


def bins_table(run: Finished) -> Markup:
    """Show the reliability diagram as a table."""
    rows = []
    for label, bins in zip(("before", "after"), reliability_bins(run), strict=True):
        for b in bins:
            rows.append([label, percent(b.confidence), percent(b.right), f"{b.pictures:,}"])
    return table_html(
        {"Calibration": "", "Confidence": "num", "Right": "num", "Pictures": "num"},
        rows,
        css="fit narrow",
    )


def views_part(run: Finished) -> Markup:
    """Show which test-time views were measured, which were chosen, and why."""
    views, fitted = run.decision["views"], run.decision["fitted"]["views"]
    passes = len(tta.VIEWS[views])
    chosen = fill(
        "<p>Chosen: <b>{}</b>, {} a picture. {}.</p>",
        views,
        "1 pass" if passes == 1 else f"{passes} passes",
        fitted["why"][:1].upper() + fitted["why"][1:],
    )
    # views that were set by hand, or a choice on too few pictures
    if not fitted["table"]:
        return part("Test-time views", chosen, soft("No other views were measured."))
    rows = [_views_row(row, chosen=row["views"] == views) for row in fitted["table"]]
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
        table_html(columns, rows, css="fit views"),
        soft(
            "The same {} for each, each with its own temperature. Gain is the fall in loss against "
            "one view, ± its standard error; the last columns count pictures that only one of the "
            "two answers rightly.",
            plural(fitted["table"][0]["pictures"], "picture"),
        ),
    )


def _views_row(row: Mapping[str, Any], *, chosen: bool) -> list[object]:
    """Show what one of the views settings reaches, against `none`."""
    against_none: list[object] = ["–", "–", "–"]
    if row["views"] != "none":
        against_none = [gain(row), row["only_it_right"], row["only_none_right"]]
    return [
        strong(row["views"], chosen),
        f"{row['passes']}×",
        percent(row["top1"], 2),
        f"{row['loss']:.4f}",
        *against_none,
    ]


def gain(row: Mapping[str, Any]) -> Markup:
    """Show how much lower the loss is than that of one view, and the standard error (not on narrow
    screens)."""
    return fill(
        '{}<span class="wide"> ± {}</span>',
        # z: what rounds to -0.0 is printed as 0.0
        f"{row['gain']:+z.4f}".replace("-", "−"),
        f"{row['gain_error']:.4f}",
    )


def sets_part(run: Finished) -> Markup:
    """Show how often the true class is in the prediction set, and how large sets are."""
    sets, own = run.decision["sets"], run.answers
    title = "Prediction sets"
    if sets is None:
        return part(title, fill("<p>None: no coverage was asked for.</p>"))
    covered = int(own.label_in_set.sum())
    low, high = metrics.wilson_interval(covered, len(own))
    shown = [
        ("Asked for", percent(sets["coverage"]), "true class in the set"),
        (
            "Measured",
            percent(covered / len(own)),
            f"on {run.split}, {interval_text_percent(low, high)}",
        ),
        ("Mean size", f"{own.set_size.mean():.2f}", f"of {len(run.classes):,} classes"),
        ("A single class", percent(float((own.set_size == 1).mean())), "of the sets"),
    ]
    warning = Markup("")
    # the upper end, as less of a shortfall may be chance
    if high < sets["coverage"]:
        warning = notice(
            "The sets hold the true class less often than was asked for, by more than chance "
            f"explains: {run.split} may differ from the pictures they were fitted on."
        )
    return part(title, facts(shown), warning, soft("{}", _rule(sets["least_probability"])))


def _rule(least: float) -> str:
    """Say which classes a set holds; `least` is the lowest probability of one in it."""
    if least == 0:
        return "Too few pictures to fit it, so every set holds all classes."
    return (
        f"A set holds each class with a probability of at least {percent(least)}, and always the "
        "most probable one."
    )


def interval_text_percent(low: float, high: float) -> str:
    """Print an interval: (0.861, 0.912) -> '86.1 to 91.2 %'."""
    return f"{100 * low:.1f} to {percent(high)}"


def reliability_figure(run: Finished) -> Drawing:
    """Draw the reliability diagram, before and after calibration."""
    return certainty.reliability(*reliability_bins(run))
