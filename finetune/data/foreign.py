"""Pictures of none of the classes, to measure how well the unknown score tells them from the run's
own."""

import hashlib
import io
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from finetune.data.loader import EVALUATION_BATCH, Batch
from finetune.data.picture_columns import Picture
from finetune.sources.digits import digits, of_sklearn
from zoo.contract.rejection import noise
from zoo.picture.preprocess import Preprocessing
from zoo.picture.tta import WHOLE, View, prepare_views

PICTURES = 200
"""How many each set has."""


class ForeignSet(NamedTuple):
    """Holds some pictures that no class of the run means."""

    name: str
    pictures: list[Image.Image]


def sets_for(own: Sequence[Picture]) -> list[ForeignSet]:
    """Choose the sets for a run: noise, and scikit-learn's handwritten digits; parts of photographs
    where the digits are the run's own pictures.

    A set that resembles the run's classes (digits for another classifier of digits) is not foreign
    to it and has an AUROC near 0.5; the report says what the sets are.
    """
    pixels = digits()[0]
    chosen = list(map(Image.fromarray, pixels[:: len(pixels) // PICTURES][:PICTURES]))
    # `digits.write_digits` writes them as PNG, so a run on the sample has these digests
    digests = set(map(_png_sha256, chosen))
    if any(picture.sha256 in digests for picture in own):
        other = ForeignSet("photos", photos())
    else:
        other = ForeignSet("digits", [picture.convert("RGB") for picture in chosen])
    return [ForeignSet("noise", noise(PICTURES)), other]


def photos() -> list[Image.Image]:
    """Cut square parts, 100 to 400 px wide, of scikit-learn's two sample photographs (a temple and
    a flower, CC BY)."""
    random = np.random.default_rng(0)
    photographs = []
    for name in ("china", "flower"):
        photographs.append(np.asarray(Image.open(of_sklearn(f"images/{name}.jpg"))))
    pictures = []
    for i in range(PICTURES):
        pixels = photographs[i % len(photographs)]
        side = int(random.integers(100, 401))
        top, left = (int(random.integers(0, length - side + 1)) for length in pixels.shape[:2])
        pictures.append(Image.fromarray(pixels[top : top + side, left : left + side]))
    return pictures


def batches(
    pictures: Sequence[Image.Image], pre: Preprocessing, views: tuple[View, ...] = (WHOLE,)
) -> Iterator[Batch]:
    """Yield the pictures as deployment sees them, as `evaluation_batches` gives them, without
    labels (-1)."""
    # all views of a picture pass the network together, so a batch takes fewer pictures
    size = max(1, EVALUATION_BATCH // len(views))
    for i in range(0, len(pictures), size):
        prepared = np.stack(
            [prepare_views(picture, pre, views) for picture in pictures[i : i + size]]
        )
        yield torch.from_numpy(prepared).flatten(0, 1), torch.full((len(prepared),), -1)


def _png_sha256(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return hashlib.sha256(buffer.getvalue()).hexdigest()
