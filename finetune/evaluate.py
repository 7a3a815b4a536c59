"""Logits of a split, in fp32, and the numbers computed from them."""

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from finetune import progress
from finetune.augment import normalise
from finetune.dataset import Picture
from finetune.loader import Batch
from zoo.preprocess import Preprocessing


@dataclass(frozen=True)
class Scores:
    """How good a set of weights is on one split."""

    top1: float
    """Share of right answers."""
    top5: float
    """Share of pictures whose class is among the five most probable."""
    loss: float
    """Mean cross-entropy in nats, without label smoothing."""
    pictures: int

    def better_than(self, other: "Scores") -> bool:
        """By top-1, ties by loss."""
        return (self.top1, -self.loss) > (other.top1, -other.loss)

    def to_json(self) -> dict[str, float]:
        return asdict(self)


@torch.inference_mode()
def logits(model: nn.Module, batches: Iterable[Batch], pre: Preprocessing, *, total: int,
           title: str = "evaluating") -> tuple[torch.Tensor, torch.Tensor]:
    """(float32 [N, classes], int64 [N]) on the CPU. Leaves the model in evaluation mode."""
    device = next(model.parameters()).device
    model.eval()
    rows, labels = [], []
    with progress.bar(title, total) as advance:
        for images, label in batches:
            rows.append(model(normalise(images.to(device), pre)).float().cpu())
            labels.append(label)
            advance(len(label))
    return torch.cat(rows), torch.cat(labels)


def score(logits_NC: torch.Tensor, labels_N: torch.Tensor) -> Scores:
    """Top-1, top-5 and loss."""
    ranked = logits_NC.topk(min(5, logits_NC.shape[1]), dim=1).indices
    hits = ranked == labels_N[:, None]
    return Scores(hits[:, 0].float().mean().item(), hits.any(1).float().mean().item(),
                  cross_entropy(logits_NC, labels_N).item(), len(labels_N))


def wilson_interval(right: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """95 % confidence interval of a share (Wilson, 1927)."""
    if total == 0:
        return 0.0, 1.0
    p, zz = right / total, z * z / total
    half = z * math.sqrt(p * (1 - p) / total + zz / (4 * total))
    return max(0.0, (p + zz / 2 - half) / (1 + zz)), min(1.0, (p + zz / 2 + half) / (1 + zz))


def per_class(predicted: Sequence[int], labels: Sequence[int], classes: Sequence[str]) -> list[dict[str, Any]]:
    """Precision, recall, F1 and number of pictures of each class; None where undefined."""
    said, true = np.asarray(predicted, dtype=np.int64), np.asarray(labels, dtype=np.int64)
    counts = (np.bincount(of, minlength=len(classes)).tolist() for of in (true[said == true], said, true))
    rows = []
    for name, hit, n_said, n_true in zip(classes, *counts, strict=True):
        precision, recall = hit / n_said if n_said else None, hit / n_true if n_true else None
        f1 = 2 * hit / (n_said + n_true) if n_said + n_true else None
        rows.append({"class": name, "pictures": n_true, "precision": precision, "recall": recall, "f1": f1})
    return rows


CHUNK = 1024
"""Rows of predictions.csv computed at a time."""
PREDICTION_COLUMNS = ("path", "split", "label", "predicted", "confidence", "label_probability", "top5")


Part = tuple[Sequence[Picture], torch.Tensor]
"""Pictures and their logits [N, classes]."""


def write_predictions(path: Path, parts: Sequence[Part], classes: Sequence[str]) -> None:
    """`predictions.csv`: one row a picture; from it top-1, top-5, loss and confusion can be computed again.

    `label_probability` is the probability of the true class (loss = -log of it); `top5` joins class names by `|`,
    most probable first, with `|` and `\\` in names escaped by `\\`.
    """
    with open(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(PREDICTION_COLUMNS)
        chunks = ((pictures[i:i + CHUNK], logits_NC[i:i + CHUNK])
                  for pictures, logits_NC in parts for i in range(0, len(pictures), CHUNK))
        for pictures, logits_NC in chunks:
            probabilities = logits_NC.double().softmax(1)
            top = probabilities.topk(min(5, len(classes)), dim=1)
            for i, picture in enumerate(pictures):
                names = [classes[c] for c in top.indices[i].tolist()]
                joined = "|".join(n.replace("\\", "\\\\").replace("|", "\\|") for n in names)
                writer.writerow([picture.path, picture.split, classes[picture.label], names[0],
                                 f"{top.values[i, 0].item():.6g}",
                                 f"{probabilities[i, picture.label].item():.6g}", joined])
