"""Archives of strangers: zip, tar, and tars packed by gzip, bzip2 or xz -> a folder.

Every entry is looked at before anything is written: the archive may hold files and folders only,
under names that stay below the folder and that every file system keeps apart, not too many, and not
much more than it has itself. Archives in it stay packed.
"""

import bz2
import errno
import gzip
import lzma
import os
import shutil
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from finetune.sources.plain_tar import UNREADABLE, is_plain_member, members, opened
from finetune.sources.plain_tar import shown_member as shown
from finetune.stored import kept_folder
from finetune.stored.archive_entries import (
    MOST_ENTRIES,
    MOST_RATIO,
    Entry,
    checked,
    place_of,
    refuse_amount,
    single_folder,
)
from zoo.host import console
from zoo.host.errors import UserError, first_line

MOST_DIRECTORY_BYTES = 64 << 20
"""Of the list of a zip; 100,000 entries need about 15 MB."""
MOST_HEADER_BYTES = 2048
"""Of one entry of a tar, on average: header, long name, and what fills its last block."""
ZIP_STARTS = (b"PK\3\4", b"PK\5\6")
ENTRY_START = b"PK\1\2"
PACKED_TARS: tuple[tuple[bytes, Callable[[Any], Any]], ...] = (
    (b"\x1f\x8b", gzip.open),
    (b"BZh", bz2.open),
    (b"\xfd7zXZ\0", lzma.open),
)
"""First bytes of a packed tar -> what opens it."""
DAMAGED = (
    *UNREADABLE,
    zipfile.BadZipFile,
    lzma.LZMAError,
    NotImplementedError,
    RuntimeError,
    LookupError,
    struct.error,
)
"""What the libraries raise for damaged archives, besides an OSError without a number."""


def is_archive(name: str) -> bool:
    """Tell by its first bytes whether a file is an archive."""
    if not os.path.isfile(name):
        return False
    try:
        start = _start(Path(name))
    # one that may not be read
    except OSError:
        return False
    starts = (*ZIP_STARTS, *(start for start, _ in PACKED_TARS))
    return start.startswith(starts) or start[257:262] == b"ustar"


