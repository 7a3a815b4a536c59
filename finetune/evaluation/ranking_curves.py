"""Precision-recall and ROC curves of each class against the rest, from the deployed
probabilities."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from zoo.contract.report import ClassAreas, ClassCurves, Curves, Ranking

POINTS = 101
"""Every curve is kept at this many even steps of recall, or of the false positive rate."""
SHOWN = 3
"""Classes with the lowest average precision whose own curves are kept."""
DIGITS = 4


def one_vs_rest(p_NC: np.ndarray, labels_N: np.ndarray, classes: Sequence[str]) -> Ranking:
    """Give the mean of all classes' curves, the areas of each class, and the curves of the worst.

    Curves are `precision` at recalls, and `tpr` at false positive rates, of 0 to 1 in POINTS steps.
    A class of which the split holds no picture, or nothing else, has neither and is left out.
    """
    rows = []
    for label, name in enumerate(classes):
        own = labels_N == label
        if 0 < own.sum() < len(own):
            rows.append(ClassCurves(name, curves_of(own, p_NC[:, label])))
    worst = rows
    if len(rows) > SHOWN:
        worst = sorted(rows, key=lambda row: (row.curves.average_precision, row.name))[:SHOWN]
    return Ranking(
        _mean([row.curves for row in rows]),
        tuple(worst),
        tuple(ClassAreas(row.name, row.curves.average_precision, row.curves.auroc) for row in rows),
    )


def _mean(curves: Sequence[Curves]) -> Curves | None:
    """Average the classes' curves and areas; None where there is no class."""
    if not curves:
        return None

    def mean(name: str) -> Any:
        values = [getattr(of_class, name) for of_class in curves]
        return np.mean(values, axis=0).round(DIGITS).tolist()

    return Curves(
        precision=tuple(mean("precision")),
        tpr=tuple(mean("tpr")),
        average_precision=mean("average_precision"),
        auroc=mean("auroc"),
    )


def curves_of(own_N: np.ndarray, score_N: np.ndarray) -> Curves:
    """Compute the curves of one class; `own_N` says which pictures are of it, `score_N` is its
    probability."""
    # by hand, though scikit-learn has them (a test compares both): importing it takes 2 s of a run
    grid = np.linspace(0, 1, POINTS)
    hits, misses = counts_from_above(own_N, score_N)
    recall, fpr = hits / hits[-1], misses / misses[-1]
    precision = hits / np.maximum(1, hits + misses)
    # of no answers, by convention
    precision[0] = 1
    # between two thresholds precision is that of the higher recall (Davis and Goadrich, 2006: a
    # straight line would be too good)
    place = np.searchsorted(recall, grid, side="left")
    return Curves(
        precision=tuple(precision[place].round(DIGITS).tolist()),
        tpr=tuple(np.interp(grid, fpr, recall).round(DIGITS).tolist()),
        average_precision=float((np.diff(recall) * precision[1:]).sum()),
        auroc=float((np.diff(fpr) * (recall[1:] + recall[:-1]) / 2).sum()),
    )


def counts_from_above(own_N: np.ndarray, score_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Count the pictures at or above each threshold, those of the class and the others: 0 first,
    then at each score that occurs, the highest first."""
    order = np.argsort(-score_N, kind="stable")
    last_of_equals = np.append(np.flatnonzero(np.diff(score_N[order])), len(order) - 1)
    hits = np.append(0, own_N[order].cumsum()[last_of_equals])
    return hits, np.append(0, last_of_equals + 1) - hits
