"""A TIFF's first directory, bounded and rewritten to what decoding reads (TIFF 6.0, section 2).

Pillow reads every entry of a directory, three times over, and follows those of EXIF and GPS:
entries that share one block of data cost their number times its size. And it decodes as many strips
as are listed, one over the other.
"""

import struct
from dataclasses import dataclass

from zoo.picture.exif import Reduced, Refused

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"MM*\0", b"II\0*")
"""The last two are wrong, but Pillow opens them."""
MAX_ENTRIES = 4096
"""Entries of the directory."""
MAX_VALUE_BYTES = 1_000_000
"""Of an entry that is not a list of strips or tiles; a 16-bit palette takes 400 KB."""
MAX_STRIPS = 20_000
"""Strips or tiles: strips of one row for 20,000 rows. Pillow sets up a decoder for each, 50 us."""
MAX_TILE_PIXELS = 4_194_304
"""Of a tile that is larger than the picture: 2048 x 2048."""
MAX_SAMPLES = 64
"""Of a pixel that are looked at."""
PILLOW_SAMPLES = 6
"""Bands at most of what Pillow opens."""

_WIDTH, _LENGTH, _ROWS, _PLANES, _TILE_WIDTH, _TILE_LENGTH = 256, 257, 278, 284, 322, 323
_BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _SAMPLE_FORMAT = 258, 259, 262, 277, 339
_SUBFILE, _SUB_DIRECTORIES, _DNG_VERSION = 254, 330, 50706
_MOSAIC, _LINEAR_RAW = 32803, 34892
"""Photometric interpretations of what a sensor saw."""
_BIG = 43
"""Third byte of a BigTIFF."""
_CANON = b"\x10\0\0\0CR\2\0"
"""Of a CR2: its first directory begins at 16, behind a mark of the maker."""
_STRIPS = (273, 279, 324, 325)  # offsets and sizes of strips, and of tiles
_SINGLE = (_WIDTH, _LENGTH, _ROWS, _PLANES, _TILE_WIDTH, _TILE_LENGTH)
_KEPT = {
    *_STRIPS, *_SINGLE,
    254, 258, 259, 262, 266, 274, 277, 292, 293, 317, 320, 332, 338, 339, 347,
    *range(512, 522), 529, 530, 531, 532, 50674,
}  # fmt: skip
"""Tags that decide about pixels: sizes, samples, colours, orientation; how CCITT, JPEG and LERC
code them."""
_TYPE_BYTES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
}
_INTEGERS = {3: "H", 4: "I", 16: "Q"}
_SAMPLE_FORMATS = {2: "signed", 3: "float", 5: "complex", 6: "complex"}
_USUAL = {(1, bits, 1) for bits in (1, 2, 4, 8, 12, 16)} | {
    (2, 8, 1),
    (3, 8, 1),
    (4, 8, 1),
    (3, 16, 1),
    (4, 16, 1),
    (1, 16, 2),
    (1, 32, 2),
    (1, 32, 3),
}
"""(bands, bits, sample format) of what Pillow opens; it opens a few more."""
_PACKINGS = {
    9: "JBIG",
    34661: "JBIG",
    34712: "JPEG 2000",
    33003: "JPEG 2000",
    33004: "JPEG 2000",
    33005: "JPEG 2000",
    34887: "LERC",
    34892: "lossy JPEG of DNG",
    50001: "WebP",
    50002: "JPEG XL",
    52546: "JPEG XL",
}
"""Compressions that Pillow does not unpack."""


_Entry = tuple[int, int, int, bytes]
"""Tag, kind, number of values, and the values, or the offset of them if they take more room."""


@dataclass(frozen=True)
class _Layout:
    """How a TIFF writes numbers, in the codes of `struct`."""

    endian: str
    first: int
    """Where the offset of the first directory stands."""
    count: str
    """The number of a directory's entries."""
    entry: str
    """Tag, kind, number of values, and the values or where they are."""
    offset: str

    @staticmethod
    def of(data: bytes) -> "_Layout":
        """Byte order by the signature, and numbers of 4 bytes (TIFF) or 8 (BigTIFF)."""
        endian = "<" if data[:2] == b"II" else ">"
        if data[2] == _BIG:
            return _Layout(endian, 8, f"{endian}Q", f"{endian}HHQ8s", f"{endian}Q")
        return _Layout(endian, 4, f"{endian}H", f"{endian}HHI4s", f"{endian}I")


