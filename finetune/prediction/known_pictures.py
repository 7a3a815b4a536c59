"""Which pictures the run has seen, by their bytes: answers to those that it was trained on say
little."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zoo.contract import run_pictures, rundir
from zoo.contract.splits import SPLITS

HALF = 16
"""Hexadecimal digits of a sha256 that are compared, 8 bytes of 32: enough by far among millions."""


@dataclass(frozen=True)
class KnownPictures:
    """Holds the pictures of a run, 9 bytes each."""

    keys: np.ndarray
    """uint64 [N], sorted: the beginning of each sha256."""
    splits: np.ndarray
    """uint8 [N]: index into `SPLITS`."""

    @staticmethod
    def of(run: Path) -> "KnownPictures":
        """Read those of a run folder; a published copy knows none."""
        keys, splits = [], []
        if (run / rundir.FILES).is_file():
            for row in run_pictures.files_rows(run):
                if row["split"] in SPLITS:
                    keys.append(int(row["sha256"][:HALF], 16))
                    splits.append(SPLITS.index(row["split"]))
        unsorted = np.array(keys, np.uint64)
        order = np.argsort(unsorted, kind="stable")
        return KnownPictures(unsorted[order], np.array(splits, np.uint8)[order])

    def split_of(self, sha256: str) -> str:
        """Name the split that the run has a picture of these bytes in; empty where it has none."""
        key = np.uint64(int(sha256[:HALF], 16))
        place = int(np.searchsorted(self.keys, key))
        if place == len(self.keys) or self.keys[place] != key:
            return ""
        return SPLITS[self.splits[place]]
