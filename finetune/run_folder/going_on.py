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
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from finetune.data import dataset, scanning
from finetune.data.picture_columns import Picture
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
    """The same path, different bytes, or another class, split or group."""
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
    them, and over the class, split and group that the source gives it.

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
            line = f"{split}\t{path}\t{tree.classes[label]}\t{state}\n"
            if group := tree.groups.get(path):
                line = f"{group}\t{line}"
            found.update(line.encode("utf-8", "surrogateescape"))
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
    pictures = [_recorded(row, val) for row in run_pictures.files_rows(run)]
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
    if not data.of("val"):
        # what is cut from train follows from the bytes
        pictures = [picture.before_the_cut() for picture in pictures]
        recorded = {picture.key: picture for picture in pictures}
    # counted, because two names that differ only in Unicode form have one key
    before = Counter((picture.key, picture.role) for picture in pictures)
    now = Counter((compared(p.path, data.val_elsewhere), _role(data, p)) for p in data.pictures)
    if before == now:
        return Changes()
    return _read(data, recorded) or Changes(
        refused="of two names that differ only in Unicode form, one changed"
    )


class Role(NamedTuple):
    """What a picture is in a run, whatever it is called."""

    label: str
    """Class name, in NFC."""
    sha256: str
    split: str
    group: str


@dataclass(frozen=True)
class RecordedPicture:
    """A picture as files.csv has it."""

    key: str
    """As `compared` gives it."""
    path: str
    role: Role

    def before_the_cut(self) -> "RecordedPicture":
        """Return the picture as it was before val was cut from train."""
        split = "train" if self.role.split == "val" else self.role.split
        return replace(self, role=self.role._replace(split=split))


def _recorded(row: Mapping[str, str], val: str) -> RecordedPicture:
    """Read a row of files.csv; `val`: relative path of the run's validation folder elsewhere."""
    role = Role(nfc(row["label"]), row["sha256"], row["split"], row.get("group", ""))
    return RecordedPicture(compared(row["path"], val), row["path"], role)


def _role(data: dataset.Data, picture: Picture) -> Role:
    """Tell what a picture is now."""
    label = nfc(data.classes[picture.label])
    return Role(label, picture.sha256, picture.split, picture.group)


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
    """What shows from the pictures themselves, and from the splits and groups of a table."""
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
        elif before.role != _role(data, picture):
            other.append(picture.path)
    for entry in data.unused:
        key = compared(entry.path, data.val_elsewhere)
        if key in recorded and key not in used:
            kept = _digest(data.root / entry.path) == recorded[key].role.sha256
            (unused if kept else other).append(entry.path)
    return Changes(new, (), other, unused)


def _digest(path: Path) -> str | None:
    """sha256 of a file; None if it cannot be read."""
    try:
        return rundir.digest(path)
    except (OSError, UserError):
        return None
