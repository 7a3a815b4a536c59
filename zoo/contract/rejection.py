"""The score above which a picture is called unknown: how it is set, and how well it tells strangers
apart."""

import math
from collections.abc import Mapping

import numpy as np
from PIL import Image

REJECTED = 0.05
"""Share of the calibration pictures that may be called unknown."""
WEAK = 0.05
"""Share of the reference embeddings that are shorter than the length below which an embedding
counts as weak."""

FEW = 0.5
"""An unknown answer that finds a smaller share than this of some foreign pictures is weak."""
CURE = (
    "Fewer epochs, or the linear probe alone (--probe-only), keep more of the features that tell "
    "foreign pictures; or give the foreign pictures that you expect a class of their own."
)
"""What brings more of a weak unknown answer back (tests/bench/RESULTS.md)."""


def threshold(unknown_score_N: np.ndarray, share: float = REJECTED) -> float:
    """A score that at most `share` of the calibration pictures exceed, half way between two of
    them."""
    ordered = np.sort(unknown_score_N)
    # 1e-9: 0.95 times the number may be a rounding above a whole one, and ceil would take the next
    return between([*ordered, ordered[-1] + 1e-6], math.ceil(len(ordered) * (1 - share) - 1e-9))


def between(ordered: list[float], kept: int) -> float:
    """Half way from the last of the first `kept` values to the next, so that rounding moves no
    picture across it."""
    return (float(ordered[kept - 1]) + float(ordered[kept])) / 2


def shortest_length(embedding_ND: np.ndarray) -> float:
    """The length below which an embedding counts as weak, from those of the references."""
    return max(1e-12, float(np.quantile(np.linalg.norm(embedding_ND, axis=1), WEAK)))


def auroc(known_N: np.ndarray, foreign_M: np.ndarray) -> float:
    """Probability that a foreign picture has a higher unknown score than a known one, ties counted
    half.

    The area under the ROC curve, by ranks (Mann and Whitney, 1947). 0.5 = the score does not tell
    them apart.
    """
    scores = np.concatenate([known_N, foreign_M])
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    # counted here, because a Space gets a copy of this room and has no scikit-learn; equal scores
    # share the mean of their ranks
    ranks = (last - (counts - 1) / 2)[place]
    above = ranks[len(known_N) :].sum() - len(foreign_M) * (len(foreign_M) + 1) / 2
    return float(above / (len(known_N) * len(foreign_M)))


def weakest(rejected: Mapping[str, float]) -> tuple[str, float] | None:
    """(name, share) of the foreign set of which the smallest share is called unknown; None if there
    are no sets.

    `rejected`: name of a foreign set -> share of its pictures that are called unknown.
    """
    return min(rejected.items(), key=lambda item: item[1], default=None)


def warning(rejected: Mapping[str, float]) -> str | None:
    """A sentence for a weak unknown answer, None for a good one; `rejected` as for `weakest`."""
    found = weakest(rejected)
    if found is None or found[1] >= FEW:
        return None
    name, share = found
    return (
        f"the unknown answer is weak: only {share:.0%} of the foreign pictures {name!r} are called "
        "unknown, the others are taken for one of the classes"
    )


def noise(count: int) -> list[Image.Image]:
    """So many pictures of nothing, half of them independent uniform pixels (256 px), half smooth
    colour noise (a grid of 2 to 16 random colours)."""
    # the same noise in every run, so that their reports can be compared
    random = np.random.default_rng(0)
    grids = [256] * (count // 2) + random.integers(2, 17, count - count // 2).tolist()
    pictures = [
        Image.fromarray(random.integers(0, 256, (side, side, 3), dtype=np.uint8)) for side in grids
    ]
    return [picture.resize((256, 256), Image.Resampling.BICUBIC) for picture in pictures]
