"""The one field of EXIF that pixels need, read without a library: how the picture was held.

A full EXIF parser is an attack surface of its own: entries that share one block of data made 3.9 GB
of 1 MB. Here nothing is followed but the offset of the first directory, and the work is bounded by
`MAX_ENTRIES`.
"""

import struct
from dataclasses import dataclass

MAX_BLOCK = 65_536
"""Bytes of an EXIF block; a larger one is ignored (a JPEG cannot hold one in one segment)."""
MAX_ENTRIES = 1000
"""Entries of a directory that are looked at; cameras write about 15."""
ORIENTATION = 0x0112
_PREFIX = b"Exif\0\0"
_ENDIAN = {b"II*\0": "<", b"MM\0*": ">"}
_SHORT, _LONG = 3, 4


class Refused(Exception):
    """A reason to refuse a picture, one clause without a full stop; `zoo.picture.decoding.decode`
    makes it a `BadImage`."""


@dataclass(frozen=True)
class Reduced:
    """A picture file without what its pixels do not need."""

    data: bytes
    orientation: int = 1
    """How EXIF says that the picture was held, 1 to 8; 1 is upright."""
    jpeg_size: tuple[int, int] = (0, 0)
    """Width and height of a JPEG as stored; (0, 0) of other formats."""
    coefficient_bytes: int = 0
    """What the decoder keeps of a JPEG with several scans until the last one is read; 0 of all
    others."""
    unusual: str = ""
    """Bands, bits and compression of a TIFF in words, where no decoder here is known to open such a
    one."""


def orientation(block: bytes) -> int:
    """EXIF orientation, 1 to 8, of a block with or without its prefix; 1 (upright) where it is
    missing or damaged."""
    tiff = block.removeprefix(_PREFIX)
    endian = _ENDIAN.get(tiff[:4])
    if endian is None or not 8 <= len(tiff) <= MAX_BLOCK:
        return 1
    (start,) = struct.unpack_from(endian + "I", tiff, 4)
    # offsets are a stranger's: nothing is read outside of the block
    if start + 2 > len(tiff):
        return 1
    (count,) = struct.unpack_from(endian + "H", tiff, start)
    found = 1
    # the number is a stranger's
    for place in range(min(count, MAX_ENTRIES)):
        at = start + 2 + 12 * place
        if at + 12 > len(tiff):
            break
        tag, kind, values = struct.unpack_from(endian + "HHI", tiff, at)
        # the standard says SHORT; LONG holds the same number
        if tag == ORIENTATION and values == 1 and kind in (_SHORT, _LONG):
            code = "H" if kind == _SHORT else "I"
            (found,) = struct.unpack_from(endian + code, tiff, at + 8)
    return found if 1 <= found <= 8 else 1


def block_of(held: int) -> bytes:
    """An EXIF block, with its prefix, that says how the picture was held and nothing else."""
    entry = struct.pack(">HHIHH", ORIENTATION, _SHORT, 1, held, 0)
    return _PREFIX + b"MM\0*" + struct.pack(">IH", 8, 1) + entry + bytes(4)
