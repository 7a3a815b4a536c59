"""The one folder of uploads and of files that the page makes: what may be read from it, and how
large it may grow.

Nothing else of this machine is read for a stranger: a path that comes from outside is compared with
this folder first, component by component, whatever Gradio thinks of it.
"""

import contextlib
import os
import secrets
import stat
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.files.folders import read_regular
from zoo.host.errors import BadImage

QUOTA_BYTES = 1_000_000_000
"""Bytes on disk that all uploads, tables and heat maps of the page may take together."""
QUOTA_FILES = 20_000
"""Files in the folder at most."""
KEPT_S = 1800.0
"""Seconds after which an upload is deleted."""
YOUNG_S = 60.0
"""Seconds that a file is safe from making room for others."""
SHARE = 4
"""Uploads of one address that are still arriving take at most the part 1 / `SHARE` of bytes and of
files together; a single upload may be larger."""
MAX_FILES = 1_000
"""Files of one upload; a page sends all that were chosen at once."""
SWEEP_S = 10.0
"""Seconds between two looks at the folder."""
BLOCK = 4096
"""Bytes that the smallest file takes on disk, and its folder as much again."""
LONGEST = 1024
"""Characters of a path at most."""
ELSEWHERE = "it was not uploaded here, is gone, or is too large; upload it again"
"""The one reason for every path that is not served: it tells nothing about what lies there."""
FULL = "There is no room for more uploads now; try again in a minute."


class Full(Exception):
    """An upload does not fit into the folder."""


@dataclass(frozen=True)
class _File:
    path: Path
    changed: float
    """Seconds since 1970 of its last change."""
    bytes: int
    """On disk, with a block for its folder."""


@dataclass
class _Reserved:
    """What uploads that are still arriving may need."""

    bytes: int = 0
    files: int = 0

    def within(self, bytes_: int, files: int) -> bool:
        return self.bytes <= bytes_ and self.files <= files

    def add(self, bytes_: int, files: int) -> None:
        self.bytes += bytes_
        self.files += files


