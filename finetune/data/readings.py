"""What was read of pictures before: a later start reads only files that changed.

A file counts as unchanged while its path, size, times, inode and device are. Its readings are kept
in the user's cache, a file for each data folder, and may be lost at any time. Training and
evaluation read the pictures themselves, and evaluation compares their sha256, whatever is kept.
"""

import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL

from finetune.data.reading import MeasuredPicture
from zoo.host import disk
from zoo.host.home import cache_home

VERSION = 1
"""Counts changes of what is kept, and of what the decoder refuses."""
SETTLED_S = 2.0
"""Seconds after its last change in which a file may change again without another time: file systems
count in steps of up to two seconds."""
FORGOTTEN_FROM = 100_000
"""Readings of files that are gone may be kept up to this number; more are dropped."""
RECORD = np.dtype(
    [
        ("key", "<u8"),
        ("check", "<u8"),
        ("sha256", "u1", (32,)),
        ("width", "<u4"),
        ("height", "<u4"),
        ("bits_used", "<i1"),
    ]
)
"""57 bytes a picture: half of the digest of path and state to find it by, the other half to be
sure."""


def file_state(path: Path) -> str:
    """Tell by what a file is known to be unchanged; empty for one that is missing or that may just
    be changing."""
    try:
        found = os.stat(path)
    except OSError:
        return ""
    # the time of the inode's change cannot be set by hand, as that of the content can
    if max(found.st_mtime, found.st_ctime) > time.time() - SETTLED_S:
        return ""
    return f"{found.st_dev} {found.st_ino} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"


@dataclass(frozen=True)
class Readings:
    """Gives the readings of one data folder."""

    path: Path
    records: np.ndarray
    """`RECORD` [N], sorted by key."""

    @staticmethod
    def of(root: Path) -> "Readings":
        """Load what is known of the pictures below `root`; nothing, if there is no such file or a
        damaged one."""
        # another version of the decoder may refuse what this one takes
        name = f"{VERSION} {PIL.__version__} {root.resolve()}"
        digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()
        path = cache_home() / "readings" / f"{digest[:32]}.npy"
        with suppress(OSError, ValueError, EOFError):
            records = np.load(path, allow_pickle=False)
            if records.dtype == RECORD and records.ndim == 1:
                return Readings(path, records)
        return Readings(path, np.empty(0, RECORD))

    def find(self, paths: Sequence[str], states: Sequence[str]) -> Iterator[MeasuredPicture | None]:
        """Yield what is known of each file in its present state, None where nothing is."""
        if not len(self.records):
            yield from [None] * len(paths)
            return
        keys = _keys(paths, states)
        places = np.searchsorted(self.records["key"], keys[:, 0])
        records = self.records[places.clip(max=len(self.records) - 1)]
        known = (records["key"] == keys[:, 0]) & (records["check"] == keys[:, 1])
        digests = records["sha256"].tobytes().hex()
        columns = (records[name].tolist() for name in ("width", "height", "bits_used"))
        for i, values in enumerate(zip(*columns, strict=True)):
            if known[i] and states[i]:
                yield MeasuredPicture(digests[64 * i : 64 * (i + 1)], *values)
            else:
                yield None

    def keep(
        self,
        paths: Sequence[str],
        states: Sequence[str],
        results: Sequence[MeasuredPicture | str],
    ) -> None:
        """Keep the readings of pictures whose state is known; that of a file which is no picture
        is not kept, because its reason may lie in this machine. Nothing is said where the cache
        cannot be written: then every start reads all."""
        rows = [i for i, state in enumerate(states) if state and not isinstance(results[i], str)]
        records = np.empty(len(rows), RECORD)
        keys = _keys([paths[i] for i in rows], [states[i] for i in rows])
        records["key"], records["check"] = keys[:, 0], keys[:, 1]
        read = [result for result in map(results.__getitem__, rows) if not isinstance(result, str)]
        digests = b"".join(bytes.fromhex(result.sha256) for result in read)
        records["sha256"] = np.frombuffer(digests, np.uint8).reshape(-1, 32)
        for name in ("width", "height", "bits_used"):
            records[name] = [getattr(result, name) for result in read]
        others = self.records[~np.isin(self.records["key"], records["key"])]
        if len(others) <= max(FORGOTTEN_FROM, len(records)):
            # a --val elsewhere or another split of the same folder has readings of its own
            records = np.concatenate([records, others])
        records.sort(order="key")
        with suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            disk.write_whole(self.path, lambda temporary: _save(temporary, records))


def _save(path: Path, records: np.ndarray) -> None:
    # an open file, because a path would get the suffix .npy
    with open(path, "wb") as file:
        np.save(file, records)


def _keys(paths: Sequence[str], states: Sequence[str]) -> np.ndarray:
    """Compute the two halves of a digest of path and state, uint64 [N, 2]."""
    digests = bytearray()
    for path, state in zip(paths, states, strict=True):
        text = f"{path}\0{state}".encode("utf-8", "surrogateescape")
        digests += hashlib.blake2b(text, digest_size=16).digest()
    return np.frombuffer(bytes(digests), "<u8").reshape(-1, 2)
