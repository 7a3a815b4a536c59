"""The base's features of the pictures, or of so many of them as the expensive checks take."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from torch import nn

from finetune.data.dataset import Data
from finetune.data.loader import PictureSource, evaluation_batches
from finetune.data.picture_columns import Picture
from finetune.evaluation.passes import extract, sample

MOST_PICTURES = 20_000
"""Pictures whose features are computed; of more, as many of each class as can be."""


@dataclass(frozen=True)
class Features:
    """The features of some of the pictures, in the order of these."""

    indices: tuple[int, ...]
    """Of the pictures in the data, ascending."""
    x_ND: np.ndarray
    """float32 [N, dim]."""

    @cached_property
    def unit(self) -> np.ndarray:
        """The features less their mean, each of length 1."""
        centred = self.x_ND - self.x_ND.mean(0)
        return centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)

    @cached_property
    def row(self) -> dict[int, int]:
        """Index of a picture -> its row."""
        return {index: row for row, index in enumerate(self.indices)}

    def cosine(self, pair: tuple[int, int]) -> float | None:
        """Of the features of two pictures; None where they were not computed."""
        if not self.row.keys() >= set(pair):
            return None
        first, second = map(self.row.__getitem__, pair)
        return float(self.unit[first] @ self.unit[second])


def extracted(model: nn.Module, data: Data, source: PictureSource, precision: str) -> Features:
    """Compute the features of at most `MOST_PICTURES` pictures."""
    place = {picture: index for index, picture in enumerate(data.pictures)}
    indices = sorted(place[picture] for picture in sample(data.pictures, MOST_PICTURES))
    chosen: Sequence[Picture] = [data.pictures[index] for index in indices]
    x_ND, _ = extract(
        model,
        evaluation_batches(chosen, source),
        source.pre,
        total=len(chosen),
        precision=precision,
    )
    return Features(tuple(indices), x_ND.numpy())
