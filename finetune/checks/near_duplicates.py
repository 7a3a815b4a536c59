"""Pairs of pictures that show the same: re-encoded, resized, brighter or darker, mirrored, or one
cut out of the other.

Pairs worth comparing come from equal perceptual hashes, give or take some bits, of all pictures,
which are joined by their quarters; and, of the pictures with features, from the nearest neighbours
by these and by a few pixels of the picture or its parts. They count if the features agree and the
pixels do.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from finetune.checks.features import Features
from finetune.checks.likeness import Looks, likeness, looks
from finetune.checks.measures import COARSE, PARTS, Measures, open_picture
from finetune.data.dataset import Data
from zoo.files import tables
from zoo.host import console

HEADER = (
    "path",
    "label",
    "split",
    "other_path",
    "other_label",
    "other_split",
    "relation",
    "likeness",
    "cosine",
)
HASH_BITS = 6
"""Bits of 64 in which the hashes of a pair may differ."""
QUARTERS = 4
"""Parts of a hash. Two hashes that differ in up to 7 bits have a part with at most one of them."""
MOST_ALIKE = 100
"""Pictures with one quarter in common from which on it tells nothing, as of drawings on white."""
NEIGHBOURS = 3
"""Nearest pictures by features that are looked at for each."""
LEAST_COSINE = 0.3
"""Of the features of a pair, unless its pixels are SURE."""
NEARER = 0.3
"""How far apart (1 - correlation of pixels) a pair may be, as a share of the median distance of a
picture to the most similar one."""
LEAST_LIKENESS, MOST_LIKENESS = 0.96, 0.995
"""The correlation of pixels that is asked for lies between these. With NEARER 0.3, tuned on emoji,
they gave 40 of 40 planted pairs there and 38 of 40 on letters (tests/bench/RESULTS.md)."""
LEAST_COARSE = 0.9
"""The same of the few pixels of a picture and of a part of another that is worth comparing."""
SURE = 0.985
"""Correlation of the pixels of a pair whose features are not known, or differ."""
ROWS = 1000
"""Pictures whose neighbours are computed at once."""
MOST_PAIRS = 200_000
"""Pairs whose pixels are compared, the nearest by features first."""


@dataclass(frozen=True)
class Pair:
    """Two pictures that show the same."""

    first: int
    """Index into the pictures of the data; lower than `second`."""
    second: int
    relation: str
    """'as it is', 'mirrored' or 'cut'."""
    cosine: float | None
    """Of their features; None where they were not computed."""
    likeness: float
    """Correlation of their pixels."""


def find_pairs(data: Data, measures: Measures, features: Features) -> list[Pair]:
    """Give the near duplicates, the surest first; pictures with equal bytes are none."""
    candidates = {*by_hash(measures), *neighbours(features), *by_parts(measures, features.indices)}
    cosines = {}
    for pair in sorted(candidates):
        first, second = (data.pictures[index] for index in pair)
        if first.sha256 != second.sha256:
            cosines[pair] = features.cosine(pair)
    pairs = compared_pairs(data, cosines)
    least = least_likeness(pairs, features.indices)
    found = [pair for pair in pairs if is_near(pair, least)]
    return sorted(found, key=lambda pair: (-pair.likeness, pair.first, pair.second))


def is_near(pair: Pair, least: float) -> bool:
    """Tell whether a pair shows the same, where `least` is the correlation asked for."""
    confirmed = pair.cosine is not None and pair.cosine >= LEAST_COSINE
    return pair.likeness >= (least if confirmed else max(least, SURE))


def least_likeness(pairs: Sequence[Pair], indices: Sequence[int]) -> float:
    """Give the correlation from which a pair shows the same, by how much the pictures `indices`
    are alike anyway: digits of 8 x 8 pixels have neighbours at 0.96, photographs at 0.7."""
    nearest = dict.fromkeys(indices, 0.0)
    for pair in pairs:
        for index in (pair.first, pair.second):
            if index in nearest:
                nearest[index] = max(nearest[index], pair.likeness)
    usual = 1 - float(np.median(list(nearest.values())))
    return min(max(1 - NEARER * usual, LEAST_LIKENESS), MOST_LIKENESS)


def compared_pairs(data: Data, cosines: Mapping[tuple[int, int], float | None]) -> list[Pair]:
    """Compare the pixels of the pairs, which have these cosines of their features."""

    @lru_cache(maxsize=4_000)
    def prepared(index: int) -> Looks:
        return looks(open_picture(data, data.pictures[index])[1])

    pairs = []
    for pair, cosine in console.track(chosen(cosines), "comparing pictures"):
        value, relation = likeness(*map(prepared, pair))
        pairs.append(Pair(*pair, relation, cosine, value))
    return pairs


def chosen(
    cosines: Mapping[tuple[int, int], float | None],
) -> list[tuple[tuple[int, int], float | None]]:
    """Give the pairs whose pixels are compared, in the order of the pictures."""
    near = sorted(cosines.items(), key=lambda row: (-(row[1] or 0.0), row[0]))
    return sorted(near[:MOST_PAIRS], key=lambda row: row[0])


def neighbours(features: Features) -> Iterator[tuple[int, int]]:
    """Yield each picture with its nearest ones by features."""
    yield from nearest_pairs(features.unit, features.unit, features.indices, LEAST_COSINE)


def by_parts(measures: Measures, indices: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield each picture with those of which it may be a part, or a mirrored part."""
    parts_NPD = measures.parts_NPD[list(indices)]
    whole_ND = unit_rows(parts_NPD[:, 0])
    pixels = whole_ND.reshape(-1, COARSE, COARSE, 3)
    mirrored_ND = pixels[:, :, ::-1].reshape(len(whole_ND), -1)
    for part in range(PARTS):
        part_ND = unit_rows(parts_NPD[:, part])
        yield from nearest_pairs(whole_ND, part_ND, indices, LEAST_COARSE)
        yield from nearest_pairs(mirrored_ND, part_ND, indices, LEAST_COARSE)


