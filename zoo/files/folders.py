"""A folder may come from a stranger: what may lie in one, what a file's name may be, and how a file
is read.

    look_through(folder)        every file and folder below it; `UserError` for a link or anything
                                else
    is_plain(name)              whether a name stays below the folder that it is relative to
    read_bytes(path, most)      a regular file's content, its size checked before it is read
    read_regular(path, most)    the same of what may be a picture: `BadImage` otherwise
    picture_bytes(path, digest) a picture, only if it is the one that was recorded

A run or a bundle that was pulled, copied or mailed is data: no name and no link in it leads outside
it.
"""

import hashlib
import os
import re
import stat
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

from zoo.host.errors import BadImage, UserError

MOST_ENTRIES = 20_000
"""Files and folders in a run at most; a finished one has about 40."""
DEEPEST = 16
"""Folders inside each other at most; `bundles/triton/models/NAME/1` are five."""
LONGEST_PART = 255
"""Bytes of one part of a name, which is what file systems allow."""
LONGEST_PATH = 4096
"""Bytes of a whole path, which is what Linux allows."""
MOST_PICTURE_BYTES = 2**30
"""A picture file that a run names is not read beyond this size."""
SHA256 = re.compile(r"[0-9a-f]{64}")
# C0 and C1 controls, line separators, and what reverses the direction of text
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_DRIVE = re.compile(r"[A-Za-z]:")


@dataclass(frozen=True)
class Tree:
    """What lies below a folder: plain files and folders, by their names relative to it, with
    `/`."""

    files: frozenset[str]
    folders: frozenset[str]

    def check_kinds(self, folder: Path, *, files: frozenset[str], folders: frozenset[str]) -> None:
        """`UserError` if one of these names belongs to the other kind."""
        if wrong := sorted(self.folders & files):
            raise UserError(f"{folder / wrong[0]} is a folder: expected a file. {_REMOVE}")
        if wrong := sorted(self.files & folders):
            raise UserError(f"{folder / wrong[0]} is a file: expected a folder. {_REMOVE}")


class NotRegular(UserError):
    """A path where a regular file was expected leads to something else."""


_REMOVE = "Nothing was read or written. Remove it, or take the folder from someone whom you trust."


def look_through(folder: Path) -> Tree:
    """Everything below a folder, without following a link; the path of the folder itself may go
    through links.

    Raises `UserError` that names a link, pipe, socket or device, and for more than `MOST_ENTRIES`
    files and folders or `DEEPEST` folders inside each other.
    """
    files, folders, waiting = set[str](), set[str](), [""]
    while waiting:
        above = waiting.pop()
        for name, kind in _entries(folder / above):
            inside = f"{above}/{name}" if above else name
            if kind == stat.S_IFDIR:
                folders.add(inside)
                waiting.append(inside)
            elif kind == stat.S_IFREG:
                files.add(inside)
            else:
                raise _odd(folder, inside, kind)
            # while it is listed: a folder without end would fill the memory before it was counted
            if len(files) + len(folders) > MOST_ENTRIES:
                raise UserError(
                    f"{folder} holds more than {MOST_ENTRIES:,} files and folders: expected a run "
                    "or a bundle. Choose another folder, or move what does not belong to it."
                )
            if inside.count("/") >= DEEPEST:
                raise UserError(
                    f"{shown(folder / inside)}: expected at most {DEEPEST} folders inside each "
                    f"other. {_REMOVE}"
                )
    return Tree(frozenset(files), frozenset(folders))


def _odd(folder: Path, inside: str, kind: int) -> UserError:
    """The refusal of what is neither a file nor a folder."""
    if kind == stat.S_IFLNK:
        return UserError(
            f"{shown(folder / inside)} is a link: expected only files and folders in "
            f"{folder}, because a link can lead to any file of yours. {_REMOVE}"
        )
    return UserError(
        f"{shown(folder / inside)} is a pipe, socket or device: expected only files "
        f"and folders in {folder}. {_REMOVE}"
    )


def _entries(folder: Path) -> list[tuple[str, int]]:
    """(name, kind as `_kind` gives it) of what lies directly in a folder."""
    try:
        with os.scandir(folder) as found:
            return [(entry.name, _kind(entry)) for entry in found]
    except FileNotFoundError:  # removed since its parent was listed, by an export that goes on
        return []
    except OSError as error:
        raise UserError(
            f"{shown(folder)} cannot be listed ({error.strerror}): check its permissions."
        ) from None


def _kind(entry: "os.DirEntry[str]") -> int:
    """S_IFLNK, S_IFDIR, S_IFREG, or 0 for anything else."""
    # a junction of Windows counts as a folder there, and leads anywhere like a link; Python tells
    # it since 3.12
    is_junction = getattr(entry, "is_junction", None)
    if entry.is_symlink() or (is_junction is not None and is_junction()):
        return stat.S_IFLNK
    if entry.is_dir(follow_symlinks=False):
        return stat.S_IFDIR
    if entry.is_file(follow_symlinks=False):
        return stat.S_IFREG
    return 0


def is_plain(name: object) -> bool:
    """Whether this is a relative name with `/` that stays below its folder and can be shown on one
    line."""
    # backslash and drive on every system: a folder that was packed here may be opened on Windows
    if not isinstance(name, str) or _CONTROL.search(name) or "\\" in name or _DRIVE.match(name):
        return False
    return _fits(name) and not {"", ".", ".."} & set(name.split("/"))