def _start(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(tarfile.BLOCKSIZE)


def write_source(name: str, folder: Path, coarse: bool = False) -> Path:
    """Unpack an archive into `folder`, which does not exist yet; where all stands in one folder,
    what is in that.

    Raises `UserError` for an archive that is damaged, encrypted, or holds what it should not;
    nothing has been written then.
    """
    path = Path(name)
    listing, contents = _tar_entries, _tar_contents
    if _start(path).startswith(ZIP_STARTS):
        listing, contents = _zip_entries, _zip_contents
    with _explained(path):
        # first all names and sizes, and only then, in a second pass, the content
        sizes = checked(listing(path), path)
        kept_folder.check_free(folder.parent, sum(sizes.values()))
        top = single_folder(sizes)
        folder.mkdir()
        with console.bar(f"unpacking {path.name}", len(sizes)) as advance:
            for entry, content in contents(path):
                place = place_of(entry.name)
                if sizes.get(place) != entry.size:
                    raise UserError(f"{path} changed while it was read: start again.")
                if place.startswith(top):
                    _write_file(folder / place.removeprefix(top), content)
                advance(1)
    return folder


def _write_file(path: Path, content: IO[bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # x: nothing stands there yet
    with open(path, "xb") as out:
        shutil.copyfileobj(content, out, 1 << 20)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Explain a damaged archive: what the libraries raise becomes a `UserError`."""
    try:
        yield
    except (*DAMAGED, OSError) as error:
        # of the system, such as a full disk: it has a number; EINVAL is a seek to before the start
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        raise UserError(
            f"{path} cannot be read to its end ({shown(first_line(error))}): expected a complete "
            "zip or tar. Download or pack it again."
        ) from None


def _zip_entries(path: Path) -> Iterator[Entry]:
    with open(path, "rb") as file, zipfile.ZipFile(_Directory(file, path)) as archive:  # type: ignore[call-overload]
        for info in archive.infolist():
            if fault := _fault_of_info(info):
                raise UserError(
                    f"{path} holds {shown(info.orig_filename)}, {fault}. Nothing was unpacked; "
                    "pack the pictures again."
                )
            yield Entry(_zip_name(info), info.file_size, info.is_dir())


def _zip_contents(path: Path) -> Iterator[tuple[Entry, IO[bytes]]]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if not info.is_dir():
                with archive.open(info) as content:
                    yield Entry(_zip_name(info), info.file_size, False), content


def _zip_name(info: zipfile.ZipInfo) -> str:
    """Return the name of an entry: UTF-8, which many programs write without saying so."""
    if info.flag_bits & 0x800:
        return info.orig_filename
    # zipfile reads other names as cp437, which has a character for each byte
    return info.orig_filename.encode("cp437").decode("utf-8", "surrogateescape")


def _fault_of_info(info: zipfile.ZipInfo) -> str:
    # the upper half is what Unix says of a file, and 0 where another system packed it
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "a link, a device or a pipe: expected only files and folders"
    # 0x40: strongly encrypted, 0x2000: names encrypted
    if info.flag_bits & (0x1 | 0x40 | 0x2000):
        return "which is encrypted: expected an archive without a password"
    if info.is_dir() and info.file_size:
        return "a folder with content of its own"
    return ""


class _Directory:
    """Wraps the file of a zip: its list is looked at before zipfile makes objects of it."""

    def __init__(self, file: IO[bytes], path: Path):
        self._file, self._path = file, path
        self.seek, self.tell, self.seekable, self.close = (
            file.seek,
            file.tell,
            file.seekable,
            file.close,
        )

    def read(self, count: int = -1) -> bytes:
        content = self._file.read(min(count, MOST_DIRECTORY_BYTES) if count >= 0 else count)
        if content.startswith(ENTRY_START) and (
            len(content) >= MOST_DIRECTORY_BYTES or content.count(ENTRY_START) > MOST_ENTRIES
        ):
            refuse_amount(self._path)
        return content


class _Bounded:
    """Wraps an unpacked stream, of which no more than `most` bytes are ever unpacked."""

    def __init__(self, stream: Any, most: int, path: Path):
        self._stream, self._most, self._path = stream, most, path
        self.tell, self.seekable = stream.tell, stream.seekable

    def seek(self, position: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_SET and position > self._most:
            refuse_amount(self._path)
        return int(self._stream.seek(position, whence))

    def read(self, count: int = -1) -> bytes:
        content: bytes = self._stream.read(count)
        if self.tell() > self._most:
            refuse_amount(self._path)
        return content


@contextmanager
def _opened_tar(path: Path) -> Iterator[tarfile.TarFile]:
    """Open a tar, packed or not."""
    with open(path, "rb") as file:
        start = file.read(8)
        file.seek(0)
        stream: Any = file
        for first, unpack in PACKED_TARS:
            if start.startswith(first):
                # they come on top: small pictures are smaller than their headers
                headers = MOST_HEADER_BYTES * MOST_ENTRIES
                most = MOST_RATIO * path.stat().st_size
                stream = _Bounded(unpack(file), most + min(most, headers) + (1 << 16), path)
        with opened(path, stream) as tar:
            yield tar


def _tar_entries(path: Path) -> Iterator[Entry]:
    with _opened_tar(path) as tar:
        for member in members(tar, path):
            if not member.isdir() and not is_plain_member(member):
                raise UserError(
                    f"{path} holds {shown(member.name)}, a link, a device, a pipe or a file with "
                    "holes: expected only files and folders. Nothing was unpacked; pack the "
                    "pictures again."
                )
            yield Entry(member.name, member.size, member.isdir())
        _check_end(tar, path)


def _check_end(tar: tarfile.TarFile, path: Path) -> None:
    """Raise `UserError` unless a block of zeros ends the tar: tarfile stops at anything that is no
    header, without a word."""
    stream: Any = tar.fileobj
    stream.seek(tar.offset)
    ends = stream.read(tarfile.BLOCKSIZE) == bytes(tarfile.BLOCKSIZE)
    # to the end of what is packed, where its checksum stands
    stream.left = None
    while ends and stream.read(1 << 20):
        pass
    if not ends:
        raise UserError(
            f"{path} was cut off or changed: expected a tar with an end. Download or pack it again."
        )


def _tar_contents(path: Path) -> Iterator[tuple[Entry, IO[bytes]]]:
    with _opened_tar(path) as tar:
        for member in members(tar, path):
            if not member.isdir():
                content: Any = tar.extractfile(member)
                yield Entry(member.name, member.size, False), content
