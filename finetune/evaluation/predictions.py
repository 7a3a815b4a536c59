"""The answers of a run to its pictures: one table, from which every number of the report
follows."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from finetune.evaluation import metrics
from zoo.contract import rejection
from zoo.contract.report import (
    ClassNumbers,
    Foreign,
    Headline,
    Numbers,
    Plain,
    UnknownRates,
    Weakest,
)
from zoo.contract.splits import OF_VAL, members

KNOWN = (*OF_VAL, "test")
"""Splits with pictures of the classes; every other value names a foreign set."""
NOWHERE = -1
"""Label of a foreign picture, and answer where there is none."""
MOST_WRONG = 24
"""The report shows so many wrong answers, and a run draws their heat maps."""


@dataclass(frozen=True)
class Answers:
    """Holds a table as arrays of length N, one row a picture. "Plain" is one view at temperature
    1."""

    classes: tuple[str, ...]
    path: np.ndarray
    """str. Relative to the data folder; for a foreign picture its set and number."""
    split: np.ndarray
    """str: select, calibrate, val or test, or the name of a foreign set."""
    label: np.ndarray
    """int, NOWHERE for foreign pictures."""
    predicted: np.ndarray
    """int: the most probable class, also where the answer is "unknown"."""
    confidence: np.ndarray
    label_probability: np.ndarray
    """Probability of the true class, nan for foreign pictures; loss = -log of it."""
    top5: np.ndarray
    """int [N, min(5, classes)], the most probable first."""
    plain_predicted: np.ndarray
    plain_confidence: np.ndarray
    plain_label_probability: np.ndarray
    unknown_score: np.ndarray
    """Larger = more foreign."""
    set_size: np.ndarray
    """int: classes in the prediction set."""
    label_in_set: np.ndarray
    """bool."""
    width: np.ndarray
    """Pixels of the upright picture."""
    height: np.ndarray
    brightness: np.ndarray
    """Mean of the network's input picture, 0 black to 1 white."""
    views_predicted: dict[str, np.ndarray]
    """Views measured against each other -> int [N], NOWHERE where a picture was not among the
    measured."""
    views_label_probability: dict[str, np.ndarray]
    """The same -> probability of the true class at these views' own temperature, nan where not
    measured."""

    def __len__(self) -> int:
        return len(self.path)

    @property
    def right(self) -> np.ndarray:
        """Tell for each row whether the most probable class is the true one, bool [N]."""
        return self.predicted == self.label

    def where(self, chosen: np.ndarray) -> "Answers":
        """Take the rows of a boolean mask or of indices."""

        columns: dict[str, Any] = {}
        for name in COLUMN_NAMES:
            columns[name] = getattr(self, name)[chosen]
        for name in VIEWS_NAMES:
            of_views = getattr(self, name)
            columns[name] = {views: column[chosen] for views, column in of_views.items()}
        return replace(self, **columns)

    def in_split(self, split: str) -> np.ndarray:
        """Tell for each row whether it is of that split, named as for `of`; bool [N]."""
        return np.isin(self.split, members(split))

    def of(self, split: str) -> "Answers":
        """Take the rows of one split: val (all of it), select, calibrate, test, or a foreign
        set."""
        return self.where(self.in_split(split))

    @property
    def splits(self) -> list[str]:
        """Name the known splits that have rows: val first, then its halves, then test."""
        present = set(self.split.tolist())
        if not present.isdisjoint(OF_VAL):
            # the column names the half that a picture is in, and val means both
            present.add("val")
        return list(filter(present.__contains__, ("val", "select", "calibrate", "test")))

    @property
    def foreign(self) -> list[str]:
        """Name the foreign sets."""
        return list(dict.fromkeys(name for name in self.split.tolist() if name not in KNOWN))


VIEWS_NAMES = ("views_predicted", "views_label_probability")
"""Fields of `Answers` that hold a column for each of the views."""
COLUMN_NAMES = tuple(
    field.name for field in fields(Answers) if field.name not in ("classes", *VIEWS_NAMES)
)
"""Fields of `Answers` that are one column."""


def concatenate(tables: Sequence[Answers]) -> Answers:
    """Join tables that have no comparison of views into one."""
    columns: dict[str, Any] = {}
    for name in COLUMN_NAMES:
        columns[name] = np.concatenate([getattr(table, name) for table in tables])
    return replace(tables[0], **columns)