def reduced_tiff(data: bytes) -> Reduced:
    """The file with a first directory of only what pixels need, and no second one. Raises
    `Refused`."""
    layout = _Layout.of(data)
    # Pillow looks for 43 in the third byte, which is 0 here, and would read it as a small TIFF
    if data.startswith(b"MM\0+"):
        raise Refused("damaged: a big-endian BigTIFF cannot be read")
    try:
        (start,) = struct.unpack_from(layout.offset, data, layout.first)
        entries = _entries(data, layout, start)
    except struct.error:
        raise Refused("damaged: its TIFF directory is truncated") from None
    # before entries are dropped: what tells a raw file is not needed for pixels
    _check_raw(data, layout, {entry[0]: entry for entry in entries})
    # The last entry of a tag counts for Pillow, the first for libtiff: one is left.
    kept = {entry[0]: entry for entry in entries if entry[0] in _KEPT and entry[1] in _TYPE_BYTES}
    _check(data, layout, kept)
    directory = struct.pack(layout.count, len(kept))
    # TIFF asks for ascending tags
    for tag in sorted(kept):
        directory += struct.pack(layout.entry, *kept[tag])
    directory += bytes(struct.calcsize(layout.offset))  # no further directory
    # In place, so that no offset changes and a truncated file stays truncated.
    content = b"".join((data[:start], directory, memoryview(data)[start + len(directory) :]))
    # orientation stays 1, because Pillow turns a TIFF upright itself
    return Reduced(content, unusual=_unusual(data, layout, kept))


def _entries(data: bytes, layout: _Layout, start: int) -> list[_Entry]:
    """The entries of the directory at `start`; `struct.error` if the file ends before them."""
    (count,) = struct.unpack_from(layout.count, data, start)
    if count > MAX_ENTRIES:
        raise Refused(
            f"damaged: its TIFF directory lists {count} entries, at most {MAX_ENTRIES} are read"
        )
    at, size = start + struct.calcsize(layout.count), struct.calcsize(layout.entry)
    entries = []
    for _ in range(count):
        entries.append(struct.unpack_from(layout.entry, data, at))
        at += size
    return entries


def _check(data: bytes, layout: _Layout, kept: dict[int, _Entry]) -> None:
    inline, total = struct.calcsize(layout.offset), 0
    for tag, kind, count, value in kept.values():
        size = count * _TYPE_BYTES[kind]
        if size > inline:
            total += size
            # values that do not fit into the entry stand elsewhere, and `value` is their offset
            if struct.unpack(layout.offset, value)[0] + size > len(data):
                raise Refused(f"damaged: TIFF tag {tag} lies outside of the file")
        if size > MAX_VALUE_BYTES and tag not in _STRIPS:
            raise Refused(
                f"damaged: TIFF tag {tag} has {size} bytes, at most {MAX_VALUE_BYTES} are read"
            )
    # entries that share one block of data cost their number times its size
    if total > len(data):
        raise Refused(f"damaged: its TIFF entries list {total} bytes, more than the file has")
    numbers = {tag: _number(layout, *kept[tag][1:]) for tag in _SINGLE if tag in kept}
    planes = 1
    # planar: strips or tiles for each band
    if numbers.get(_PLANES) == 2:
        planes = PILLOW_SAMPLES
        if sum(_values(data, layout, kept.get(_SAMPLES))) > PILLOW_SAMPLES:
            raise Refused(_unusual(data, layout, kept))
    _check_parts(numbers, {tag: kept[tag][2] for tag in _STRIPS if tag in kept}, planes)


