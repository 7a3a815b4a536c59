"""The table of a model's answers, from its logits and the decision that was fitted."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from finetune.data.dataset import Data
from finetune.data.picture_columns import Picture
from finetune.evaluation import fits
from finetune.evaluation.passes import Outputs
from finetune.evaluation.predictions import NOWHERE, Answers
from finetune.evaluation.views import Averaged
from zoo.contract.decision import Decision, in_set, softmax, temper

CHUNK = 1024
"""Rows of the table computed at a time."""


def tabulate(
    data: Data,
    pictures: Sequence[Picture],
    outputs: Outputs,
    averaged: Averaged,
    decision: Decision,
) -> Answers:
    """Build the table of these pictures' answers, without the comparison of views."""
    label = np.array([picture.label for picture in pictures])
    columns: dict[str, list[np.ndarray]] = defaultdict(list)
    # so that only a few rows are held in float64 at a time
    for start in range(0, len(pictures), CHUNK):
        rows = slice(start, start + CHUNK)
        deployed = temper(averaged.of(rows), decision.temperature)
        plain = softmax(outputs.logits[rows])
        chunk = {
            **_most_probable("", deployed, label[rows]),
            **_most_probable("plain_", plain, label[rows]),
            **_best_five_and_sets(deployed, label[rows], decision),
        }
        for name, values in chunk.items():
            columns[name].append(values)
    return Answers(
        classes=data.classes,
        path=np.array([picture.path for picture in pictures]),
        label=label,
        split=np.array(data.parts(pictures)),
        **{name: np.concatenate(chunks) for name, chunks in columns.items()},
        unknown_score=outputs.unknown_score,
        width=np.array([picture.width for picture in pictures]),
        height=np.array([picture.height for picture in pictures]),
        brightness=outputs.brightness,
        views_predicted={},
        views_label_probability={},
    )


def _most_probable(prefix: str, p_NC: np.ndarray, labels_N: np.ndarray) -> dict[str, np.ndarray]:
    """Give the columns of one way to answer; `prefix` stands before their names."""
    return {
        f"{prefix}predicted": p_NC.argmax(1),
        f"{prefix}confidence": p_NC.max(1),
        f"{prefix}label_probability": of_label(p_NC, labels_N),
    }


def _best_five_and_sets(
    p_NC: np.ndarray, labels_N: np.ndarray, decision: Decision
) -> dict[str, np.ndarray]:
    """Give the columns that only the deployed answer has."""
    # `calibrate` always fits them
    assert decision.sets is not None
    inside = in_set(p_NC, decision.sets)
    return {
        # stable: of equal probabilities the first class, as argmax answers
        "top5": np.argsort(-p_NC, axis=1, kind="stable")[:, :5],
        "set_size": inside.sum(1),
        "label_in_set": of_label(inside, labels_N) == 1,
    }


def of_label(values_NC: np.ndarray, labels_N: np.ndarray) -> np.ndarray:
    """Pick the value of each row's label; nan where a row has none."""
    # a row without a label reads the last class here, and gets nan instead
    return np.where(labels_N == NOWHERE, np.nan, values_NC[np.arange(len(labels_N)), labels_N])


def with_views(
    answers: Answers, measured: Mapping[str, fits.Measured], rows: np.ndarray
) -> Answers:
    """Add the comparison of views, on the rows where they were measured."""
    predicted, probability = {}, {}
    for name, views in measured.items():
        predicted[name] = np.full(len(answers), NOWHERE)
        predicted[name][rows] = views.predicted
        probability[name] = np.full(len(answers), np.nan)
        probability[name][rows] = views.label_probability
    return replace(answers, views_predicted=predicted, views_label_probability=probability)
