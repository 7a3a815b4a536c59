"""A labelled folder: one folder of pictures for each class, named like the class."""

import difflib
from collections.abc import Sequence
from pathlib import Path

from zoo.errors import UserError

HELD_OUT = ("val", "valid", "validation", "test")
"""Folders of which the first that is there is read, where the class folders stand in folders for splits."""


def read(data: Path, labels: Sequence[str]) -> dict[str, str]:
    """Path relative to `data`, with `/` -> class name, sorted.

    Raises `UserError` for a folder that is missing or has no pictures, and for a folder that is no class.
    """
    if not data.is_dir():
        raise UserError(f"--data {data}: expected a folder with one folder of pictures for each class, seen "
                        f"{'a file' if data.exists() else 'nothing'}.")
    names = _folders(data)
    split = next((name for name in HELD_OUT if name in names and name not in labels), None)
    above = data / split if split else data
    folders = _folders(above)
    if strange := [name for name in folders if name not in labels]:
        near = difflib.get_close_matches(strange[0], labels, 1)
        hint = f"near: {near[0]}" if near else f"the classes are {', '.join(labels[:10])}"
        raise UserError(f"--data {above}: expected folders named like classes of the run, seen {strange[0]!r}; {hint}.")
    found = {path.relative_to(data).as_posix(): name for name in folders for path in sorted((above / name).rglob("*"))
             if path.is_file() and not path.name.startswith(".")}
    if not found:
        raise UserError(f"--data {above}: expected pictures in class folders, seen none.")
    return found


def _folders(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