def is_picture_path(path: object) -> bool:
    """Whether this is what `finetune` records for a picture: relative to the data folder, with `/`.

    A validation folder elsewhere (`--val FOLDER`) gives `../` at the start. Such a picture is used,
    like every other, only if it has the recorded digest (`picture_bytes`).
    """
    # on other systems `C:cat.jpg` is a usual name
    if not isinstance(path, str) or "\0" in path or (os.name == "nt" and _DRIVE.match(path)):
        return False
    # `..` may stand at the beginning only, as the relative path of a folder elsewhere has it
    parts = path.split("/")
    while parts and parts[0] == "..":
        parts = parts[1:]
    if not parts or not parts[0] or {".", ".."} & set(parts):
        return False
    return _fits(path)


def _fits(name: str) -> bool:
    try:
        # in bytes, because that is what file systems count
        parts = list(map(os.fsencode, name.split("/")))
    except UnicodeEncodeError:  # a surrogate that no file name gives
        return False
    return (
        max(map(len, parts)) <= LONGEST_PART and sum(map(len, parts)) + len(parts) <= LONGEST_PATH
    )


def shown(name: object) -> str:
    """A name of a stranger's for a message: on one line, without control characters, not too
    long."""
    cleaned = _CONTROL.sub("?", str(name))
    if len(cleaned) <= 300:
        return cleaned
    return f"{cleaned[:300]}..."


_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
"""How a file is opened for reading: without O_NONBLOCK a pipe would wait for its writer."""


def open_regular(path: Path, *, follow: bool = True) -> BufferedReader:
    """A regular file, opened for reading; `UserError` for a folder, device or pipe, which is not
    waited for.

    Without `follow` a path that is a link is refused. Raises `OSError` and `ValueError` as `open`
    does.
    """
    flags = _FLAGS if follow else _FLAGS | getattr(os, "O_NOFOLLOW", 0)
    descriptor, size = _open_descriptor(path, flags)
    file = open(descriptor, "rb")  # noqa: SIM115 (the caller closes it)
    if not size and file.peek(1):  # files of /proc call themselves empty; some of them never end
        file.close()
        raise NotRegular(
            f"{shown(path)}: expected a file of a disk, seen one of the system without a size."
        )
    return file


def first_bytes(path: str | Path, count: int) -> bytes:
    """At most `count` bytes at the beginning of a regular file; raises as `open_regular`. For very
    many files: no buffer is made for each."""
    descriptor, _ = _open_descriptor(path, _FLAGS)
    try:
        return os.read(descriptor, count)
    finally:
        os.close(descriptor)


def _open_descriptor(path: str | Path, flags: int) -> tuple[int, int]:
    """The descriptor of a regular file, and its size in bytes."""
    descriptor = os.open(path, flags)
    # of what was opened: between a look at the path and its opening another file could take its
    # place
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        os.close(descriptor)
        raise NotRegular(f"{shown(path)}: expected a regular file, seen a folder, pipe or device.")
    return descriptor, found.st_size


def read_regular(path: Path, most: int, *, name: str = "", follow: bool = True) -> bytes:
    """The bytes of a regular file of at most `most`; `BadImage(name or path, reason)` for any
    other.

    Of a larger file nothing is read. Without `follow` a path that is a link is refused. A pipe is
    not waited for.
    """
    name = name or str(path)
    try:
        with open_regular(path, follow=follow) as file:
            # of the opened file: what stands at the path may be another one by now
            size = os.fstat(file.fileno()).st_size
            content = file.read(size + 1) if size <= most else b""  # one more: it may be growing
    except NotRegular:
        raise BadImage(name, "not a regular file") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise BadImage(
            name, f"cannot be read: {getattr(error, 'strerror', None) or error}"
        ) from None
    if max(size, len(content)) > most:
        raise BadImage(name, f"larger than {most / 1e6:g} MB")
    return content


def read_bytes(path: Path, most: int) -> bytes:
    """The content of a regular file of at most `most` bytes; the path may go through links.

    Raises `FileNotFoundError`, and `UserError` for anything else that is in the way: a pipe (which
    is not waited for), a larger file, a file of the system whose size is not known before it is
    read.
    """
    try:
        file = open_regular(path)
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(str(path)) from None
    except (OSError, ValueError) as error:
        raise UserError(
            f"{shown(path)} cannot be read ({shown(error)}): expected a file. Copy it again."
        ) from None
    with file:
        found = os.fstat(file.fileno())
        if found.st_size > most:
            raise UserError(
                f"{shown(path)} has {found.st_size:,} bytes: expected at most {most:,}: shorten it."
            )
        # one byte more, so that a file that grows is noticed
        content = file.read(found.st_size + 1)
    if len(content) != found.st_size:
        raise UserError(
            f"{shown(path)}: expected {found.st_size:,} bytes, as the file system says, seen "
            "another number: it is being written, or no file of a disk. Copy it again."
        )
    return content


def picture_bytes(path: Path, sha256: str) -> bytes:
    """The bytes of a picture if they are those that a run recorded; `BadImage` for any others.

    A stranger's run says where its pictures lie on this machine. Only who has the bytes knows their
    digest, so nothing gets into a report or a bundle that its author did not have.
    """
    try:
        content = read_bytes(path, MOST_PICTURE_BYTES)
    except FileNotFoundError:
        raise BadImage(shown(path), "there is no such file") from None
    except UserError as error:
        raise BadImage(shown(path), str(error)) from None
    # of these very bytes: to hash the path again would let the file be exchanged in between
    if hashlib.sha256(content).hexdigest() != sha256:
        raise BadImage(shown(path), "its bytes are not those that were read for the run (sha256)")
    return content
