"""Findings about classes: how many pictures they have, and which of them look the same."""

from collections import Counter

import numpy as np

from finetune.checks.answers import ProbeAnswers
from finetune.checks.features import Features
from finetune.checks.finding import Finding, Illustration, first
from finetune.data.dataset import Data

FEW = 10
"""Training pictures below which a class has few."""
IMBALANCE = 10
"""How many times more pictures the largest class has to have than the smallest."""
MOST_TOLD = 0.75
"""Share of the pictures of two classes that the probe tells apart at most, with 95 % certainty, for
the two to be called the same; 0.5 is guessing."""


def train_counts(data: Data) -> dict[str, int]:
    """Count the training pictures of each class."""
    numbers = Counter(picture.label for picture in data.pictures if picture.split == "train")
    return {name: numbers[label] for label, name in enumerate(data.classes)}


def few(data: Data) -> Finding:
    """Report classes with few training pictures."""
    counts = train_counts(data)
    small = sorted((count, name) for name, count in counts.items() if count < FEW)
    return Finding(
        "few_pictures",
        "Classes with few pictures",
        len(small),
        "class",
        f"Classes with fewer than {FEW} pictures in train.",
        "Add pictures of these classes, or join them with others." if small else "",
        lines=tuple(f"{name}: {count}" for count, name in small),
    )


def imbalance(data: Data) -> Finding:
    """Report how much larger the largest class is than the smallest."""
    counts = train_counts(data)
    largest, smallest = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
    ratio = counts[largest] / max(1, counts[smallest])
    uneven = ratio >= IMBALANCE
    return Finding(
        "imbalance",
        "Imbalance of classes",
        int(uneven),
        "finding",
        f"The largest class in train ({largest}: {counts[largest]:,}) has {ratio:.1f} times as "
        f"many pictures as the smallest ({smallest}: {counts[smallest]:,}).",
        "Try --balance sqrt-resample or --balance logit-adjust, and look at the accuracy of each "
        "class."
        if uneven
        else "",
    )


def confused(data: Data, features: Features, answers: ProbeAnswers) -> Finding:
    """Report pairs of classes that the probe cannot tell from each other."""
    rows = []
    for first_label, second_label in _mixed(answers):
        told, count = told_apart(answers, first_label, second_label)
        # Hoeffding would be looser: the normal interval is enough for a hint
        if count >= 2 * FEW and told + 1.96 * np.sqrt(0.25 / count) <= MOST_TOLD:
            rows.append((told, first_label, second_label))
    examples, lines = [], []
    for told, *pair in sorted(rows):
        names = [data.classes[label] for label in pair]
        lines.append(f"{names[0]} and {names[1]}: told apart in {told:.0%} of the pictures")
        shown = [_some(features, answers, label) for label in pair]
        examples.append(Illustration((*shown[0], *shown[1]), f"{names[0]} | {names[1]}"))
    return Finding(
        "same_classes",
        "Classes that look the same",
        len(rows),
        "pair",
        f"Pairs of classes of which a linear probe tells at most {MOST_TOLD:.0%} apart, where 50% "
        "is guessing.",
        "Nothing was changed. Join the classes, or look whether their labels are mixed up."
        if rows
        else "",
        first(examples),
        tuple(lines),
    )


def _mixed(answers: ProbeAnswers) -> list[tuple[int, int]]:
    """Give the pairs of classes of which one is taken for the other at all."""
    wrong = answers.predicted_N != answers.labels_N
    pairs = np.stack((answers.labels_N[wrong], answers.predicted_N[wrong]), 1)
    unique = np.unique(np.sort(pairs, axis=1), axis=0).tolist()
    return [(first_label, second_label) for first_label, second_label in unique]


def told_apart(answers: ProbeAnswers, label: int, other: int) -> tuple[float, int]:
    """Give the share of the pictures of two classes, each class weighing the same, for which the
    right one of the two is the more probable, and their number."""
    shares, count = [], 0
    for own, foreign in ((label, other), (other, label)):
        rows = answers.probabilities_NC[answers.labels_N == own]
        shares.append((rows[:, own] > rows[:, foreign]).mean())
        count += len(rows)
    return float(np.mean(shares)), count


def _some(features: Features, answers: ProbeAnswers, label: int) -> list[int]:
    rows = np.flatnonzero(answers.labels_N == label)[:2]
    return [features.indices[row] for row in rows]
