"""Numbers about answers against scikit-learn, torchmetrics, published tables and plain counting."""

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_fscore_support, roc_auc_score

from finetune.evaluation.metrics import (
    BINS,
    Slice,
    calibration_error,
    per_class,
    reliability,
    slices,
    wilson_interval,
)
from zoo.contract.decision import softmax
from zoo.contract.rejection import auroc

# --- shares and classes


@pytest.mark.parametrize(
    ("right", "total", "interval"),
    [
        (81, 263, (0.2553, 0.3662)),
        (15, 148, (0.0624, 0.1605)),
        (0, 20, (0.0, 0.1611)),
        (1, 29, (0.0061, 0.1718)),
        (10, 10, (0.7225, 1.0)),
    ],
)
def test_wilson_interval_equals_published_values(
    right: int, total: int, interval: tuple[float, float]
) -> None:
    """Newcombe, "Two-sided confidence intervals for the single proportion", 1998, Table I, method
    3; the last row is 1 / (1 + 1.96^2 / 10)."""
    assert wilson_interval(right, total) == pytest.approx(interval, abs=6e-5)


def test_wilson_interval_of_nothing_is_everything() -> None:
    assert wilson_interval(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize("kind", [list, np.array])
def test_per_class_equals_sklearn_and_is_none_where_undefined(kind: type) -> None:
    names = ["a", "b", "c", "never said", "has no picture", "neither"]
    labels = [0, 0, 0, 1, 1, 2, 3, 3, 1, 2]
    predicted = [0, 1, 0, 1, 4, 2, 0, 1, 1, 0]
    precision, recall, f1, support = precision_recall_fscore_support(
        labels, predicted, labels=range(6), zero_division=np.nan
    )
    table = per_class(kind(predicted), kind(labels), names)
    assert [row.name for row in table] == names
    assert [row.pictures for row in table] == support.tolist()
    for key, expected in (("precision", precision), ("recall", recall), ("f1", f1)):
        shares = [getattr(row, key) for row in table]
        seen = [math.nan if share is None else share for share in shares]
        assert seen == pytest.approx(expected.tolist(), nan_ok=True), key
    assert [row.precision for row in table[3:]] == [None, 0.0, None]
    assert [row.recall for row in table[3:]] == [0.0, None, None]
    assert [row.f1 for row in table[3:]] == [0.0, 0.0, None]


# --- calibration


@pytest.mark.parametrize(
    ("pictures", "classes", "scale"),
    [(1, 3, 1.0), (7, 2, 1.0), (500, 10, 2.0), (500, 100, 4.0), (300, 5, 0.01)],
)
def test_calibration_error_equals_torchmetrics(pictures: int, classes: int, scale: float) -> None:
    # loads transformers: two seconds that no other test needs
    from torchmetrics.functional.classification import multiclass_calibration_error

    random = np.random.default_rng(pictures)
    said = softmax(scale * random.standard_normal((pictures, classes))).astype(np.float32)
    labels = np.where(
        random.random(pictures) < 0.5, said.argmax(1), random.integers(0, classes, pictures)
    )
    expected = multiclass_calibration_error(
        torch.from_numpy(said), torch.from_numpy(labels), classes, n_bins=BINS, norm="l1"
    )
    assert calibration_error(said.max(1), said.argmax(1) == labels) == pytest.approx(
        expected.item(), abs=1e-5
    )


def by_hand(confidences: list[Fraction], right: list[bool]) -> Fraction:
    """Guo et al., equation 3, in exact arithmetic: bin m holds the confidences in ((m - 1) / M, m /
    M]."""
    total = Fraction(0)
    for m in range(1, BINS + 1):
        inside = [
            i for i, c in enumerate(confidences) if math.ceil(c * BINS) == m or (m == 1 and c == 0)
        ]
        total += abs(sum((confidences[i] - right[i] for i in inside), Fraction(0)))
    return total / len(confidences)


def test_edges_of_bins_belong_to_the_lower_bin_and_nothing_is_lost() -> None:
    """torchmetrics puts an edge into the upper bin and 1 into one of its own; here the paper's
    definition holds."""
    edges = [Fraction(i, BINS) for i in range(BINS + 1)]
    middles = [edge + Fraction(1, 2 * BINS) for edge in edges[:-1]]
    confidences = sorted(edges + middles)
    for pattern in ([True, False], [False, True, True], [True], [False]):
        right = (pattern * len(confidences))[: len(confidences)]
        values = np.array([float(c) for c in confidences])
        assert calibration_error(values, np.array(right)) == pytest.approx(
            float(by_hand(confidences, right))
        )
        for kind in (np.float32, np.float64):
            bins = reliability(values.astype(kind), np.array(right))
            assert [b.pictures for b in bins] == [3] + [2] * (BINS - 1)  # the first holds 0 as well


@pytest.mark.parametrize(
    ("confidence", "right", "error"),
    [(1.0, True, 0.0), (1.0, False, 1.0), (0.0, True, 1.0), (0.0, False, 0.0), (0.3, True, 0.7)],
)
def test_calibration_error_of_one_confidence(confidence: float, right: bool, error: float) -> None:
    assert calibration_error(np.full(4, confidence), np.full(4, right)) == pytest.approx(error)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60))