HEADLINES = {
    "test": "read once, at the end",
    "calibrate": "half of val that took no part in choosing the weights",
    "val": "the run was tuned on these pictures, so the number is optimistic: add a test folder",
}
"""Split -> what a reader must know about its numbers; the first that a run has is its headline."""


def headline(answers: Answers) -> tuple[str, str]:
    """Give (split, note): the split that gives the headline, and what a reader must know about
    it."""
    splits = answers.splits
    for split, note in HEADLINES.items():
        if split in splits:
            return split, note
    raise AssertionError("a run has a val")


def split_numbers(answers: Answers) -> Numbers:
    """Compute the numbers of one split: those of the deployed answer, and as `plain` those of one
    view at temperature 1."""
    right = int(answers.right.sum())
    plain_right = answers.plain_predicted == answers.label
    return Numbers(
        pictures=len(answers),
        top1=right / len(answers),
        top1_interval=metrics.wilson_interval(right, len(answers)),
        top5=float((answers.top5 == answers.label[:, None]).any(1).mean()),
        loss=mean_loss(answers.label_probability),
        ece=metrics.calibration_error(answers.confidence, answers.right),
        covered=float(answers.label_in_set.mean()),
        mean_set_size=float(answers.set_size.mean()),
        plain=Plain(
            top1=float(plain_right.mean()),
            loss=mean_loss(answers.plain_label_probability),
            top1_interval=metrics.wilson_interval(int(plain_right.sum()), len(answers)),
            ece=metrics.calibration_error(answers.plain_confidence, plain_right),
        ),
    )


def headline_numbers(answers: Answers, per_class: Sequence[ClassNumbers]) -> Headline:
    """Compute the numbers of the headline's split; `per_class` holds those of its classes."""
    split, note = headline(answers)
    # of a class without pictures there is no recall
    present = [row for row in per_class if row.pictures]
    return Headline(
        split,
        note,
        # a class that is never said has a precision of 0
        macro_precision=statistics.fmean(row.precision or 0.0 for row in present),
        macro_recall=statistics.fmean(row.recall or 0.0 for row in present),
        macro_f1=statistics.fmean(row.f1 or 0.0 for row in present),
        numbers=split_numbers(answers.of(split)),
    )


def class_numbers(answers: Answers) -> tuple[ClassNumbers, ...]:
    """Compute the numbers of each class on the headline's split."""
    head = answers.of(headline(answers)[0])
    return metrics.per_class(head.predicted, head.label, answers.classes)


def unknown_numbers(answers: Answers, threshold: float) -> UnknownRates:
    """Measure how well the unknown score tells the foreign sets from the headline's pictures."""
    known = answers.of(headline(answers)[0]).unknown_score
    foreign, rejected = {}, {}
    for name in answers.foreign:
        foreign[name] = _foreign_numbers(known, answers.of(name), threshold)
        rejected[name] = foreign[name].rejected
    weakest = None
    if weakest_set := rejection.weakest(rejected):
        weakest = Weakest(*weakest_set)
    return UnknownRates(float((known > threshold).mean()), foreign, weakest)


def _foreign_numbers(known_N: np.ndarray, strangers: Answers, threshold: float) -> Foreign:
    return Foreign(
        pictures=len(strangers),
        auroc=rejection.auroc(known_N, strangers.unknown_score),
        rejected=float((strangers.unknown_score > threshold).mean()),
        confidence=float(strangers.plain_confidence.mean()),
    )


def mean_loss(label_probability: np.ndarray) -> float:
    """Compute the mean cross-entropy in nats."""
    # a single probability of 0 would make the mean infinite
    return float(-np.log(np.maximum(label_probability, np.finfo(np.float64).tiny)).mean())


def most_wrong(answers: Answers) -> np.ndarray:
    """Give the indices of the wrong answers with the highest confidence, the highest first: at most
    MOST_WRONG, by path where confidence is equal."""
    wrong = np.flatnonzero(~answers.right)
    # then by path, so that the page and the heat maps are of the same pictures
    order = sorted(wrong.tolist(), key=lambda i: (-answers.confidence[i], answers.path[i]))
    return np.array(order[:MOST_WRONG], dtype=int)
