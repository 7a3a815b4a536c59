"""What the data of a run is: classes, pictures with their splits, and findings.

A picture's label is decided by the *name* of its class, in every split. `scanning.py` makes a
`Data` of a folder, `held_out.py` cuts val from its train, and `of_run` reads the `Data` of a
finished run. Nothing here writes to the data folder.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from zoo.contract import run_pictures, rundir
from zoo.contract.splits import HALVES, SPLITS
from zoo.files import checks, tables
from zoo.files.passed_over import Unused
from zoo.files.same_paths import compared, located, nfc
from zoo.host.errors import UserError

HALF_AT_LEAST = 200
"""Val is halved into select and calibrate only if each half keeps this many pictures."""


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
        return hashlib.sha256(self.group.encode()).hexdigest() if self.group else self.sha256


@dataclass(frozen=True)
class Data:
    """Holds all pictures of a run, with what was found on the way."""

    root: Path
    classes: tuple[str, ...]
    pictures: tuple[Picture, ...]
    findings: tuple[str, ...]
    """Sentences for people: duplicates, leaks, pictures left out."""
    left_out: tuple[tuple[str, str], ...]
    """(relative path, reason) of each file that cannot be read, and of each picture under two
    classes."""
    val_rule: str = "the data has a val folder"
    """How val came about."""
    unused: tuple[Unused, ...] = ()
    """Every entry of the data folder that is not among `pictures`, those of `left_out` too."""
    val_elsewhere: str = ""
    """Relative path of a validation folder outside the data folder; empty if there is none."""

    def of(self, split: str) -> list[Picture]:
        """List the pictures of train, val, test, or of val's parts select and calibrate, in a fixed
        order. Where val is too small to be halved, both parts are all of it."""
        if split not in HALVES:
            return [p for p in self.pictures if p.split == split]
        val = self.of("val")
        if not self.halved:
            return val
        return [p for p in val if _half_of(p) == split]

    @property
    def halved(self) -> bool:
        """Tell whether val is large enough to be halved: each half keeps at least HALF_AT_LEAST
        pictures."""
        sizes = Counter(map(_half_of, self.of("val")))
        return min(sizes["select"], sizes["calibrate"]) >= HALF_AT_LEAST

    def parts(self, pictures: Sequence[Picture]) -> list[str]:
        """Name each picture's split; where val is halved, the half of val that it belongs to."""
        parts = [picture.split for picture in pictures]
        if self.halved:
            for i, picture in enumerate(pictures):
                if picture.split == "val":
                    parts[i] = _half_of(picture)
        return parts

    def digest(self) -> str:
        """Compute the sha256 over every picture's path, class, split and bytes: two runs with the
        same digest saw the same data.

        Names count in the Unicode form NFC, and paths in a validation folder elsewhere from that
        folder on.
        """
        digest = hashlib.sha256()
        for p in self.pictures:
            path, name = compared(p.path, self.val_elsewhere), nfc(self.classes[p.label])
            line = f"{path}\t{name}\t{p.split}\t{p.sha256}\n"
            if p.group:
                line = f"{p.group}\t{line}"
            # names of files may hold bytes that are not UTF-8
            digest.update(line.encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def with_names(self, classes: Sequence[str]) -> "Data":
        """Return the same data with these names in this order, if they are its own classes in
        another Unicode form or order."""
        label_of = {nfc(name): label for label, name in enumerate(classes)}
        own = list(map(nfc, self.classes))
        if label_of.keys() != set(own):
            return self
        pictures = tuple(p._replace(label=label_of[own[p.label]]) for p in self.pictures)
        return replace(self, classes=tuple(classes), pictures=pictures)

    def counts(self) -> dict[str, dict[str, int]]:
        """Count the pictures: split -> class name -> number of pictures."""
        numbers = Counter((p.split, p.label) for p in self.pictures)
        counts = {}
        for split in SPLITS:
            of_class = [numbers[split, label] for label in range(len(self.classes))]
            if any(of_class):
                counts[split] = dict(zip(self.classes, of_class, strict=True))
        return counts


def _half_of(picture: Picture) -> str:
    """Tell the half of val that a picture would belong to, by its bytes or its group: select or
    calibrate."""
    # by a digest, so that copies and groups land in the same half, on any machine
    odd = int(picture.unit[-1], 16) % 2
    return "select" if odd else "calibrate"


def write_files_csv(path: Path, data: Data) -> None:
    """Write `files.csv`: relative path, label (class name), split, sha256, width and height of each
    picture; its group, where there are groups."""
    header = ["path", "label", "split", "sha256", "width", "height"]
    grouped = any(p.group for p in data.pictures)
    if grouped:
        header.append("group")
    rows = (
        (p.path, data.classes[p.label], p.split, p.sha256, p.width, p.height, p.group)
        for p in data.pictures
    )
    tables.write(path, header, (row[: len(header)] for row in rows))


def of_run(run: Path, root: Path) -> Data:
    """Read the data of a finished run from its files; `root` is where the pictures lie."""
    if not root.is_dir():
        raise UserError(
            f"{root} is not there: expected the folder with the pictures of {run}. If it moved, "
            "name it with --data."
        )
    # as the scan did: ../held is beside the folder, not beside a link to it
    root = root.resolve()
    with checks.of(run / rundir.DATA):
        content = rundir.read_json(run / rundir.DATA, kind=dict)
        classes, val = checks.names(content["classes"]), checks.text(content["val"])
        findings = tuple(map(checks.text, content["findings"]))
        left_out = []
        for path, reason in content["left_out"]:
            left_out.append((checks.text(path), checks.text(reason)))
    pictures = _of_files_csv(run, classes)
    if missing := [p.path for p in pictures if not located(root, p.path).is_file()]:
        raise UserError(
            f"{root} lacks {len(missing)} of the run's {len(pictures)} pictures, for example "
            f"{missing[0]}: name the folder that holds them with --data."
        )
    return Data(root, classes, pictures, findings, tuple(left_out), val)


def _of_files_csv(run: Path, classes: Sequence[str]) -> tuple[Picture, ...]:
    """Read the pictures that a finished run recorded, as `write_files_csv` wrote them."""
    index = {name: label for label, name in enumerate(classes)}
    pictures = []
    with checks.of(run / rundir.FILES):
        for row in run_pictures.files_rows(run):
            label, width, height = index[row["label"]], int(row["width"]), int(row["height"])
            recorded = row["path"], label, row["split"], row["sha256"], width, height
            pictures.append(Picture(*recorded, row.get("group", "")))
    return tuple(pictures)


def median_short_side(pictures: Sequence[Picture]) -> int:
    """Return the median of the shorter side, in pixels."""
    return int(np.median([min(p.width, p.height) for p in pictures]))
