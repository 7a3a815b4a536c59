"""Findings about pictures that differ from the others: far away, of an odd size, empty, blurred."""

from collections.abc import Sequence

import numpy as np

from finetune.checks.features import Features
from finetune.checks.finding import Finding, Illustration, first, path_shown
from finetune.checks.measures import Measures
from finetune.checks.near_duplicates import ROWS
from finetune.data.dataset import Data

NEAREST = 10
"""The distance to the so-manieth nearest picture says how far away a picture is."""
FAR_OUT = 3.0
"""Interquartile ranges above the third quartile: Tukey's 'far out'."""
AREA_FACTOR, ASPECT_FACTOR = 16.0, 3.0
"""How much larger or smaller than the median an area or an aspect ratio has to be."""
LEAST_CONTRAST = 4.0
"""Standard deviation of the grey values, of 255, below which a picture is nearly uniform."""
BLUR_FACTOR = 12.0
"""How much less detail than the median a picture has to have to be called blurred."""
LEAST_SIDE = 32
"""Pixels of the shorter side below which nothing is said of blur."""


def outliers(data: Data, features: Features) -> Finding:
    """Report pictures that are far from all others by the base's features."""
    distances_N = kth_distance(features)
    low, high = np.quantile(distances_N, (0.25, 0.75))
    limit = high + FAR_OUT * (high - low)
    rows = [row for row in np.argsort(-distances_N, kind="stable") if distances_N[row] > limit]
    return Finding(
        "outliers",
        "Outliers",
        len(rows),
        "picture",
        f"Pictures whose {NEAREST}th nearest one, by the base's features, is much farther away "
        f"than usual, among {len(features.indices):,}.",
        "Nothing was changed. Look whether they belong into the data." if rows else "",
        _examples(data, [features.indices[row] for row in rows]),
    )


def kth_distance(features: Features) -> np.ndarray:
    """Compute the distance (1 - cosine) of each picture to its `NEAREST`th nearest: [N]."""
    unit_ND = features.unit
    place = min(NEAREST, len(unit_ND) - 1)
    parts = []
    for begin in range(0, len(unit_ND), ROWS):
        distances = 1 - unit_ND[begin : begin + ROWS] @ unit_ND.T
        # the nearest one, at place 0, is the picture itself
        parts.append(np.partition(distances, place, axis=1)[:, place])
    return np.concatenate(parts)


def odd_sizes(data: Data) -> Finding:
    """Report pictures much larger, smaller, or of another shape than the median."""
    areas_N = np.array([p.width * p.height for p in data.pictures], float)
    aspects_N = np.array([p.width / p.height for p in data.pictures])
    off = np.maximum(
        _factor(areas_N) / AREA_FACTOR,
        _factor(aspects_N) / ASPECT_FACTOR,
    )
    indices = [int(index) for index in np.argsort(-off, kind="stable") if off[index] > 1]
    examples = []
    for index in indices:
        picture = data.pictures[index]
        note = f"{picture.width} x {picture.height}, {path_shown(data, index)}"
        examples.append(Illustration((index,), note))
    return Finding(
        "odd_sizes",
        "Odd sizes",
        len(indices),
        "picture",
        f"Pictures with {AREA_FACTOR:g} times more or fewer pixels than the median "
        f"({np.median(areas_N):,.0f}), or an aspect ratio that is {ASPECT_FACTOR:g} times off.",
        "Nothing was changed: every picture is resized to the side of the recipe. Tiny ones may "
        "be thumbnails that were saved by mistake."
        if indices
        else "",
        first(examples),
    )


def _factor(values_N: np.ndarray) -> np.ndarray:
    """Say how many times each value is larger, or smaller, than the median."""
    ratio = values_N / np.median(values_N)
    return np.maximum(ratio, 1 / ratio)


def uniform(data: Data, measures: Measures) -> Finding:
    """Report pictures that show next to nothing."""
    low = measures.contrast_N < LEAST_CONTRAST
    indices = np.flatnonzero(low)[np.argsort(measures.contrast_N[low], kind="stable")].tolist()
    return Finding(
        "uniform",
        "Nearly uniform pictures",
        len(indices),
        "picture",
        f"Pictures whose grey values differ by less than {LEAST_CONTRAST:g} of 255 (standard "
        "deviation).",
        "Nothing was changed. Remove those that show nothing." if indices else "",
        _examples(data, indices),
    )


def blurred(data: Data, measures: Measures) -> Finding:
    """Report pictures with much less detail than the others."""
    large = np.array([min(p.width, p.height) >= LEAST_SIDE for p in data.pictures])
    kept = np.flatnonzero(large & (measures.contrast_N >= LEAST_CONTRAST))
    indices: list[int] = []
    if len(kept):
        detail = measures.detail_N[kept]
        low = detail < np.median(detail) / BLUR_FACTOR
        indices = kept[low][np.argsort(detail[low], kind="stable")].tolist()
    return Finding(
        "blurred",
        "Blurred pictures",
        len(indices),
        "picture",
        f"Pictures with {BLUR_FACTOR:g} times less fine detail than the median (variance of the "
        "Laplacian over that of the grey values).",
        "Nothing was changed. Remove those on which you cannot tell the class yourself."
        if indices
        else "",
        _examples(data, indices),
    )


def _examples(data: Data, indices: Sequence[int]) -> tuple[Illustration, ...]:
    return first([Illustration((index,), path_shown(data, index)) for index in indices])
