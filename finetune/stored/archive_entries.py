"""What the entries of an archive may be, and where each is unpacked; nothing is read or written
here."""

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, NoReturn

from finetune.sources.plain_tar import shown_member as shown
from zoo.files.passed_over import HARMLESS_NAMES, HARMLESS_SUFFIXES, SYSTEM_FILES, SYSTEM_FOLDERS
from zoo.files.same_paths import nfc
from zoo.host.errors import UserError

MOST_ENTRIES = 100_000
MOST_RATIO = 100
"""Bytes unpacked for each byte of the archive; pictures, which are compressed already, have about
1, and bombs 1,000 and more."""
MOST_PATH, MOST_PART = 1024, 255
"""Bytes of a path, and of each name in it: what file systems take."""
TABLES = frozenset({".csv", ".tsv", ".jsonl", ".parquet"})
"""Suffixes of tables of labels, which are part of the data."""


class Entry(NamedTuple):
    """One file or folder of an archive."""

    name: str
    """As the archive has it."""
    size: int
    """Bytes, unpacked."""
    folder: bool


def checked(entries: Iterable[Entry], path: Path) -> dict[str, int]:
    """Look at every entry: path below the folder -> bytes of each file; `UserError` for anything
    that should not be unpacked."""
    most_bytes = MOST_RATIO * path.stat().st_size
    sizes: dict[str, int] = {}
    folded: dict[str, tuple[str, bool]] = {}
    total = 0
    for number, entry in enumerate(entries):
        # as it is announced; the libraries give no more than that of an entry
        total += entry.size
        if number >= MOST_ENTRIES or total > most_bytes:
            refuse_amount(path)
        if fault := _fault_of_name(entry.name):
            raise UserError(
                f"{path} holds {shown(entry.name)}, {fault}. Nothing was unpacked; pack the "
                "pictures again."
            )
        place = place_of(entry.name)
        # tar names the folder itself as "./"
        if place:
            _check_apart(folded, place, entry.folder, path)
        if not entry.folder:
            sizes[place] = entry.size
    if not sizes:
        raise UserError(f"{path} holds no file: expected pictures in folders of their classes.")
    return sizes


def refuse_amount(path: Path) -> NoReturn:
    """Raise `UserError` for an archive that is a bomb, or is like one."""
    raise UserError(
        f"{path} has more than {MOST_ENTRIES:,} entries, or more than {MOST_RATIO} bytes in them "
        "for each of its own: expected an archive of pictures. Nothing was unpacked; if you trust "
        "it, unpack it by hand and use the folder."
    )


def _fault_of_name(name: str) -> str:
    """Say what is wrong with a name in an archive, in one clause; empty if nothing is."""
    try:
        octets = name.encode()
    except UnicodeEncodeError:
        return "whose name is not UTF-8"
    parts = name.split("/")
    if name.startswith(("/", "\\")) or any(re.match(r"[A-Za-z]:", part) for part in parts):
        return "which is an absolute path or names a drive"
    if ".." in parts:
        return "which leads out of the folder"
    if "\\" in name or "\0" in name:
        return "which has a backslash or a zero byte in its name"
    if len(octets) > MOST_PATH or any(len(part.encode()) > MOST_PART for part in parts):
        return "whose name is longer than file systems take"
    return ""


def place_of(name: str) -> str:
    """Return the path of an entry in its plainest form: `./a//b/` is `a/b`."""
    return "/".join(part for part in name.split("/") if part not in ("", "."))


def _check_apart(folded: dict[str, tuple[str, bool]], place: str, folder: bool, path: Path) -> None:
    """Raise `UserError` if a file system that ignores case and Unicode form would take this entry
    for another one. `folded`: what was there before, by such names."""
    parts = place.split("/")
    for depth in range(1, len(parts) + 1):
        part = "/".join(parts[:depth])
        whole = depth == len(parts)
        value = (part, folder or not whole)
        key = nfc(part).casefold()
        first = folded.setdefault(key, value)
        # a folder may be named by each file in it, a file only once
        if first is not value and (first != value or not first[1]):
            raise UserError(
                f"{path} holds {shown(first[0])} and {shown(part)}, which are the same on some "
                "file systems. Nothing was unpacked; rename one, and pack the pictures again."
            )


def single_folder(files: Iterable[str]) -> str:
    """Return the path, with a slash at its end, of the folder that holds all the data; empty if
    there are several. Notes and files of systems may stand beside it."""
    top = ""
    paths = list(files)
    while True:
        names = set()
        for path in paths:
            name, inner, _ = path[len(top) :].partition("/")
            if not _is_beside(name, folder=bool(inner)):
                names.add(name + inner)
        if len(names) != 1 or not next(iter(names)).endswith("/"):
            return top
        top += names.pop()
        paths = [path for path in paths if path.startswith(top)]


def _is_beside(name: str, *, folder: bool) -> bool:
    lower = name.lower()
    if name.startswith(".") or (folder and lower in SYSTEM_FOLDERS):
        return True
    suffix = os.path.splitext(lower)[1]
    notes = lower in SYSTEM_FILES | HARMLESS_NAMES or suffix in HARMLESS_SUFFIXES - TABLES
    return notes and not folder
