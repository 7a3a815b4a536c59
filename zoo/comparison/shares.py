"""Numbers about right and wrong answers: intervals, calibration, and whether two models differ by
more than chance."""

import math
from typing import NamedTuple

import numpy as np

BINS = 15
"""Bins of equal width for calibration (Guo et al., ICML 2017)."""
LEAST_CHANCE = 0.05
"""Two models differ where equally good ones would be this far apart less often."""


def wilson_interval(right: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """95 % confidence interval of a share (Wilson, 1927)."""
    # by hand: importing scipy.stats takes 1.4 s of every run, its interval then 2 ms for each
    # share, and 0 of 0 is an error there. Here nothing is known of no pictures
    if total == 0:
        return 0.0, 1.0
    p, zz = right / total, z * z / total
    # not the normal interval, which is empty where all answers are right
    half = z * math.sqrt(p * (1 - p) / total + zz / (4 * total))
    return max(0.0, (p + zz / 2 - half) / (1 + zz)), min(1.0, (p + zz / 2 + half) / (1 + zz))


class Bin(NamedTuple):
    """Answers of about the same confidence."""

    confidence: float
    """Their mean probability."""
    right: float
    """The share of them that is right."""
    pictures: int


def reliability(confidence_N: np.ndarray, right_N: np.ndarray) -> list[Bin]:
    """The bins of a reliability diagram that hold any answer, in order of confidence."""
    # bins are open on the left, as in the paper; 0 belongs to the first
    place = np.clip(np.ceil(confidence_N * BINS).astype(int) - 1, 0, BINS - 1)
    bins = []
    for number in np.unique(place):
        inside = place == number
        confidence, right = confidence_N[inside].mean(), right_N[inside].mean()
        bins.append(Bin(float(confidence), float(right), int(inside.sum())))
    return bins


def calibration_error(confidence_N: np.ndarray, right_N: np.ndarray) -> float:
    """Expected calibration error of the given answers (ECE): mean gap between confidence and share
    of right ones, weighted by the pictures of each bin (Naeini et al., AAAI 2015)."""
    gaps = (abs(b.confidence - b.right) * b.pictures for b in reliability(confidence_N, right_N))
    return sum(gaps) / len(confidence_N)


class Paired(NamedTuple):
    """Two models on the same pictures."""

    pictures: int
    only_first: int
    """Pictures that only the first has right."""
    only_second: int

    @property
    def difference(self) -> float:
        """Top-1 of the second minus that of the first."""
        return (self.only_second - self.only_first) / self.pictures

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the difference: normal, of paired shares (Agresti, Categorical Data
        Analysis, 2013, 11.1.1). One discordant picture is added to each side, so that no difference
        is sure."""
        first, second = self.only_first + 1, self.only_second + 1
        half = (
            1.96 * math.sqrt(first + second - (second - first) ** 2 / self.pictures) / self.pictures
        )
        return max(-1.0, self.difference - half), min(1.0, self.difference + half)

    @property
    def p_value(self) -> float:
        """Chance of a difference this large between equally good models: McNemar's test (1947),
        exact."""
        # here, because scipy is slow to load
        from scipy.stats import binomtest

        # pictures that both have right, or both wrong, say nothing about the difference
        changed = self.only_first + self.only_second
        if changed == 0:
            return 1.0
        return float(binomtest(self.only_first, changed).pvalue)

    @property
    def verdict(self) -> str:
        """Whether the two are more different than chance makes equally good ones, at 5 %, in
        words."""
        return "differ" if self.p_value < LEAST_CHANCE else "cannot tell apart"


def paired(first: np.ndarray, second: np.ndarray) -> Paired:
    """Of bool [N], bool [N]: which pictures each has right."""
    return Paired(len(first), int((first & ~second).sum()), int((~first & second).sum()))