def unit_rows(rows: np.ndarray) -> np.ndarray:
    """Bring each row to mean 0 and length 1."""
    values = rows.astype(np.float32)
    values -= values.mean(1, keepdims=True)
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-6)


def nearest_pairs(
    rows_ND: np.ndarray, others_ND: np.ndarray, indices: Sequence[int], least: float
) -> Iterator[tuple[int, int]]:
    """Yield (i, j), i < j, of each row and the `NEIGHBOURS` other ones with the highest product, of
    `least` or more."""
    count = min(NEIGHBOURS, len(rows_ND) - 1)
    of_row = np.array(indices)
    for begin in range(0, len(rows_ND) if count else 0, ROWS):
        products = rows_ND[begin : begin + ROWS] @ others_ND.T
        own = np.arange(len(products))
        products[own, begin + own] = -np.inf
        columns = np.argpartition(-products, count - 1, axis=1)[:, :count]
        pairs = np.stack((np.repeat(of_row[begin + own], count), of_row[columns].reshape(-1)), 1)
        pairs = pairs[np.take_along_axis(products, columns, 1).reshape(-1) >= least]
        yield from map(tuple, np.sort(pairs, axis=1).tolist())


def by_hash(measures: Measures) -> Iterator[tuple[int, int]]:
    """Yield pairs whose hashes, or that of one mirrored, differ in at most `HASH_BITS` bits."""
    yield from joined(measures.hash_N, measures.hash_N)
    yield from joined(measures.hash_N, measures.mirrored_hash_N)


def joined(left_N: np.ndarray, right_N: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield (i, j), i < j, with left[i] and right[j], or left[j] and right[i], nearly equal."""
    for quarter in range(QUARTERS):
        shift = np.uint64(16 * quarter)
        left, right = [(h >> shift) & np.uint64(0xFFFF) for h in (left_N, right_N)]
        order = np.argsort(right, kind="stable")
        ranked = right[order]
        # the quarter itself, then each of its bits turned over
        for mask in (0, *(1 << bit for bit in range(16))):
            wanted = left ^ np.uint64(mask)
            begin, end = (np.searchsorted(ranked, wanted, side) for side in ("left", "right"))
            lengths = end - begin
            lengths[lengths > MOST_ALIKE] = 0
            rows = np.repeat(np.arange(len(left)), lengths)
            ends = np.cumsum(lengths)
            places = np.arange(ends[-1]) - np.repeat(ends - lengths, lengths)
            columns = order[np.repeat(begin, lengths) + places]
            apart = np.bitwise_count(left_N[rows] ^ right_N[columns])
            near = (apart <= HASH_BITS) & (rows != columns)
            for i, j in zip(rows[near].tolist(), columns[near].tolist(), strict=True):
                yield (i, j) if i < j else (j, i)


def write_pairs(path: Path, data: Data, pairs: Sequence[Pair]) -> None:
    """Write both pictures of each pair with their classes and splits, and how alike they are."""
    rows = []
    for pair in pairs:
        cells: list[object] = []
        for index in (pair.first, pair.second):
            picture = data.pictures[index]
            cells += [picture.path, data.classes[picture.label], picture.split]
        cosine = "" if pair.cosine is None else f"{pair.cosine:.4f}"
        rows.append((*cells, pair.relation, f"{pair.likeness:.4f}", cosine))
    tables.write_table(path, HEADER, rows)
