"""A labelled folder: one folder of pictures for each class, named like the class, and read as
training reads it."""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path

from zoo.files.entries import all_above, level, walk
from zoo.files.same_paths import nfc
from zoo.host.errors import UserError

HELD_OUT = ("val", "valid", "validation", "test")
"""Folders of which the first that holds folders is read, where the class folders stand in folders
for splits."""


def read_labels(data: Path, labels: Sequence[str]) -> dict[str, str]:
    """Return path relative to `data`, with `/` -> class name, sorted; names are compared in NFC.

    What zoo/files/passed_over.py skips by a rule (system folders, notes) is skipped. Raises
    `UserError` for a folder that is missing or has no pictures, and for a folder that is no class.
    """
    if not data.is_dir():
        seen = "a file" if data.exists() else "nothing"
        raise UserError(
            f"--data {data}: expected a folder with one folder of pictures for each class, seen "
            f"{seen}."
        )
    class_of = dict(zip(map(nfc, labels), labels, strict=True))
    above = _above(data, class_of)
    # a link that leads back up would have every picture below it counted as of this class
    outside = all_above(data, above)
    found = {}
    for name in _class_folders(data, above, class_of):
        for path in sorted(walk(data, above / name, outside).files):
            found[path] = class_of[nfc(name)]
    if not found:
        raise UserError(f"--data {above}: expected pictures in class folders, seen none.")
    return found


def _above(data: Path, class_of: Mapping[str, str]) -> Path:
    """The folder in which the class folders stand."""
    tops = level(data, data).folders
    for name in HELD_OUT:
        # a class may be called val or test
        if name in tops and name not in class_of and level(data, data / name).folders:
            return data / name
    return data


def _class_folders(data: Path, above: Path, class_of: Mapping[str, str]) -> list[str]:
    """The folders in `above`; `UserError` for one that is no class."""
    names = list(level(data, above).folders)
    if above == data:
        # none of these holds folders, or it would be read
        empty = set(HELD_OUT) - set(class_of)
        names = [name for name in names if name not in empty]
    for name in names:
        if nfc(name) in class_of:
            continue
        labels = list(class_of.values())
        hint = f"the classes are {', '.join(labels[:10])}"
        if near := difflib.get_close_matches(name, labels, 1):
            hint = f"near: {near[0]}"
        raise UserError(
            f"--data {above}: expected folders named like classes of the run, seen {name!r}; "
            f"{hint}."
        )
    return names
