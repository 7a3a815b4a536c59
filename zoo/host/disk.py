"""Files that appear whole or not at all, whoever is killed meanwhile; and what the system does not
allow, in words.

    write_whole(path, write)    a reader sees the old file or the new one
    right_needed(folder)        what may not be written below it is a `NotWritable`
    no_room(error)              what ended a write for want of room, and what helps
    in_words(error)             the same as a sentence, and what else a command may meet anywhere
"""

import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.host.errors import UserError

NO_RIGHT = (errno.EACCES, errno.EPERM, errno.EROFS)
"""`errno` of a write that was not allowed, or that met a file system mounted to be read only."""
UNFINISHED = ".tmp"
"""End of the name of a file or folder that is being written."""
SET_ASIDE = f".old{UNFINISHED}"
"""End of the name of a folder whose successor is about to take its place."""


class NotWritable(UserError):
    """A folder in which this user may not write."""


@dataclass(frozen=True)
class NoRoom:
    """Why a write found no room; both are clauses for a sentence."""

    cause: str
    advice: str


FULL = NoRoom("no space left", "free some")
TOO_LARGE = NoRoom(
    "a file became larger than this process or file system allows (ulimit -f tells the limit of "
    "the process)",
    "raise the limit",
)
NO_ROOM = {
    errno.ENOSPC: ("No space left", FULL),
    errno.EDQUOT: ("Disk quota", FULL),
    errno.EFBIG: ("File too large", TOO_LARGE),
}
"""`errno` of a write -> how the system words it, and what it means: disk or quota are full, or a
limit was met."""

NO_TEMPORARY = "No usable temporary directory"
"""What Python's tempfile says where it can write to none of the usual places, TMPDIR first; torch
asks for one when it is imported."""


def no_room(error: BaseException) -> NoRoom | None:
    """What ended a write for want of room, however a library wraps the system's error; None for any
    other error.

    torch.save raises another error while it handles the system's one; safetensors has only the
    system's words.
    """
    chain: BaseException | None = error
    while chain is not None:
        if isinstance(chain, OSError):
            return NO_ROOM[chain.errno][1] if chain.errno in NO_ROOM else None
        for words, found in NO_ROOM.values():
            if words in str(chain):
                return found
        chain = chain.__cause__ or (None if chain.__suppress_context__ else chain.__context__)
    return None


def in_words(error: OSError) -> str | None:
    """A sentence about an error that can come up wherever a command works with files; None for any
    other error."""
    name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
    if lack := no_room(error):
        place = f"{name}: " if name else ""
        return f"{place}{lack.cause}: {lack.advice}, then run the same command again."
    if error.errno == errno.ENAMETOOLONG:
        return (
            f"{name[:40]}...: this system takes no name and no path as long as this one "
            f"({len(os.fsencode(name)):,} bytes). Choose shorter names, or a place nearer to the "
            "root of the disk."
        )
    if error.errno == errno.ENOENT and NO_TEMPORARY in str(error.strerror):
        return (
            f"a folder for temporary files was expected, and none can be written "
            f"({error.strerror}). Name one with TMPDIR=FOLDER; or raise the limit on the size of "
            "files, if ulimit -f shows one."
        )
    return None


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Let `write` write a temporary file in the same folder, flush it to disk, rename it to `path`,
    flush the folder.

    A reader sees the old file or the new one, never half of it; where `write` fails, the old one
    stays alone.
    """
    temporary = new_file_beside(path)
    try:
        usual = _mode(temporary)
        write(temporary)
        # safetensors puts a file of its own there, which is for nobody else
        _set_mode(temporary, usual)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def unfinished(path: Path) -> Path:
    """Where a file or folder is made before it takes its place."""
    return path.with_name(path.name + UNFINISHED)


def set_aside(place: Path) -> Path:
    """Where the folder of a place waits while its successor takes the place."""
    return place.with_name(place.name + SET_ASIDE)


def place_of(folder: Path) -> Path:
    """The place of a folder, which may have been set aside."""
    return folder.with_name(folder.name.removesuffix(SET_ASIDE))


def standing(place: Path, last: str) -> Path:
    """The folder of a place: there, or set aside, where a power cut came between two renames.
    `last`: the file that was written last in it."""
    aside = set_aside(place)
    if not place.exists() and (aside / last).is_file():
        return aside
    return place


def new_file_beside(path: Path) -> Path:
    """An empty file in the same folder that was not there before: nobody can have put a link in its
    place.

    Raises `NotWritable`.
    """
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}{UNFINISHED}")
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0)
    with right_needed(path.parent):
        os.close(os.open(temporary, flags, 0o666))  # less what the umask says, as for any new file
    return temporary


@contextmanager
def right_needed(folder: Path) -> Iterator[None]:
    """`NotWritable`, naming the folder, for a write below it that the system does not allow."""
    try:
        yield
    except OSError as error:
        if error.errno not in NO_RIGHT:
            raise
        raise NotWritable(
            f"{folder} cannot be written ({error.strerror}): expected a folder that you may "
            "change. Change its permissions, or work on a copy of it."
        ) from None


def check_writable(folder: Path) -> None:
    """`NotWritable` unless files can be made in this folder; said before work that would be
    lost."""
    new_file_beside(folder / "writable").unlink()


def share_as_usual(*paths: Path) -> None:
    """Give files that a library wrote the permissions of any new file beside the first: what the
    umask allows."""
    if not paths:
        return
    example = new_file_beside(paths[0])
    try:
        usual = _mode(example)
    finally:
        example.unlink()
    for path in paths:
        _set_mode(path, usual)


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _set_mode(path: Path, mode: int) -> None:
    # some file systems have one mode for all files, and refuse to change it
    if _mode(path) != mode:
        path.chmod(mode)


def sync_folder(folder: Path) -> None:
    """Flush a folder's list of names to disk: without it a power cut can undo a rename. Not on
    Windows, which has no such call."""
    if os.name != "nt":
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
