"""A labelled folder: one folder of pictures for each class, named like the class, and read as
training reads it."""

import difflib
from collections.abc import Sequence
from pathlib import Path

from zoo.files.entries import all_above, level, walk
from zoo.files.same_paths import nfc
from zoo.host.errors import UserError

HELD_OUT = ("val", "valid", "validation", "test")
"""Folders of which the first that holds folders is read, where the class folders stand in folders
for splits."""


def read(data: Path, labels: Sequence[str]) -> dict[str, str]:
    """Path relative to `data`, with `/` -> class name, sorted; names are compared in NFC.

    What zoo/files/passed_over.py skips by a rule (system folders, notes) is skipped. Raises
    `UserError` for a folder that is missing or has no pictures, and for a folder that is no class.
    """
    if not data.is_dir():
        raise UserError(
            f"--data {data}: expected a folder with one folder of pictures for each class, seen "
            f"{'a file' if data.exists() else 'nothing'}."
        )
    of_name = {nfc(label): label for label in labels}
    tops = level(data, data).folders
    above = next(
        (
            data / name
            for name in HELD_OUT
            if name in tops and name not in of_name and level(data, data / name).folders
        ),
        data,
    )
    # none of them holds folders, or it would be read
    empty = {name for name in HELD_OUT if name not in of_name}
    names = [name for name in level(data, above).folders if above != data or name not in empty]
    if strange := [name for name in names if nfc(name) not in of_name]:
        near = difflib.get_close_matches(strange[0], labels, 1)
        hint = f"near: {near[0]}" if near else f"the classes are {', '.join(labels[:10])}"
        raise UserError(
            f"--data {above}: expected folders named like classes of the run, seen {strange[0]!r}; "
            f"{hint}."
        )
    outside = all_above(data, above)
    found = {
        path: of_name[nfc(name)]
        for name in names
        for path in sorted(walk(data, above / name, outside).files)
    }
    if not found:
        raise UserError(f"--data {above}: expected pictures in class folders, seen none.")
    return found
