"""Labels that are likely wrong, by `cleanlab` from the answers of probes that did not learn them.

A probe alone is too sure of its own errors, so the nearest pictures have a veto: on letters, 0.55
of the pictures that it named had a wrong label, and 0.74 with the veto (64 pixels).

Northcutt, Jiang & Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels" (JAIR
2021).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from finetune.checks.answers import VOTERS, ProbeAnswers, votes
from finetune.checks.features import Features
from finetune.checks.finding import Finding, Illustration, first
from finetune.data.dataset import Data
from zoo.files import tables

FILE = "label_errors.csv"
HEADER = ("path", "given", "suggested", "score")
LEAST_SURE = 0.7
"""Probability of the suggested class."""
MOST_VOTES = 0.2
"""Share of the nearest pictures that may have the given label."""


@dataclass(frozen=True)
class Suspect:
    """A picture whose label is likely wrong."""

    index: int
    """Of the picture in the data."""
    suggested: int
    """The label that the probe gives it."""
    score: float
    """Probability of the given label, 0 to 1: the lower, the surer that it is wrong."""


def find_label_errors(data: Data, features: Features, answers: ProbeAnswers) -> list[Suspect]:
    """Give the pictures whose labels are likely wrong, the surest first."""
    from cleanlab.filter import find_label_issues

    voted_NC = votes(features, answers.labels_N, len(data.classes))
    probabilities_NC = answers.probabilities_NC
    # cleanlab wants every class to have a picture
    present = np.unique(answers.labels_N)
    if len(present) < 2:
        return []
    shares = probabilities_NC[:, present]
    rows = find_label_issues(
        np.searchsorted(present, answers.labels_N),
        shares / shares.sum(1, keepdims=True),
        filter_by="both",
        return_indices_ranked_by="self_confidence",
        n_jobs=1,
    )
    suspects = []
    for row in rows.tolist():
        suggested = int(probabilities_NC[row].argmax())
        given = int(answers.labels_N[row])
        sure = probabilities_NC[row, suggested] >= LEAST_SURE
        own, others = voted_NC[row, given], voted_NC[row, suggested]
        if suggested != given and sure and own <= MOST_VOTES and others > own:
            score = float(probabilities_NC[row, given])
            suspects.append(Suspect(features.indices[row], suggested, score))
    return suspects


def label_finding(data: Data, features: Features, suspects: Sequence[Suspect]) -> Finding:
    """Report the likely label errors, each with the label that the probe gives it."""
    examples = []
    for suspect in suspects:
        given = data.classes[data.pictures[suspect.index].label]
        note = f"given {given}, suggested {data.classes[suspect.suggested]} ({suspect.score:.3f})"
        examples.append(Illustration((suspect.index,), note))
    sentence = (
        f"Linear probes on the base's features answered for {len(features.indices):,} of the "
        f"{len(data.pictures):,} pictures, each without having learned it. Named are those "
        f"whose {VOTERS} nearest pictures agree. The number is the probability of the given label."
    )
    return Finding(
        "label_errors",
        "Likely label errors",
        len(suspects),
        "picture",
        sentence,
        f"Nothing was changed. {FILE} lists all, the surest first: look at them, remove the rows "
        f"that are no errors, and train with --fix {FILE}."
        if suspects
        else "",
        first(examples),
    )


def write(path: Path, data: Data, suspects: Sequence[Suspect]) -> None:
    """Write path, given and suggested class, and score of each."""
    rows = []
    for suspect in suspects:
        picture = data.pictures[suspect.index]
        names = (data.classes[picture.label], data.classes[suspect.suggested])
        rows.append((picture.path, *names, f"{suspect.score:.6f}"))
    tables.write_table(path, HEADER, rows)
