"""Copies of the pictures, or links to them, in a folder for each answer.

A picture keeps its relative path below the folder of its class, so no two have the same name. What
stands there already is never overwritten: the same picture counts as done, anything else is an
error. So the same command goes on after it was killed.
"""

import filecmp
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from finetune.prediction.answering import HEADER, UNKNOWN, UNREADABLE
from zoo.files import tables
from zoo.files.same_paths import located, nfc
from zoo.host import console
from zoo.host.errors import UserError

FOREIGN = "unknown"
"""Folder of the pictures that are none of the classes."""
FILLING = ".unfinished-copy"
"""Name of a file that is being copied."""
_UNSAFE = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*]')
"""Matches what a name of a folder must not hold, on any system."""
LONGEST = 100
"""Characters of a class in the name of its folder."""


@dataclass(frozen=True)
class Sorting:
    """Says where the pictures are and where they go."""

    root: Path
    target: Path
    link: bool
    """Make links instead of copies."""


def class_folders(classes: Sequence[str]) -> dict[str, str]:
    """Name a folder for each class, and for "" that of unknown pictures; no two look the same."""
    taken: set[str] = set()
    folders = {}
    # the classes first, so that one of them that is called unknown keeps its name
    for name in (*classes, ""):
        plain = _UNSAFE.sub("_", name or FOREIGN)[:LONGEST].rstrip(". ").lstrip(".") or "_"
        free, number = plain, 1
        while nfc(free).casefold() in taken:
            number += 1
            free = f"{plain}-{number}"
        taken.add(nfc(free).casefold())
        folders[name] = free
    return folders


def sort_pictures(sorting: Sorting, table: Path, classes: Sequence[str], *, total: int) -> int:
    """Sort every picture that was answered, as the table has it; gives their number.

    Raises `UserError` for anything else in the place of a picture or folder.
    """
    folder_of = class_folders(classes)
    sorting.target.mkdir(parents=True, exist_ok=True)
    above = _levels_up(row["path"] for row in tables.rows(table, HEADER))
    checked: set[Path] = set()
    count = 0
    with console.bar("sorting", total) as advance:
        for row in tables.rows(table, HEADER):
            if not row[UNREADABLE]:
                name = "" if row[UNKNOWN] == "1" else row["predicted"]
                inside = os.path.join(folder_of[name], _below(row["path"], sorting.root, above))
                _place(sorting, located(sorting.root, row["path"]), inside, checked)
                count += 1
            advance(1)
    return count


def _levels_up(paths: Iterator[str]) -> int:
    """Count the folders that the farthest path goes up from the root: those of a table may."""
    most = 0
    for path in paths:
        parts = path.split("/")
        ups = 0
        while ups < len(parts) and parts[ups] == "..":
            ups += 1
        most = max(most, ups)
    return most


def _below(path: str, root: Path, levels_up: int) -> str:
    """Give the path relative to the folder that all pictures are below; it has no `..`."""
    if not levels_up:
        return path
    outer = root
    for _ in range(levels_up):
        outer = outer.parent
    return os.path.relpath(os.path.normpath(root / path), outer)


def _place(sorting: Sorting, source: Path, inside: str, checked: set[Path]) -> None:
    """Put one picture at its place in the target, unless it is there."""
    place = sorting.target / inside
    if place.parent not in checked:
        _make_folder(sorting.target, place.parent)
        checked.add(place.parent)
    if os.path.lexists(place):
        if _is_same(source, place, link=sorting.link):
            return
        raise UserError(
            f"--to-folders: {place} is there already and is not {source}. Nothing is overwritten: "
            "choose an empty folder, or remove it."
        )
    if sorting.link:
        os.symlink(os.path.abspath(source), place)
        return
    filling = sorting.target / FILLING
    # what a killed process left, or a link that somebody put there, is not written into
    filling.unlink(missing_ok=True)
    shutil.copy2(source, filling)
    os.rename(filling, place)


def _is_same(source: Path, place: Path, *, link: bool) -> bool:
    if link:
        return place.is_symlink() and os.readlink(place) == os.path.abspath(source)
    return place.is_file() and not place.is_symlink() and filecmp.cmp(source, place, shallow=False)


def _make_folder(target: Path, folder: Path) -> None:
    """Make a folder below the target; `UserError` where a link would lead out of it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise UserError(
            f"--to-folders: expected a folder at {folder}, seen a file. Choose an empty folder."
        ) from None
    if folder.resolve() != target.resolve() / folder.relative_to(target):
        raise UserError(
            f"--to-folders: {folder} leads out of {target} by a link. Choose an empty folder."
        )
