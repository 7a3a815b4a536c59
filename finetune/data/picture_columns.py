"""Many pictures in little memory: columns in arrays instead of objects.

Two million objects of Python would take 0.7 GB, and a process that decodes would copy them all,
because to look at an object is to write its count of references.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain
from typing import NamedTuple, overload

import numpy as np

from zoo.contract.splits import SPLITS


class Picture(NamedTuple):
    """Describes one picture of the data."""

    path: str
    """Relative to the data folder, with `/`."""
    label: int
    """Index into the class names."""
    split: str
    """train, val or test."""
    sha256: str
    """Digest of the file's bytes."""
    width: int
    """Upright, in pixels."""
    height: int
    group: str = ""
    """Pictures of one group are never on two sides of a split; empty for a picture alone."""

    @property
    def unit(self) -> str:
        """Names what is never cut apart: copies of the same bytes, or a group; hexadecimal, and
        the same on any machine."""
        if not self.group:
            return self.sha256
        # found in a path, whose bytes may not be UTF-8
        return hashlib.sha256(self.group.encode("utf-8", "surrogateescape")).hexdigest()


@dataclass(frozen=True, eq=False)
class Pictures(Sequence[Picture]):
    """Holds pictures in a fixed order, N of them: 53 bytes each, and the bytes of their paths."""

    text: np.ndarray
    """uint8, the paths one after the other in UTF-8; it may hold those of other pictures too."""
    begin: np.ndarray
    """int64 [N], where each path begins in `text`."""
    end: np.ndarray
    """int64 [N], where it ends."""
    labels: np.ndarray
    """int32 [N]."""
    splits: np.ndarray
    """uint8 [N], indices into `SPLITS`."""
    digests: np.ndarray
    """uint8 [N, 32], sha256."""
    widths: np.ndarray
    """int32 [N]."""
    heights: np.ndarray
    """int32 [N]."""
    groups: np.ndarray
    """int32 [N], indices into `group_names`."""
    group_names: tuple[str, ...] = ("",)

    @staticmethod
    def of(pictures: Iterable[Picture]) -> "Pictures":
        """Put pictures into columns."""
        if isinstance(pictures, Pictures):
            return pictures
        rows = list(pictures)
        # names of files may hold bytes that are not UTF-8
        paths = [p.path.encode("utf-8", "surrogateescape") for p in rows]
        end = np.cumsum([0, *map(len, paths)], dtype=np.int64)
        names: dict[str, int] = {"": 0}
        groups = [names.setdefault(p.group, len(names)) for p in rows]
        digests = b"".join(bytes.fromhex(p.sha256) for p in rows)
        return Pictures(
            np.frombuffer(b"".join(paths), np.uint8),
            end[:-1],
            end[1:],
            np.array([p.label for p in rows], np.int32),
            np.array([SPLITS.index(p.split) for p in rows], np.uint8),
            np.frombuffer(digests, np.uint8).reshape(-1, 32),
            np.array([p.width for p in rows], np.int32),
            np.array([p.height for p in rows], np.int32),
            np.array(groups, np.int32),
            tuple(names),
        )

    def __len__(self) -> int:
        return len(self.labels)

    @overload
    def __getitem__(self, index: int) -> Picture: ...

    @overload
    def __getitem__(self, index: slice) -> "Pictures": ...

    def __getitem__(self, index: int | slice) -> "Picture | Pictures":
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        path = self.text[self.begin[index] : self.end[index]].tobytes()
        return Picture(
            path.decode("utf-8", "surrogateescape"),
            int(self.labels[index]),
            SPLITS[self.splits[index]],
            self.digests[index].tobytes().hex(),
            int(self.widths[index]),
            int(self.heights[index]),
            self.group_names[self.groups[index]],
        )

    def __iter__(self) -> Iterator[Picture]:
        # in pieces: an array's own numbers are slow to take out one by one
        return chain.from_iterable(
            self._rows(first, min(first + 4096, len(self))) for first in range(0, len(self), 4096)
        )

    def _rows(self, first: int, last: int) -> Iterator[Picture]:
        piece = slice(first, last)
        digests = self.digests[piece].tobytes().hex()
        columns = (self.labels, self.splits, self.widths, self.heights, self.groups)
        lists = [column[piece].tolist() for column in columns]
        spans = zip(self.begin[piece].tolist(), self.end[piece].tolist(), strict=True)
        for i, (begin, end) in enumerate(spans):
            label, split, width, height, group = (column[i] for column in lists)
            yield Picture(
                self.text[begin:end].tobytes().decode("utf-8", "surrogateescape"),
                label,
                SPLITS[split],
                digests[64 * i : 64 * (i + 1)],
                width,
                height,
                self.group_names[group],
            )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or len(self) != len(other):
            return False
        return all(own == its for own, its in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def take(self, indices: np.ndarray) -> "Pictures":
        """Give some of the pictures, by their indices or by a mask; the paths are shared."""
        columns = {
            field.name: getattr(self, field.name)[indices]
            for field in fields(self)
            if field.name not in ("text", "group_names")
        }
        return replace(self, **columns)

    def of_split(self, split: str) -> "Pictures":
        """Give the pictures of train, val or test, in their order."""
        return self.take(self.splits == SPLITS.index(split))

    def with_splits(self, splits: Sequence[str]) -> "Pictures":
        """Give the same pictures in other splits."""
        return replace(self, splits=np.array([*map(SPLITS.index, splits)], np.uint8))

    def with_labels(self, label_of: Sequence[int]) -> "Pictures":
        """Give the same pictures with other labels: `label_of` has the new one of each old one."""
        return replace(self, labels=np.array(label_of, np.int32)[self.labels])

    @property
    def grouped(self) -> bool:
        """Tell whether some pictures belong to a group."""
        return bool(self.groups.any())
