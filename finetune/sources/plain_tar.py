"""Tars from strangers: regular files under expected names, read one after the other, within bounds.

opened(path)          the tar, never unpacked on the way
files(tar, where)     its members, if all of them are regular files that it holds whole
bounded_gzip(path)    what a small .gz holds
"""

import gzip
import re
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from zoo.host.errors import UserError, first_line

MOST_UNPACKED_BYTES = 64 << 20
"""Limit of a .gz, before and after it is unpacked; ILSVRC2012's devkit has 2.5 MB, and 5 MB
unpacked."""
MOST_MEMBERS = 2_000_000
"""ILSVRC2012 has 1,281,167 pictures in 1,000 classes."""
MOST_HEADER_BYTES = 64 << 10
"""Between two members: a header has 512 bytes, and long names and attributes stand in more of
them."""
MOST_NAME = 100
"""Characters of a foreign name in an error."""
UNREADABLE = (
    tarfile.TarError,
    EOFError,
    gzip.BadGzipFile,
    zlib.error,
    ValueError,
    OverflowError,
    RecursionError,
)
"""What tarfile and gzip raise for damaged archives."""


class _Budget:
    """Wraps a file of which a limited number of bytes may be read while `left` is not None."""

    def __init__(self, file: Any):
        self._file = file
        self.left: int | None = MOST_HEADER_BYTES
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, count: int = -1) -> bytes:
        if self.left is not None:
            self.left -= count
            if count < 0 or self.left < 0:
                raise tarfile.ReadError(f"headers of more than {MOST_HEADER_BYTES:,} bytes")
        content: bytes = self._file.read(count)
        return content


@contextmanager
def opened(path: Path, content: Any = None) -> Iterator[tarfile.TarFile]:
    """Open the tar at `path`, or in the file object `content`; `UserError` if it is damaged,
    wherever that shows.

    Compressed ones are none: ILSVRC2012's are not, and a small one could unpack to a full disk.
    """
    with reading(path), open(path, "rb") as file:
        bounded: Any = _Budget(content or file)
        # `r:` tries no compression, as `r` would
        with tarfile.open(fileobj=bounded, mode="r:") as tar:
            yield tar


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Explain a damaged archive: what tarfile and gzip raise becomes a `UserError`."""
    try:
        yield
    except UNREADABLE as error:
        raise UserError(
            f"{path} cannot be read to its end ({shown_member(first_line(error))}): expected a "
            "complete tar. Download it again."
        ) from None


def members(tar: tarfile.TarFile, where: object) -> Iterator[tarfile.TarInfo]:
    """Yield the members of a tar of `opened`, whatever they are."""
    file: Any = tar.fileobj
    kept: Any = tar
    file.left = MOST_HEADER_BYTES
    for number, member in enumerate(tar):
        # else a tar of nothing but headers fills the memory
        kept.members.clear()
        if number >= MOST_MEMBERS or len(tar.pax_headers) > MOST_NAME:
            raise UserError(
                f"{where} holds more than {MOST_MEMBERS:,} files, or attributes of all of them. It "
                "is not the original; download it again."
            )
        # the member's own bytes are read now, in parts
        file.left = None
        yield member
        file.left = MOST_HEADER_BYTES


def files(tar: tarfile.TarFile, where: object) -> Iterator[tarfile.TarInfo]:
    """Yield the members, every one of which must be a regular file that the tar holds whole: no
    links, devices, holes."""
    for member in members(tar, where):
        if not is_plain_member(member):
            raise UserError(
                f"{where} holds {shown_member(member.name)}, which is not a regular file: expected "
                "only pictures and tars. It is not the original; download it again."
            )
        yield member


def read_members(tar: tarfile.TarFile, path: Path, wanted: Mapping[str, int]) -> dict[str, bytes]:
    """Read the content of those `wanted` members that the tar has; `wanted`: name -> bytes that it
    has at most."""
    found: dict[str, bytes] = {}
    for member in members(tar, path):
        if member.name not in wanted or member.name in found:
            continue
        if not is_plain_member(member) or member.size > wanted[member.name]:
            raise UserError(
                f"{path}: {member.name} is no regular file of at most {wanted[member.name]:,} "
                "bytes. It is not the original; download it again."
            )
        file: IO[bytes] = tar.extractfile(member)  # type: ignore[assignment]
        found[member.name] = file.read()
    return found


def is_plain_member(member: tarfile.TarInfo) -> bool:
    """Tell whether it is a regular file without holes, which would take space that the tar does not
    have."""
    return member.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not member.issparse()


def shown_member(name: str) -> str:
    """Escape and shorten a foreign name for an error."""
    if len(name) > MOST_NAME:
        name = name[:MOST_NAME] + "..."
    return ascii(name)


def checked(name: str, form: re.Pattern[str], where: object) -> str:
    """Return the name, if it has the form; such names hold no path."""
    if not form.fullmatch(name):
        raise UserError(
            f"{where} holds {shown_member(name)}: expected names like {form.pattern}. It is not "
            "the original; download it again."
        )
    return name


@contextmanager
def bounded_gzip(path: Path) -> Iterator[IO[bytes]]:
    """Open what a small .gz holds, unpacked to a temporary file within `MOST_UNPACKED_BYTES`;
    `UserError` beyond."""
    if path.stat().st_size > MOST_UNPACKED_BYTES:
        raise UserError(
            f"{path} has {path.stat().st_size:,} bytes: expected a few million. It is not the "
            "original; download it again."
        )
    with tempfile.TemporaryFile() as unpacked:
        left = MOST_UNPACKED_BYTES
        with reading(path), gzip.open(path) as packed:
            while chunk := packed.read(1 << 20):
                left -= len(chunk)
                if left < 0:
                    raise UserError(
                        f"{path} unpacks to more than {MOST_UNPACKED_BYTES:,} bytes: expected a "
                        "few million. It is not the original; download it again."
                    )
                unpacked.write(chunk)
        unpacked.seek(0)
        yield unpacked
