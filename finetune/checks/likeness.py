"""Whether two pictures show the same pixels: as they are, mirrored, or one cut out of the other.

Both are compared at a few pixels' size by the correlation of their values, which brightness and
contrast do not change. A part of a picture is looked for at every place.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

SIDE = 24
"""Pixels of a side that are compared."""
CUT_SIDES = (26, 27, 28, 30)
"""Sides of the whole picture of which SIDE pixels are the part: a cut to 92, 89, 86 or 80 % of its
sides."""
ROUGH, ROUGH_CUT_SIDES = 12, (13, 14, 15)
"""The same of a first, rough comparison."""
KEPT = 96
"""Longest side, in pixels, of the copy from which parts are cut."""
TINY = 32
"""Longest side up to which pictures of different sizes are compared at the smaller one's too."""
_METHODS = (Image.Resampling.BOX, Image.Resampling.BILINEAR, Image.Resampling.BICUBIC)
LEAST_SPREAD = 2.0
"""Standard deviation of the values, of 255, below which a picture shows nothing to compare."""
GAINS = (1.15, 1.3)
"""Brightness at which a picture is compared too: what gets lighter than white is lost."""
ENOUGH = 0.99
"""Correlation from which no better relation is looked for."""
ROUGHLY, PROMISING = 0.85, 0.92
"""Rough correlation of a part from which it is compared at full size, and correlation there from
which places between the pixels are tried."""
SHIFTS = (-0.4, 0.0, 0.4)
"""Of the corner of a part, in the pixels of `CUT_SIDES`."""


@dataclass(frozen=True)
class Looks:
    """A picture at the sizes at which it is compared."""

    kept: Image.Image
    whole: np.ndarray
    """float32 [SIDE * SIDE * 3], of mean 0 and length 1; zero where nothing can be seen."""
    mirrored: np.ndarray
    """The same, flipped from left to right."""
    lighter: np.ndarray
    """The same at each of GAINS: [G, SIDE * SIDE * 3]."""
    rough: np.ndarray
    """The picture and its mirror image at ROUGH pixels: [2, ROUGH * ROUGH * 3]."""
    rough_parts: np.ndarray
    """Its parts at that size: [P, ROUGH * ROUGH * 3]."""


def looks(picture: Image.Image) -> Looks:
    """Prepare a picture for comparison; its aspect ratio is not kept."""
    kept = picture
    if max(picture.size) > KEPT:
        kept = picture.resize((KEPT, KEPT), Image.Resampling.BOX, reducing_gap=2.0)
    pixels = _resized(kept, SIDE).astype(np.float32)
    versions = [pixels, pixels[:, ::-1]]
    for gain in GAINS:
        versions.append((gain * pixels).clip(0, 255))
    rows = _unit(np.stack(versions).reshape(len(versions), -1))
    rough = _resized(kept, ROUGH)
    turned = _unit(np.stack((rough, rough[:, ::-1])).reshape(2, -1))
    parts = [_windows(kept, side, ROUGH) for side in ROUGH_CUT_SIDES]
    return Looks(kept, rows[0], rows[1], rows[2:], turned, np.concatenate(parts))


def likeness(one: Looks, other: Looks) -> tuple[float, str]:
    """Give the highest correlation of two pictures, -1 to 1, and how they are then related: 'as it
    is', 'mirrored' or 'cut'."""
    best = max(_in_full(one, other))
    if best[0] >= ENOUGH:
        return best
    if max(*one.kept.size, *other.kept.size) <= TINY and one.kept.size != other.kept.size:
        best = max(best, max(_of_tiny(one.kept, other.kept)))
    return max(best, (_cut(one, other), "cut"), (_cut(other, one), "cut"))


def _of_tiny(one: Image.Image, other: Image.Image) -> Iterator[tuple[float, str]]:
    """Compare two pictures of few pixels at the size of the smaller one, where enlarging both would
    add more than they show: the larger one resized, and each part of it."""
    small, large = sorted((one, other), key=lambda picture: picture.width * picture.height)
    wanted = _unit(np.asarray(small).reshape(1, -1))[0]
    for method in _METHODS:
        resized = np.asarray(large.resize(small.size, method))
        yield float(_unit(resized.reshape(1, -1))[0] @ wanted), "as it is"
    if small.width <= large.width and small.height <= large.height:
        shape = (small.height, small.width, 3)
        views = np.lib.stride_tricks.sliding_window_view(np.asarray(large), shape)
        yield float((_unit(views.reshape(-1, len(wanted))) @ wanted).max()), "cut"


def _in_full(one: Looks, other: Looks) -> Iterator[tuple[float, str]]:
    yield float(one.whole @ other.whole), "as it is"
    yield float((one.lighter @ other.whole).max()), "as it is"
    yield float((other.lighter @ one.whole).max()), "as it is"
    yield float(one.mirrored @ other.whole), "mirrored"


def _cut(whole: Looks, part: Looks) -> float:
    """Give the highest correlation of a picture, or its mirror image, with a part of another."""
    rough = float((whole.rough_parts @ part.rough.T).max())
    if rough < ROUGHLY:
        return rough
    wanted = np.stack((part.whole, part.mirrored))
    best = (-1.0, 0, 0, 0)
    for side in CUT_SIDES:
        values = (_windows(whole.kept, side, SIDE) @ wanted.T).max(1)
        top, left = divmod(int(values.argmax()), side - SIDE + 1)
        best = max(best, (float(values.max()), side, top, left))
    if best[0] < PROMISING:
        return best[0]
    return max(best[0], _refined(whole, wanted, best[1:]))


def _windows(picture: Image.Image, side: int, of_part: int) -> np.ndarray:
    """Give every part of `of_part` pixels of a picture of `side` pixels, row by row."""
    pixels = _resized(picture, side)
    views = np.lib.stride_tricks.sliding_window_view(pixels, (of_part, of_part, 3))
    return _unit(views.reshape(-1, of_part * of_part * 3))


def _refined(whole: Looks, wanted: np.ndarray, place: tuple[int, int, int]) -> float:
    """Give the highest correlation with parts that begin between the pixels of a place."""
    side, top, left = place
    x, y = (length / side for length in whole.kept.size)
    parts = []
    for down in SHIFTS:
        for right in SHIFTS:
            begin = np.clip((left + right, top + down), 0, side - SIDE)
            box = (*(begin * (x, y)), *((begin + SIDE) * (x, y)))
            cut = whole.kept.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=box)
            parts.append(np.asarray(cut))
    return float((_unit(np.stack(parts).reshape(len(parts), -1)) @ wanted.T).max())


def _resized(picture: Image.Image, side: int) -> np.ndarray:
    # bilinear of Pillow averages where it makes smaller, and is smooth where it makes larger
    return np.asarray(picture.resize((side, side), Image.Resampling.BILINEAR))


def _unit(rows: np.ndarray) -> np.ndarray:
    """Bring each row to mean 0 and length 1."""
    values = rows.astype(np.float32)
    values -= values.mean(1, keepdims=True)
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    least = LEAST_SPREAD * values.shape[1] ** 0.5
    return np.where(lengths >= least, values / np.maximum(lengths, least), 0)
