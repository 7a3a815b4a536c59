"""Whether a run's pictures are still those that it was trained on, wherever they lie now.

What decides is what the run recorded: data.json has the digest of all paths, classes, splits and
bytes, files.csv each picture's own. Reading every picture again takes as long as the first time, so
`local.json` also keeps what the file system says of each file (`file_states`): while that is the
same, no byte has changed, and nothing is read. Otherwise the pictures that a new run would use are
found as that run would find them, and compared with the recorded ones.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from finetune.data import dataset, scanning
from finetune.machine import distributed
from finetune.sources.listed_pictures import Listing
from zoo.contract import run_pictures, rundir
from zoo.files import checks
from zoo.files.folders import shown
from zoo.files.same_paths import compared, nfc, val_elsewhere
from zoo.host.errors import UserError

STATES = "states"
"""Key of local.json with `file_states`."""
SHOWN = 3
"""Pictures of each kind that a message names."""


@dataclass(frozen=True)
class Changes:
    """Relative paths of pictures, compared with those of a run."""

    new: Sequence[str] = ()
    missing: Sequence[str] = ()
    other: Sequence[str] = ()
    """The same path, different bytes or a different class."""
    unused: Sequence[str] = ()
    """The same bytes, which a run would not use now: they also stand under another class or in a
    later split."""
    refused: str = ""
    """Why a run on the pictures would stop now; then the others are empty."""

    def __bool__(self) -> bool:
        return bool(self.refused or self.new or self.missing or self.other or self.unused)

    def __str__(self) -> str:
        kinds = (
            (self.new, "new"),
            (self.missing, "missing"),
            (self.other, "changed"),
            (self.unused, "not usable now"),
        )
        return self.refused or "; ".join(_counted(*kind) for kind in kinds if kind[0])


def _counted(paths: Sequence[str], kind: str) -> str:
    """How many pictures are of a kind, with the first of them."""
    named = [*map(shown, paths[:SHOWN])]
    if len(paths) > SHOWN:
        named.append("...")
    return f"{len(paths):,} {kind} ({', '.join(named)})"


def file_states(tree: Listing) -> str:
    """sha256 over path, size, times and place on the disk of every file, as the file system tells
    them.

    Writing to a file, replacing it or renaming it changes one of them. A copy on another disk has
    other ones, and is then compared by its bytes.
    """
    found = hashlib.sha256()
    for split, files in tree.files.items():
        for path, label in files:
            try:
                file = os.stat(tree.root / path)
                # the time of the inode's last change cannot be set by hand, as the content's can
                state = (
                    f"{file.st_dev} {file.st_ino} {file.st_size} {file.st_mtime_ns} "
                    f"{file.st_ctime_ns}"
                )
            except OSError as error:
                # no reason to stop here: it is named and left out when it is read
                state = str(error.errno)
            found.update(
                f"{split}\t{path}\t{tree.classes[label]}\t{state}\n".encode(
                    "utf-8", "surrogateescape"
                )
            )
    return found.hexdigest()


def recorded_classes(run: Path) -> tuple[str, ...]:
    """The classes of a run, from its data.json, as they were spelt then."""
    with checks.of(run / rundir.DATA, "Start a new run."):
        return tuple(checks.names(rundir.read_json(run / rundir.DATA, kind=dict)["classes"]))


def changes(run: Path, tree: Listing, *, val: str = "", processes: int = 1) -> Changes:
    """What differs between the pictures of a finished run and those that a run on `tree` would use.

    Names are compared first. Pictures are read, by all processes of one run, only where the file
    system says that a file may have changed. `val`: relative path of the run's validation folder
    elsewhere (`Order.val_path`).
    """
    same = distributed.of_first(distributed.first() and _same_states(run, tree))
    if same:
        return Changes()
    pictures = [
        RecordedPicture(compared(row["path"], val), row["path"], nfc(row["label"]), row["sha256"])
        for row in run_pictures.files_rows(run)
    ]
    recorded = {picture.key: picture for picture in pictures}
    # rank 0's list for all: they read the pictures together, or none of them does
    new, missing = distributed.of_first(_listed(run, tree, recorded))
    if new or missing:
        return Changes(new, missing)
    try:
        # files that cannot be read do not stop this scan: they are changes, and named as such
        data = scanning.scan(tree, processes=processes, bad_limit=1.0)
    except UserError as error:
        return Changes(refused=f"a run would stop now, because {error}")
    # counted, because two names that differ only in Unicode form have one key
    before = Counter((picture.key, picture.label, picture.sha256) for picture in pictures)
    now = Counter(
        (compared(p.path, data.val_elsewhere), nfc(data.classes[p.label]), p.sha256)
        for p in data.pictures
    )
    if before == now:
        return Changes()
    return _read(data, recorded) or Changes(
        refused="of two names that differ only in Unicode form, one changed"
    )


@dataclass(frozen=True)
class RecordedPicture:
    """A picture as files.csv has it."""

    key: str
    """As `compared` gives it."""
    path: str
    label: str
    """Class name, in NFC."""
    sha256: str


def _same_states(run: Path, tree: Listing) -> bool:
    return bool(rundir.read_json(run / rundir.LOCAL, kind=dict).get(STATES) == file_states(tree))


def _listed(
    run: Path, tree: Listing, recorded: Mapping[str, RecordedPicture]
) -> tuple[list[str], list[str]]:
    """What shows without reading: the files of classes that the run did not have, and its pictures
    that are gone."""
    known = set(map(nfc, recorded_classes(run)))
    files = [*chain.from_iterable(tree.files.values())]
    val = val_elsewhere(tree.folders)
    there = {compared(path, val) for path, _ in files}
    return (
        [path for path, label in files if nfc(tree.classes[label]) not in known],
        [picture.path for key, picture in recorded.items() if key not in there],
    )


def _read(data: dataset.Data, recorded: Mapping[str, RecordedPicture]) -> Changes:
    """What shows from the pictures themselves.

    Splits need no comparison: what stands in train, val and test has other paths, and what is cut
    from train follows from the bytes.
    """
    new: list[str] = []
    other: list[str] = []
    unused: list[str] = []
    used: set[str] = set()
    for picture in data.pictures:
        key = compared(picture.path, data.val_elsewhere)
        used.add(key)
        before = recorded.get(key)
        if before is None:
            new.append(picture.path)
        elif (before.label, before.sha256) != (nfc(data.classes[picture.label]), picture.sha256):
            other.append(picture.path)
    for entry in data.unused:
        key = compared(entry.path, data.val_elsewhere)
        if key in recorded and key not in used:
            kept = _digest(data.root / entry.path) == recorded[key].sha256
            (unused if kept else other).append(entry.path)
    return Changes(new, (), other, unused)


def _digest(path: Path) -> str | None:
    """sha256 of a file; None if it cannot be read."""
    try:
        return rundir.digest(path)
    except (OSError, UserError):
        return None
