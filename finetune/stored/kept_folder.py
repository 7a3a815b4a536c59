"""Folders in the user's cache that a source is written into once: whole or not there at all.

place(title, facts)     where the folder of a source with these facts is
kept(place, fill)       the folder, filled if it is not there yet
class_folder(...)       the folder of one class in it
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from finetune.machine import disk_space
from finetune.sources.folder_names import SPLIT_FOLDERS
from zoo.files.folders import LONGEST_PART
from zoo.files.same_paths import nfc
from zoo.host import disk, locks
from zoo.host.errors import UserError
from zoo.host.home import cache_home
from zoo.host.text import one_line

SPLITS = {**SPLIT_FOLDERS, "training": "train", "dev": "val", "testing": "test"}
"""Word in a name -> split."""
MOST_TITLE = 40
"""Characters of a source's name that its folder has before the digest."""
SUFFIXES = (
    (b"\xff\xd8\xff", ".jpg"),
    (b"\x89PNG\r\n", ".png"),
    (b"GIF8", ".gif"),
    (b"BM", ".bmp"),
    (b"II*\0", ".tif"),
    (b"MM\0*", ".tif"),
)
"""First bytes of a picture -> suffix of its file; WebP has its name further on."""


class BrokenOff(UserError):
    """A source that was not read to its end; the same command goes on."""


def public(name: str) -> str:
    """Return a path as it is, and an address without what only its owner may know: user, password,
    and what follows a question mark."""
    # a path may have a question mark in it
    scheme, mark, rest = name.partition("://")
    if not mark:
        return name
    host, slash, path = rest.partition("?")[0].partition("/")
    return scheme + mark + host.rpartition("@")[2] + slash + path


def place(title: str, facts: Any) -> Path:
    """Name the folder of a source; `facts`: what tells it from every other one, for JSON."""
    digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", title)[:MOST_TITLE].strip(".-")
    return cache_home() / "data" / f"{name or 'data'}-{digest}"


def file_facts(path: Path) -> list[Any]:
    """What tells a file, or a folder of few large files, from another and from itself after a
    change: paths, sizes in bytes, and times of the last change in ns."""
    files = [path]
    if path.is_dir():
        files = sorted(inner for inner in path.rglob("*") if inner.is_file())
    facts: list[Any] = [os.path.realpath(path)]
    for file in files:
        state = file.stat()
        facts.append([str(file.relative_to(path)), state.st_size, state.st_mtime_ns])
    return facts


def kept(folder: Path, fill: Callable[[Path], Path]) -> Path:
    """Return `folder`, filled once.

    `fill` is given a folder for what is unfinished, which may hold what a killed process left, and
    returns the one in it that takes the place. `UserError` if another process is filling it.
    """
    if folder.is_dir():
        return folder
    with _alone(folder), disk_space.room_needed(folder):
        # another process may have filled it before the lock was free
        if folder.is_dir():
            return folder
        scratch = disk.unfinished(folder)
        # what a killed process left stays: a download goes on
        scratch.mkdir(exist_ok=True)
        # last, so that a folder that is there is complete
        fill(scratch).rename(folder)
        shutil.rmtree(scratch, ignore_errors=True)
    return folder


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Make sure that only one process fills this folder."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{folder.parent} cannot be made ({error.strerror}): sources that are no class folders "
            "are unpacked there once. Set ZOOTUNE_HOME to a folder that can be written."
        ) from None
    lock = FileLock(str(folder.with_name(folder.name + ".lock")))
    locks.take(lock, in_use=f"{folder} is being written by another process: wait for it.")
    try:
        yield
    finally:
        lock.release()


def check_free(folder: Path, needed_bytes: int) -> None:
    """Raise `UserError` if the disk of this folder, which exists, has less than this free."""
    free = shutil.disk_usage(folder).free
    if needed_bytes > free:
        raise UserError(
            f"{folder} needs {needed_bytes / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free: free "
            "some, or set ZOOTUNE_HOME to a folder on a larger disk."
        )


def split_of(name: str) -> str | None:
    """Return the split that a file or split is named after, `train-00000-of-00002.parquet` or
    `validation`; None for any other name. The last such word counts."""
    found = None
    for word in re.split(r"[^A-Za-z]+", name.lower()):
        found = SPLITS.get(word, found)
    return found


def class_folder(split: Path, name: str, where: object) -> Path:
    """Make the folder of a class, called as the source calls it; `UserError` for a name that no
    folder can have, or that would be passed over."""
    # macOS spells names in another Unicode form, and both mean one class
    name = nfc(name)
    too_long = len(os.fsencode(name)) > LONGEST_PART
    if not name.strip() or name.startswith(".") or too_long or re.search(r"[/\\\0]", name):
        raise UserError(
            f"{where} has the class {one_line(name)[:100]!r}: expected a name that a folder can "
            f"have, of at most {LONGEST_PART} bytes, without slashes and without a dot at its "
            "beginning. Rename the class."
        )
    folder = split / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def suffix_of(content: bytes) -> str:
    """Return the suffix for a picture, by its first bytes; `.bin` for what is none of the usual
    formats, which is tried as a picture all the same."""
    for start, suffix in SUFFIXES:
        if content.startswith(start):
            return suffix
    return ".webp" if content[:4] == b"RIFF" and content[8:12] == b"WEBP" else ".bin"