class Uploads:
    """The folder, shared by all threads of one service; final. Nobody else may write to
    `folder`."""

    def __init__(
        self, folder: Path, *, quota_bytes: int = QUOTA_BYTES, quota_files: int = QUOTA_FILES
    ):
        self.folder = folder.resolve()
        self.forget: list[Callable[[], Any]] = []
        """Called after each sweep, to forget what is remembered about deleted files."""
        self._quota_bytes, self._quota_files = quota_bytes, quota_files
        self._kept: frozenset[Path] = frozenset()
        self._bytes = self._files = 0  # at the last sweep, and what was written since
        self._reserved = _Reserved()
        self._reserved_by: dict[str, _Reserved] = {}  # by the address that they come from
        self._lock = threading.Lock()
        self.sweep()

    def inside(self, path: object) -> Path | None:
        """Return the path of a regular file in the folder, with no link on the way and no `..`;
        None for everything else."""
        if not isinstance(path, str) or len(path) > LONGEST:
            return None
        # as text: Path would drop `.` and double slashes before they were looked at
        prefix = f"{self.folder}{os.sep}"
        names = path.removeprefix(prefix).split(os.sep)
        if not path.startswith(prefix) or any(name in ("", ".", "..") for name in names):
            return None
        place = self.folder
        try:
            for name in names[:-1]:
                place = place / name
                # component by component: a link in the middle would lead out of the folder
                if not stat.S_ISDIR(place.lstat().st_mode):
                    return None
            place = place / names[-1]
            if stat.S_ISREG(place.lstat().st_mode):
                return place
        except (OSError, ValueError):  # ValueError: characters that no file name can hold
            pass
        return None

    def read(self, path: object, max_bytes: int) -> bytes:
        """Return the bytes of a file in the folder; for everything else the same `BadImage`."""
        place = self.inside(path)
        if place is not None:
            with contextlib.suppress(BadImage):
                return read_regular(place, max_bytes, follow=False)
        raise BadImage("picture", ELSEWHERE)

    def new_folder(self) -> Path:
        """Make a new folder in it, with a name that nobody can guess."""
        folder = self.folder / secrets.token_hex(16)
        # not for other users of this machine
        folder.mkdir(mode=0o700)
        return folder

    def keep(self) -> None:
        """Never delete what is there now: the examples of the page."""
        self._kept = frozenset(file.path for file in self._all())

    @contextlib.contextmanager
    def room(self, size: int, files: int, owner: str = "") -> Iterator[None]:
        """Room for `files` new files of `size` bytes in all, as long as they arrive; raises `Full`.

        `owner` is the address that they come from, of which `SHARE` is taken; empty: the service
        itself.
        """
        # two blocks: a last one that is not full, and the folder
        wanted = size + files * 2 * BLOCK
        with self._lock:
            own = self._reserved_by.get(owner, _Reserved())
            if (
                owner
                and own.files
                and not own.within(
                    self._quota_bytes // SHARE - wanted, self._quota_files // SHARE - files
                )
            ):
                raise Full
            if not self._fits(wanted, files):
                self._sweep(wanted, files)
            if not self._fits(wanted, files):
                raise Full
            # only now: of an upload that was refused nothing may stay
            self._reserved_by[owner] = own
            for reserved in (self._reserved, own):
                reserved.add(wanted, files)
        try:
            yield
        finally:
            with self._lock:
                for reserved in (self._reserved, own):
                    reserved.add(-wanted, -files)
                if not own.files:
                    self._reserved_by.pop(owner, None)

    def wrote(self, size: int) -> None:
        """Count a file of `size` bytes until the next sweep finds it."""
        with self._lock:
            self._bytes += on_disk(size)
            self._files += 1

    def sweep(self) -> None:
        """Delete what is too old or too much, and count what is there."""
        with self._lock:
            self._sweep(0, 0)
        for forget in self.forget:
            forget()

    def _fits(self, size: int, files: int) -> bool:
        return self._reserved.within(
            self._quota_bytes - self._bytes - size, self._quota_files - self._files - files
        )

    def _sweep(self, size: int, files: int) -> None:
        """Delete all old files, and then the oldest until `size` bytes and `files` files fit."""
        found = sorted(self._all(), key=lambda file: file.changed)
        self._bytes, self._files = sum(file.bytes for file in found), len(found)
        now = time.time()
        for file in found:
            age = now - file.changed
            if file.path in self._kept or age < YOUNG_S:
                continue
            if age > KEPT_S or not self._fits(size, files):
                with contextlib.suppress(OSError):
                    file.path.unlink()
                    self._bytes -= file.bytes
                    self._files -= 1
        # from below, so that a folder is empty when its turn comes
        for folder, _, _ in os.walk(self.folder, topdown=False):
            with contextlib.suppress(OSError):  # not empty, or gone
                if folder != str(self.folder) and now - os.lstat(folder).st_ctime > YOUNG_S:
                    os.rmdir(folder)

    def _all(self) -> Iterator[_File]:
        for folder, _, names in os.walk(self.folder):
            for name in names:
                with contextlib.suppress(OSError):
                    path = Path(folder, name)
                    status = path.lstat()
                    yield _File(
                        # ctime as well: a copied file may have the mtime of its original
                        path,
                        max(status.st_mtime, status.st_ctime),
                        on_disk(status.st_size),
                    )


def files_in(size: int) -> int:
    """Return how many files room is made for in an upload of `size` bytes: pictures are hardly ever
    smaller than a block."""
    return min(MAX_FILES, size // BLOCK + 1)


def on_disk(size: int) -> int:
    """Return the bytes that a file of this size takes: whole blocks, and one for its name or
    folder."""
    return (-(-size // BLOCK) + 1) * BLOCK
