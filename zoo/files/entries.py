"""What lies below a data folder, each entry once: a file to try as a picture, or an entry that is
passed over.

    level       what stands directly in a folder that is to hold folders (classes, or splits)
    walk        everything below one class folder

The law that the tests hold this to: of every folder that was read, each name is either a file, a
folder that was read as well, or an `Unused` entry with its reason. No name is waited for, and links
cannot loop. No file is opened but those of class folders that are called notes or labels: their
first bytes tell whether they are pictures all the same.
"""

import os
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from zoo.files.file_kinds import HEIF_BRANDS
from zoo.files.folders import NotRegular, first_bytes
from zoo.files.passed_over import Unused, by_rule
from zoo.host.errors import UserError

_SIGNATURES = {
    0: (
        b"\xff\xd8\xff",
        b"\x89PNG\r\n\x1a\n",
        b"GIF87a",
        b"GIF89a",
        b"II*\0",
        b"MM\0*",
        b"II+\0",
        b"MM\0+",
    ),
    4: tuple(b"ftyp" + brand for brand in (*HEIF_BRANDS, b"avif", b"avis")),
    8: (b"WEBP",),
}
"""Byte -> what may stand there, of JPEG, PNG, GIF, TIFF and BigTIFF, HEIF and AVIF, WebP; BMP's is
too short for a row.
"""
_SIGNED_BYTES = 16
"""Of a file that are read for its signature."""


class Level(NamedTuple):
    """What stands directly in a folder that is to hold folders."""

    folders: list[str]
    """Names, sorted; without those of the system."""
    unused: list[Unused]
    """Everything else, apart from `broken`."""
    broken: list[str]
    """Names of links that lead nowhere."""


@dataclass
class Found:
    """What one or several class folders hold."""

    files: list[str] = field(default_factory=list)
    """Relative to the data folder, with `/`; to be tried as pictures."""
    unused: list[Unused] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    """Relative paths of the folders that were read."""


def relative(path: Path, root: Path) -> str:
    """`path` relative to the data folder, with `/`; the folder itself is `.`."""
    return Path(os.path.relpath(path, root)).as_posix()


def inside(folder: str, name: str) -> str:
    """The relative path of an entry of a folder that is given by its relative path."""
    return name if folder == "." else f"{folder}/{name}"


def level(root: Path, folder: Path) -> Level:
    """Read a folder that is to hold folders; `UserError` if it cannot be listed."""
    here = relative(folder, root)
    found = Level([], [], [])
    for entry in list_entries(folder):
        path, folder_like = inside(here, entry.name), is_folder(entry)
        if skipped := by_rule(path, entry, folder=folder_like):
            found.unused.append(skipped)
        elif folder_like:
            found.folders.append(entry.name)
        elif entry.is_symlink() and not os.path.exists(entry.path):
            found.broken.append(entry.name)
        else:
            found.unused.append(Unused(path, "outside", "it stands outside the class folders"))
    return found


def walk(root: Path, folder: Path, above: Mapping[tuple[int, int], Path]) -> Found:
    """Everything below one class folder. Links to folders are followed, each folder is read once.

    `above`: the folders that hold this one, by `identity`; a link to one of them is not followed.
    Raises `UserError` for a folder that cannot be listed: nobody can say how many pictures are lost
    with it.
    """
    found, read = Found(), dict[tuple[int, int], str]()
    folders, links = deque([(relative(folder, root), folder)]), deque[tuple[str, Path]]()
    # links wait until no folder is left, so that a folder keeps the path that has no link
    while waiting := folders or links:
        here, path = waiting.popleft()
        # device and inode: the same folder may be reached by any number of paths
        own = identity(path)
        if own in above:
            upwards = relative(above[own], root.resolve())
            found.unused.append(Unused(here, "repeated", f"a link that leads back up to {upwards}"))
            continue
        if own in read:
            found.unused.append(Unused(here, "repeated", f"the same folder as {read[own]}"))
            continue
        read[own] = here
        found.folders.append(here)
        for entry in list_entries(path):
            name, folder_like = inside(here, entry.name), is_folder(entry)
            skipped = by_rule(name, entry, folder=folder_like)
            if skipped and not (skipped.kind == "harmless" and begins_as_picture(entry.path)):
                found.unused.append(skipped)
            elif folder_like:
                (links if entry.is_symlink() else folders).append((name, Path(entry.path)))
            else:
                found.files.append(name)
    return found


def begins_as_picture(path: str | Path) -> bool:
    """Whether a regular file has the signature of a picture, by its first 16 bytes; False if it
    cannot be read."""
    try:
        start = first_bytes(path, _SIGNED_BYTES)
    except (OSError, NotRegular):
        return False
    # BMP: two letters, then the place of the pixels at byte 10, which is small; text has no zero
    # bytes there
    is_bmp = start.startswith(b"BM") and start[12:14] == b"\0\0"
    return is_bmp or any(start.startswith(signatures, at) for at, signatures in _SIGNATURES.items())


def list_entries(folder: Path) -> list["os.DirEntry[str]"]:
    """The entries of a folder, sorted by name; `UserError` if it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise _unlistable(folder, error) from None


def identity(folder: Path) -> tuple[int, int]:
    """What two paths of the same folder have in common: device and inode."""
    try:
        found = os.stat(folder)
    except OSError as error:
        raise _unlistable(folder, error) from None
    return found.st_dev, found.st_ino


def all_above(*folders: Path) -> dict[tuple[int, int], Path]:
    """These folders and those that hold them, by `identity`."""
    found = {}
    for folder in folders:
        for path in (folder.resolve(), *folder.resolve().parents):
            # a folder above the data may be closed; then no link leads there either
            with suppress(UserError):
                found[identity(path)] = path
    return found


def is_folder(entry: "os.DirEntry[str]") -> bool:
    """Whether this is a folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a link that leads round in a circle, or into a folder that may not be entered
        return False


def _unlistable(folder: Path, error: OSError) -> UserError:
    return UserError(
        f"{folder} cannot be listed ({error.strerror}), so the pictures in it would be lost: "
        "permit it to be read, or put a dot before its name to skip it."
    )
