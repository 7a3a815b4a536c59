"""The report's account of the unknown answer: whether pictures that show none of the classes are
noticed."""

import numpy as np
from markupsafe import Markup

from finetune.figures import certainty
from finetune.figures.drawing import Drawing
from finetune.report.page import beside, facts, fill, join, part, percent, plural, soft, table_html
from finetune.report.run_files import Finished
from zoo.contract.report import UnknownRates

SCORE_BINS = 30
"""Bins of the histogram of unknown scores."""
COLUMNS_EXPLAINED = (
    "AUROC is the chance that a foreign picture has a higher score than one of {} (0.5: they "
    "cannot be told apart). Plain confidence is how sure a classifier without this score would "
    "have been, on average, that such a picture shows one of the classes."
)
"""What the table of foreign sets says; of the headline's split."""


def unknown_part(run: Finished, scores: Drawing | None) -> Markup:
    """Show whether pictures that show none of the classes are noticed."""
    unknown, fitted = run.decision["unknown"], run.decision["fitted"]["unknown"]
    measured, title = run.report.unknown, "“None of these”"
    if unknown is None or measured is None or scores is None:
        nothing = (
            "<p>No threshold was fitted: every picture gets one of the classes, also one that "
            "shows none of them.</p>"
        )
        return part(title, fill(nothing))
    shown = facts(
        [
            ("Threshold", f"{unknown['threshold']:.4f}", "a larger score is unknown"),
            (
                "Own pictures rejected",
                percent(measured.rejected),
                f"on {run.split}; {percent(fitted['rejected'])} when fitted",
            ),
        ]
    )
    score = soft(
        "The score is the distance to the nearest of {} (number {} of them). Top-1 above counts "
        "the nearest class also where the answer is “unknown”.",
        plural(fitted["references"], "reference picture"),
        unknown["neighbours"],
    )
    text = join((shown, _foreign_table(measured), soft(COLUMNS_EXPLAINED, run.split), score))
    return part(title, beside(scores, text))


def _foreign_table(unknown: UnknownRates) -> Markup:
    """Show how well each foreign set is told from the run's own pictures."""
    if not unknown.foreign:
        return Markup("")
    columns = {
        "Foreign": "",
        "Pictures": "num",
        "AUROC": "num",
        "Called unknown": "num",
        "Plain confidence": "num",
    }
    rows = []
    for name, foreign in unknown.foreign.items():
        shares = (percent(foreign.rejected), percent(foreign.confidence))
        rows.append([name, f"{foreign.pictures:,}", f"{foreign.auroc:.3f}", *shares])
    return table_html(columns, rows)


def score_histogram(run: Finished) -> tuple[dict[str, list[float]], list[float]]:
    """Give (set -> share of its pictures in each bin, the bins' edges): the headline's split first,
    then foreign sets."""
    sets = {run.split: run.answers.unknown_score}
    for name in run.every.foreign:
        sets[name] = run.every.of(name).unknown_score
    # the same edges for all sets, so that their bars can be compared
    every = np.concatenate(list(sets.values()))
    low, high = every.min(), every.max()
    # bins need a width, also where every score is the same
    if high == low:
        high = low + 1
    edges = np.linspace(low, high, SCORE_BINS + 1)
    shares = {}
    for name, scores in sets.items():
        counts, _ = np.histogram(scores, edges)
        # shares, because the sets differ in size
        shares[name] = (counts / max(1, len(scores))).tolist()
    return shares, edges.tolist()


def scores_figure(run: Finished) -> Drawing | None:
    """Draw the histogram of unknown scores; None without a threshold."""
    unknown = run.decision["unknown"]
    if not unknown:
        return None
    return certainty.unknown_scores(*score_histogram(run), unknown["threshold"])