def _check_parts(numbers: dict[int, int], counts: dict[int, int], planes: int) -> None:
    """`Refused` unless strips or tiles (`counts`: how many entries list) fit the picture's size."""
    width, length = numbers.get(_WIDTH, 0), numbers.get(_LENGTH, 0)
    if not width or not length:
        raise Refused("damaged: a TIFF without its size")
    # by default one strip holds all rows
    rows = numbers.get(_ROWS, length)
    _check_number(counts, _STRIPS[:2], needed=_parts(length, rows) * planes)
    across, down = numbers.get(_TILE_WIDTH, width), numbers.get(_TILE_LENGTH, length)
    _check_number(counts, _STRIPS[2:], needed=_parts(width, across) * _parts(length, down) * planes)
    if across * down > max(MAX_TILE_PIXELS, 2 * width * length):
        raise Refused(
            f"too costly to decode: TIFF tiles of {across} x {down} for a picture of {width} x "
            f"{length}"
        )


def _check_raw(data: bytes, layout: _Layout, entries: dict[int, _Entry]) -> None:
    """`Refused` for a camera's raw file: what its first directory holds is a thumbnail, or no
    picture yet."""
    photometric = _values(data, layout, entries.get(_PHOTOMETRIC))
    is_thumbnail = any(value & 1 for value in _values(data, layout, entries.get(_SUBFILE)))
    if (
        data[4:12] == _CANON
        or _DNG_VERSION in entries
        or photometric in ([_MOSAIC], [_LINEAR_RAW])
        or (is_thumbnail and _SUB_DIRECTORIES in entries)
    ):
        raise Refused(
            "a camera's raw file (a kind of TIFF, as CR2, DNG, NEF and ARW are): develop it, and "
            "save it as JPEG or TIFF"
        )


def _unusual(data: bytes, layout: _Layout, kept: dict[int, _Entry]) -> str:
    """Bands, bits and compression in words, where Pillow is not known to open such a TIFF."""
    bits = _values(data, layout, kept.get(_BITS)) or [1]
    bands = sum(_values(data, layout, kept.get(_SAMPLES))) or 1
    kind = (_values(data, layout, kept.get(_SAMPLE_FORMAT)) or [1])[0]
    packing = _PACKINGS.get(sum(_values(data, layout, kept.get(_COMPRESSION))))
    if (bands, bits[0], kind) in _USUAL and len(set(bits)) == 1 and not packing:
        return ""
    plural = "s" if bands > 1 else ""
    words = f"a TIFF of {bands} band{plural} of {'/'.join(map(str, sorted(set(bits))[:4]))} bits"
    if kind in _SAMPLE_FORMATS:
        words += f" ({_SAMPLE_FORMATS[kind]})"
    if packing:
        words += f", compressed as {packing}"
    return (
        f"{words}; expected 1 (grey), 3 (RGB) or 4 bands (RGBA, CMYK) of 8 bits, or grey of 16 "
        "bits or of 32-bit float from 0 to 1: convert it, in the same way for training and for use"
    )


def _values(data: bytes, layout: _Layout, entry: _Entry | None) -> list[int]:
    """The first numbers of an entry, `MAX_SAMPLES` at most; none where it is missing, damaged or no
    whole numbers."""
    if entry is None or entry[1] not in _INTEGERS:
        return []
    _, kind, count, value = entry
    # the number is a stranger's
    count = min(count, MAX_SAMPLES)
    code = f"{layout.endian}{count}{_INTEGERS[kind]}"
    if struct.calcsize(code) <= len(value) and entry[2] == count:
        return list(struct.unpack_from(code, value))
    try:
        return list(struct.unpack_from(code, data, struct.unpack(layout.offset, value)[0]))
    except struct.error:
        return []


def _parts(whole: int, part: int) -> int:
    if part < 1:
        raise Refused("damaged: its TIFF strips or tiles are empty")
    return -(-whole // part)


def _check_number(counts: dict[int, int], tags: tuple[int, ...], *, needed: int) -> None:
    """`Refused` for more strips or tiles than cover the picture."""
    listed = max(counts.get(tag, 0) for tag in tags)
    if listed > min(needed, MAX_STRIPS):
        raise Refused(
            f"damaged: it lists {listed} TIFF strips or tiles, expected at most "
            f"{min(needed, MAX_STRIPS)}"
        )


def _number(layout: _Layout, kind: int, count: int, value: bytes) -> int:
    if kind not in _INTEGERS or count != 1 or _TYPE_BYTES[kind] > len(value):
        raise Refused("damaged: a TIFF size that is not one whole number")
    return int(struct.unpack_from(layout.endian + _INTEGERS[kind], value)[0])
