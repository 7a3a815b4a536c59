"""Whether a run's pictures are still those that it was trained on, wherever they lie now.

What decides is what the run recorded: data.json has the digest of all paths, classes, splits and bytes, files.csv each
picture's own. Reading every picture again would take as long as the first time, so `local.json` also keeps what the
file system says of each file (`file_states`): while that is the same, no byte has changed.
"""

import hashlib
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from finetune.tree import Tree
from zoo import console, fields, rundir, tables
from zoo.errors import BadImage, UserError
from zoo.folders import shown
from zoo.preprocess import decode

STATES = "states"
"""Key of local.json with `file_states`."""
SHOWN = 3
"""Pictures of each kind that a message names."""


@dataclass(frozen=True)
class Changes:
    """Relative paths of pictures, compared with those of a run."""

    new: Sequence[str]
    missing: Sequence[str]
    other: Sequence[str]
    """The same path, other bytes."""

    def __bool__(self) -> bool:
        return bool(self.new or self.missing or self.other)

    def __str__(self) -> str:
        kinds = ((self.new, "new"), (self.missing, "missing"), (self.other, "changed"))
        return "; ".join(f"{len(paths):,} {kind} ({', '.join(map(shown, paths[:SHOWN]))}"
                         f"{', ...' if len(paths) > SHOWN else ''})" for paths, kind in kinds if paths)


def file_states(tree: Tree) -> str:
    """sha256 over path, size, times and place on the disk of every file, as the file system tells them.

    Writing to a file, replacing it or renaming it changes one of them (the time of an inode's last change cannot be set
    by hand). A copy on another disk has other ones, and is then compared by its bytes.
    """
    found = hashlib.sha256()
    for split, files in tree.files.items():
        for path, label in files:
            try:
                of = os.stat(tree.root / path)
                state = f"{of.st_dev} {of.st_ino} {of.st_size} {of.st_mtime_ns} {of.st_ctime_ns}"
            except OSError as error:  # it is named and left out when it is read
                state = str(error.errno)
            found.update(f"{split}\t{path}\t{tree.classes[label]}\t{state}\n".encode("utf-8", "surrogateescape"))
    return found.hexdigest()


def changes(run: Path, tree: Tree) -> Changes:
    """What differs between the pictures of a finished run and those that are there now.

    The names are compared first, and bytes are read only where these are the same.
    """
    if rundir.read_json(run / rundir.LOCAL, kind=dict).get(STATES) == file_states(tree):
        return Changes((), (), ())
    with fields.of(run / rundir.DATA):
        classes = set(fields.names(rundir.read_json(run / rundir.DATA, kind=dict)["classes"]))
    recorded = {row["path"]: row["sha256"] for row in rundir.files_rows(run)}
    left_out, digests = _left_out(run), set(recorded.values())
    new, kept, there = [], [], set()
    for path, label in (file for files in tree.files.values() for file in files):
        there.add(path)
        if path in recorded:
            kept.append(path)
        elif tree.classes[label] not in classes or (
                path not in left_out and _is_new(tree.root / path, digests)):
            new.append(path)
    missing = [path for path in recorded if path not in there]
    if new or missing:
        return Changes(new, missing, ())
    other = [path for path in console.track(kept, "comparing pictures") if _digest(tree.root / path) != recorded[path]]
    return Changes((), (), other)


def _is_new(path: Path, digests: Collection[str]) -> bool:
    """Whether a run would use this file: bytes that it has already stand in another split, or are a duplicate."""
    if (digest := _digest(path)) is None or digest in digests:
        return False
    try:
        decode(path)
    except BadImage:
        return False
    return True


def _left_out(run: Path) -> set[str]:
    """What the run left out, with the reason in its files."""
    with fields.of(run / rundir.DATA):
        paths = {fields.text(path) for path, _ in rundir.read_json(run / rundir.DATA, kind=dict)["left_out"]}
    if (run / rundir.LEFT_OUT).is_file():
        paths |= {row["path"] for row in tables.rows(run / rundir.LEFT_OUT, ("path",))}
    return paths


def _digest(path: Path) -> str | None:
    """sha256 of a file; None if it cannot be read."""
    try:
        return rundir.digest(path)
    except (OSError, UserError):
        return None

