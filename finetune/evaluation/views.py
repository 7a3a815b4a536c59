"""Test-time views of a model's pictures: their probabilities, averaged, and which of them are
measured against each other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from finetune.data.loader import evaluation_batches
from finetune.data.picture_columns import Picture
from finetune.evaluation import fits, passes
from finetune.evaluation.choices import Wish
from finetune.evaluation.subject import Subject
from finetune.machine import distributed
from zoo.contract.decision import softmax
from zoo.picture.tta import VIEWS


@dataclass(frozen=True)
class Averaged:
    """Gives mean probabilities over views, computed for a few rows at a time."""

    logits_NC: np.ndarray
    """Of the first view."""
    extra_NC: np.ndarray | None
    """Probabilities of the other views, summed; None if there are none."""
    passes: int
    """Number of views."""

    def of(self, rows: np.ndarray | slice) -> np.ndarray:
        """Give the mean probabilities of some rows, float64 [rows, classes]."""
        first = softmax(self.logits_NC[rows])
        if self.extra_NC is None:
            return first
        return (first + self.extra_NC[rows]) / self.passes


def views_to_measure(wish: Wish, pictures: int) -> list[str]:
    """Name the views that are measured against the whole picture alone; none where a choice would
    be chance."""
    if wish.views in VIEWS or pictures < fits.LEAST_FOR_VIEWS:
        return []
    if wish.views != "all":
        return list(fits.CHEAP)
    return [name for name in VIEWS if name != "none"]


def measured_views(
    logits_NC: np.ndarray, labels_N: np.ndarray, extras: Mapping[str, np.ndarray]
) -> dict[str, fits.Measured]:
    """Measure what the whole picture alone and each setting of `extras` (from `extra_views`) reach;
    empty without any."""
    if not extras:
        return {}
    measured = {}
    for name in ("none", *extras):
        averaged = Averaged(logits_NC, extras.get(name), len(VIEWS[name]))
        measured[name] = fits.measure(averaged.of(slice(None)), labels_N)
    return measured


def extra_views(
    subject: Subject, pictures: Sequence[Picture], settings: Sequence[str]
) -> dict[str, np.ndarray]:
    """Sum for each setting the probabilities of all its views but the first, float32 [N, classes],
    in one pass."""
    if not settings:
        return {}
    # the first view is the whole picture, whose logits are there already
    views = [VIEWS[name][1:] for name in settings]
    batches = evaluation_batches(
        distributed.mine(pictures), subject.source, tuple(chain.from_iterable(views))
    )
    summed = passes.summed_probabilities(
        subject.model, batches, subject.source.pre, list(map(len, views)), total=len(pictures)
    )
    return dict(zip(settings, summed, strict=True))


def average_all(
    subject: Subject,
    pictures: Sequence[Picture],
    logits_NC: np.ndarray,
    views: str,
    *,
    known: tuple[np.ndarray, np.ndarray | None],
) -> Averaged:
    """Average the probabilities of every picture; `known` holds the rows whose other views were
    computed already, and their sums."""
    if views == "none":
        return Averaged(logits_NC, None, 1)
    # what was measured is not computed again
    rows, extra = known
    summed = np.empty_like(logits_NC)
    missing = np.arange(len(pictures))
    if extra is not None:
        summed[rows] = extra
        missing = np.setdiff1d(missing, rows)
    if len(missing):
        rest = [pictures[i] for i in missing.tolist()]
        summed[missing] = extra_views(subject, rest, [views])[views]
    return Averaged(logits_NC, summed, len(VIEWS[views]))
