"""What linear probes answer for pictures that they did not learn from."""

from dataclasses import dataclass

import numpy as np
import torch

from finetune.checks.features import Features
from finetune.data.dataset import Data
from finetune.train import probe

VOTERS = 5
"""Nearest pictures that vote."""
ROWS = 1000
"""Pictures whose neighbours are computed at once."""


@dataclass(frozen=True)
class ProbeAnswers:
    """The answers for the pictures with features, in the order of these."""

    labels_N: np.ndarray
    """int64 [N]."""
    probabilities_NC: np.ndarray
    """float32 [N, classes], each from a probe that was fitted without the picture."""

    @property
    def predicted_N(self) -> np.ndarray:
        """The most probable class of each picture."""
        return self.probabilities_NC.argmax(1)


def answered(data: Data, features: Features) -> ProbeAnswers:
    """Fit a probe in each fold of all pictures with features, and ask it for the other ones.

    All splits take part: a wrong label is worth finding in each.
    """
    labels = torch.tensor([data.pictures[index].label for index in features.indices])
    x_ND = torch.from_numpy(features.x_ND)
    mean = x_ND.mean(0)
    scale = (x_ND - mean).square().mean().sqrt()
    probe.check_spread(scale.item(), x_ND.abs().max().item())
    z_ND, classes = (x_ND - mean) / scale, len(data.classes)
    # the strongest penalty first, and the one with the lowest loss on pictures held out
    penalty = probe.PENALTIES[int(probe.penalty_losses(z_ND, labels, classes).argmin())]
    probabilities = torch.full((len(labels), classes), 1 / classes)
    for train, held_out in probe.folds(labels):
        weight, bias = probe.fit_logistic(z_ND[train], labels[train], classes, penalty, None)
        probabilities[held_out] = (z_ND[held_out] @ weight.T + bias).softmax(1)
    return ProbeAnswers(labels.numpy(), probabilities.numpy())


def votes(features: Features, labels_N: np.ndarray, classes: int) -> np.ndarray:
    """Give the share of each class among the `VOTERS` nearest pictures of each: [N, classes]."""
    unit_ND, count = features.unit, min(VOTERS, len(labels_N) - 1)
    shares_NC = np.zeros((len(labels_N), classes), np.float32)
    for begin in range(0, len(unit_ND), ROWS):
        cosines = unit_ND[begin : begin + ROWS] @ unit_ND.T
        own = np.arange(len(cosines))
        cosines[own, begin + own] = -np.inf
        nearest = np.argpartition(-cosines, count - 1, axis=1)[:, :count]
        np.add.at(shares_NC, (begin + own[:, None], labels_N[nearest]), 1 / count)
    return shares_NC


def recall_per_class(predicted_N: np.ndarray, labels_N: np.ndarray, classes: int) -> np.ndarray:
    """Give the balanced accuracy of 'this class or not' for each class, [classes]: the mean of the
    shares of its own pictures and of the others that are told right; 0.5 is guessing, and what a
    class without pictures gets."""
    right_C = np.full(classes, 0.5)
    for label in np.unique(labels_N):
        own, answered_so = labels_N == label, predicted_N == label
        others = 1.0
        if not own.all():
            others = 1 - answered_so[~own].mean()
        right_C[label] = (answered_so[own].mean() + others) / 2
    return right_C


def balanced(predicted_N: np.ndarray, labels_N: np.ndarray) -> float:
    """Average the share of right answers over the classes that have pictures."""
    shares = [(predicted_N[labels_N == c] == c).mean() for c in np.unique(labels_N)]
    return float(np.mean(shares))
