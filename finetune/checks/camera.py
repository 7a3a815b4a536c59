"""The camera that a picture's EXIF block names, read without a library.

As in `zoo.picture.exif`, no offset is followed but that of the first directory and of its two short
texts, and the work is bounded.
"""

import struct

from zoo.picture.exif import MAX_BLOCK, MAX_ENTRIES

_MARKS = ((b"Exif\0\0", 6), (b"eXIf", 4), (b"EXIF", 8))
"""What stands before the block in a JPEG, a PNG and a WebP, and its distance from there in
bytes."""
_ENDIAN = {b"II*\0": "<", b"MM\0*": ">"}
_MAKE, _MODEL, _ASCII = 0x010F, 0x0110, 2
LONGEST = 64
"""Characters of a name that are read."""


def camera(content: bytes) -> str:
    """Read maker and model, as in 'Canon Canon EOS 5D', from an encoded picture; empty where none
    is named."""
    for mark, length in _MARKS:
        at = content.find(mark)
        if at >= 0:
            return _named(content[at + length : at + length + MAX_BLOCK])
    # a TIFF is one such block
    return _named(content[:MAX_BLOCK])


def _named(block: bytes) -> str:
    endian = _ENDIAN.get(block[:4])
    if endian is None or len(block) < 8:
        return ""
    (start,) = struct.unpack_from(endian + "I", block, 4)
    if start + 2 > len(block):
        return ""
    (count,) = struct.unpack_from(endian + "H", block, start)
    texts = {_MAKE: "", _MODEL: ""}
    for place in range(min(count, MAX_ENTRIES)):
        at = start + 2 + 12 * place
        if at + 12 > len(block):
            break
        tag, kind, size = struct.unpack_from(endian + "HHI", block, at)
        if tag in texts and kind == _ASCII:
            texts[tag] = _text(block, endian, at, size)
    return " ".join(filter(None, texts.values()))


def _text(block: bytes, endian: str, at: int, size: int) -> str:
    """Read the text of the entry at `at`; one of up to four bytes stands in the entry itself."""
    begin = at + 8
    if size > 4:
        (begin,) = struct.unpack_from(endian + "I", block, at + 8)
    raw = block[begin : begin + min(size, LONGEST)].partition(b"\0")[0]
    return raw.decode("ascii", "replace").strip()
