"""What gives a class away that should not: what a file says besides its content, or its border.

A forest of trees learns the classes from this alone. Where it comes half as far from guessing as
the probe on the whole picture does, a network may learn it instead of the content (Geirhos et al.,
"Shortcut learning in deep neural networks", 2020).
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from finetune.checks.answers import ProbeAnswers, balanced, recall_per_class
from finetune.checks.features import Features
from finetune.checks.finding import Finding, Illustration, first
from finetune.checks.measures import Measures
from finetune.data.dataset import Data
from finetune.train.probe import FOLDS

HALF = 0.5
"""Share of the probe's way from guessing that names a shortcut for all classes."""
GIVEN_AWAY = 0.9
"""The same for one class: of that, colours and sizes legitimately tell more."""
LEAST_GIVEN = 0.95
"""Balanced accuracy of a class that is given away, at least: the border of digits tells the 4 at
0.89."""
LEAST_PICTURES = 10
"""Of a class that can be named."""
MOST_VALUES = 20
"""Cameras, and formats, that are told from each other: the most frequent ones."""
TREES = 50


@dataclass(frozen=True)
class Clue:
    """One thing that a class may be told by."""

    name: str
    values_NK: np.ndarray
    """float32 [N, K], of the pictures with features."""


@dataclass(frozen=True)
class Shortcut:
    """A clue that tells the classes, or one of them."""

    clue: str
    label: int | None
    """The class that it gives away; None if it tells them all."""
    reached: float
    """Balanced accuracy by the clue alone."""
    guessing: float
    probe: float
    """That of the probe."""


def find_shortcuts(
    data: Data, measures: Measures, features: Features, answers: ProbeAnswers
) -> list[Shortcut]:
    """Give the clues that tell too much, the strongest first."""
    labels_N, found = answers.labels_N, []
    present = np.unique(labels_N)
    counts = np.bincount(labels_N, minlength=len(data.classes))
    probe_C = recall_per_class(answers.predicted_N, labels_N, len(data.classes))
    whole, guessing = balanced(answers.predicted_N, labels_N), 1 / len(present)
    for clue in clues(data, measures, features):
        if len(np.unique(clue.values_NK, axis=0)) < 2:
            continue
        predicted_N = _predicted(clue.values_NK, labels_N)
        reached = balanced(predicted_N, labels_N)
        if reached - guessing >= HALF * max(whole - guessing, 0.1):
            found.append(Shortcut(clue.name, None, reached, guessing, whole))
            continue
        clue_C = recall_per_class(predicted_N, labels_N, len(data.classes))
        for label in present.tolist():
            if counts[label] < LEAST_PICTURES:
                continue
            enough = max(GIVEN_AWAY * (probe_C[label] - 0.5), LEAST_GIVEN - 0.5)
            if clue_C[label] - 0.5 >= enough:
                own = (float(clue_C[label]), 0.5, float(probe_C[label]))
                found.append(Shortcut(clue.name, label, *own))
    # of one class, the strongest clue, and of equally strong ones the first: a border changes the
    # mean colour too
    named: dict[int | None, Shortcut] = {}
    for shortcut in sorted(found, key=lambda shortcut: -round(shortcut.reached, 2)):
        named.setdefault(shortcut.label, shortcut)
    return list(named.values())


def _predicted(values_NK: np.ndarray, labels_N: np.ndarray) -> np.ndarray:
    """Predict each picture's class by trees that were grown without it."""
    from sklearn.ensemble import RandomForestClassifier

    # as in the probe: the k-th picture of a class is held out in fold k % FOLDS
    fold_N = np.empty(len(labels_N), int)
    for label in np.unique(labels_N):
        rows = np.flatnonzero(labels_N == label)
        fold_N[rows] = (np.arange(len(rows)) + label) % FOLDS
    predicted_N = np.full(len(labels_N), -1)
    for fold in range(FOLDS):
        learned = fold_N != fold
        if not learned.any() or learned.all():
            continue
        forest = RandomForestClassifier(
            TREES, min_samples_leaf=3, class_weight="balanced", max_samples=0.7, random_state=0
        )
        forest.fit(values_NK[learned], labels_N[learned])
        predicted_N[~learned] = forest.predict(values_NK[~learned])
    return predicted_N


def clues(data: Data, measures: Measures, features: Features) -> Iterator[Clue]:
    """Yield what is looked at, each as numbers of the pictures with features."""
    rows = list(features.indices)
    sizes = np.array([(data.pictures[i].width, data.pictures[i].height) for i in rows], np.float32)
    yield Clue("width", sizes[:, :1])
    yield Clue("height", sizes[:, 1:])
    yield Clue("aspect ratio", sizes[:, :1] / sizes[:, 1:])
    yield Clue("file format", _one_hot([measures.formats[i] for i in rows]))
    yield Clue("EXIF camera", _one_hot([measures.cameras[i] for i in rows]))
    spread = measures.border_spread_N[rows][:, None]
    yield Clue("border colour", np.concatenate((measures.border_N3[rows], spread), 1))
    yield Clue("mean colour", measures.mean_N3[rows])


def _one_hot(names: list[str]) -> np.ndarray:
    """Make a column of each of the most frequent names."""
    ranked = sorted(Counter(names).items(), key=lambda item: (-item[1], item[0]))[:MOST_VALUES]
    columns = [[name == value for name in names] for value, _ in ranked]
    return np.array(columns, np.float32).T


def shortcut_finding(
    data: Data, measures: Measures, features: Features, answers: ProbeAnswers
) -> Finding:
    """Report what gives classes away."""
    found = find_shortcuts(data, measures, features, answers)
    lines, examples = [], []
    for shortcut in found:
        what = "the classes"
        if shortcut.label is not None:
            what = f"class {data.classes[shortcut.label]}"
            rows = np.flatnonzero(answers.labels_N == shortcut.label)[:4]
            pictures = tuple(features.indices[row] for row in rows)
            examples.append(Illustration(pictures, f"{shortcut.clue}: {what}"))
        lines.append(
            f"{shortcut.clue} gives {what} away: balanced accuracy {shortcut.reached:.1%} by this "
            f"alone, {shortcut.guessing:.1%} by guessing, {shortcut.probe:.1%} by the linear probe"
        )
    return Finding(
        "shortcuts",
        "What gives a class away",
        len(found),
        "shortcut",
        "Trees learned the classes from width, height, aspect ratio, file format, EXIF camera, "
        "mean colour and border alone, one at a time. Named is what comes half as far from "
        "guessing as the probe does, or nine tenths as far for a single class.",
        "Nothing was changed. The network may learn this instead of the content, and fail on "
        "pictures from elsewhere: take pictures of all classes in the same way."
        if found
        else "",
        first(examples),
        tuple(lines),
    )