def test_bins_hold_every_answer_once_in_order(answers: list[tuple[float, bool]]) -> None:
    confidence, right = (np.array(column) for column in zip(*answers, strict=True))
    bins = reliability(confidence, right)
    assert sum(b.pictures for b in bins) == len(answers)
    assert sum(b.right * b.pictures for b in bins) == pytest.approx(right.sum())
    assert sum(b.confidence * b.pictures for b in bins) == pytest.approx(confidence.sum())
    assert [b.confidence for b in bins] == sorted(b.confidence for b in bins)
    assert 0 <= calibration_error(confidence, right) <= 1


# --- telling foreign pictures


@pytest.mark.parametrize("decimals", [9, 1, 0])
@pytest.mark.parametrize("shift", [0.0, 0.7, -3.0])
def test_auroc_equals_sklearn_with_ties(shift: float, decimals: int) -> None:
    random = np.random.default_rng(decimals)
    known, foreign = (
        random.standard_normal(150).round(decimals),
        (shift + random.standard_normal(70)).round(decimals),
    )
    expected = roc_auc_score([0] * 150 + [1] * 70, np.concatenate([known, foreign]))
    assert auroc(known, foreign) == pytest.approx(expected)
    assert auroc(foreign, known) == pytest.approx(1 - expected)


def test_auroc_at_its_ends() -> None:
    low, high = np.array([0.0, 0.25], np.float32), np.array([0.5], np.float32)
    assert auroc(low, high) == 1.0
    assert auroc(high, low) == 0.0
    assert auroc(low, low) == auroc(high, high) == 0.5
    assert auroc(np.array([1.0]), np.array([0.0, 1.0, 2.0, 2.0])) == pytest.approx(
        (0 + 0.5 + 1 + 1) / 4
    )


# --- slices


@pytest.mark.parametrize(
    ("pictures", "sizes"),
    [(100, [25, 25, 25, 25]), (10, [3, 2, 2, 3]), (4, [1, 1, 1, 1]), (2, [1, 1]), (1, [1])],
)
def test_slices_of_different_values_are_about_equal(pictures: int, sizes: list[int]) -> None:
    values = np.random.default_rng(0).permutation(pictures).astype(float)
    found = slices(values, values % 2 == 0)
    assert sorted(s.pictures for s in found) == sorted(sizes)
    start = 0
    for part in found:
        inside = range(start, start + part.pictures)
        assert part == Slice(inside[0], inside[-1], sum(v % 2 == 0 for v in inside), len(inside))
        start += part.pictures


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 8), st.booleans()), max_size=40), st.integers(1, 6))
def test_slices_keep_equal_values_together_and_lose_nothing(
    pictures: list[tuple[int, bool]], parts: int
) -> None:
    values, right = (
        np.array([v for v, _ in pictures], float),
        np.array([r for _, r in pictures], bool),
    )
    found = slices(values, right, parts)
    assert len(found) <= parts
    assert sum(s.pictures for s in found) == len(pictures)
    assert sum(s.right for s in found) == right.sum()
    for lower, upper in pairwise(found):
        assert lower.high < upper.low
    for part in found:
        inside = (values >= part.low) & (values <= part.high)
        assert part == Slice(
            values[inside].min(), values[inside].max(), right[inside].sum(), inside.sum()
        )


def test_slices_of_equal_values_and_of_nothing() -> None:
    assert slices(np.full(20, 96.0), np.arange(20) < 5) == [Slice(96, 96, 5, 20)]
    assert slices(np.empty(0), np.empty(0, bool)) == []
    assert slices(np.array([96.0] * 90 + [200.0] * 10), np.ones(100, bool)) == [
        Slice(96, 96, 90, 90),
        Slice(200, 200, 10, 10),
    ]
    assert Slice(0, 1, 81, 263).interval == wilson_interval(81, 263)
