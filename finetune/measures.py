"""Numbers about answers: pure functions of NumPy arrays."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

BINS = 15
"""Bins of equal width for calibration (Guo et al., ICML 2017)."""


def wilson_interval(right: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """95 % confidence interval of a share (Wilson, 1927)."""
    if total == 0:
        return 0.0, 1.0
    p, zz = right / total, z * z / total
    half = z * math.sqrt(p * (1 - p) / total + zz / (4 * total))
    return max(0.0, (p + zz / 2 - half) / (1 + zz)), min(1.0, (p + zz / 2 + half) / (1 + zz))


def per_class(predicted: Sequence[int] | np.ndarray, labels: Sequence[int] | np.ndarray,
              classes: Sequence[str]) -> list[dict[str, Any]]:
    """Precision, recall, F1 and number of pictures of each class; None where undefined."""
    said, true = np.asarray(predicted, dtype=np.int64), np.asarray(labels, dtype=np.int64)
    counts = (np.bincount(of, minlength=len(classes)).tolist() for of in (true[said == true], said, true))
    rows = []
    for name, hit, n_said, n_true in zip(classes, *counts, strict=True):
        precision, recall = hit / n_said if n_said else None, hit / n_true if n_true else None
        f1 = 2 * hit / (n_said + n_true) if n_said + n_true else None
        rows.append({"class": name, "pictures": n_true, "precision": precision, "recall": recall, "f1": f1})
    return rows


class Bin(NamedTuple):
    """Answers of about the same confidence."""

    confidence: float
    """Their mean probability."""
    right: float
    """The share of them that is right."""
    pictures: int


def reliability(confidence_N: np.ndarray, right_N: np.ndarray) -> list[Bin]:
    """The bins of a reliability diagram that hold any answer, in order of confidence."""
    place = np.clip(np.ceil(confidence_N * BINS).astype(int) - 1, 0, BINS - 1)
    return [Bin(float(confidence_N[inside].mean()), float(right_N[inside].mean()), int(inside.sum()))
            for inside in (place == i for i in range(BINS)) if inside.any()]


def calibration_error(confidence_N: np.ndarray, right_N: np.ndarray) -> float:
    """Expected calibration error of the given answers (ECE): mean gap between confidence and share of right ones,
    weighted by the pictures of each bin (Naeini et al., AAAI 2015)."""
    gaps = (abs(b.confidence - b.right) * b.pictures for b in reliability(confidence_N, right_N))
    return sum(gaps) / len(confidence_N)


class Slice(NamedTuple):
    """A part of the pictures, by one measured property."""

    low: float
    high: float
    """The property's range in this part, inclusive."""
    right: int
    pictures: int

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of top-1."""
        return wilson_interval(self.right, self.pictures)


def slices(values_N: np.ndarray, right_N: np.ndarray, parts: int = 4) -> list[Slice]:
    """Up to `parts` slices of about equal size, by rising value; equal values stay together."""
    return [Slice(float(values_N[inside].min()), float(values_N[inside].max()), int(right_N[inside].sum()),
                  int(inside.sum())) for inside in _quantile_masks(values_N, parts)]


def _quantile_masks(values_N: np.ndarray, parts: int) -> Iterator[np.ndarray]:
    edges = np.quantile(values_N, np.arange(1, parts) / parts, method="lower") if len(values_N) else np.empty(0)
    place = np.searchsorted(edges, values_N, side="left")
    yield from (inside for inside in (place == i for i in range(parts)) if inside.any())
