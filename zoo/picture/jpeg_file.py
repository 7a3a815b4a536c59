"""A JPEG's structure, walked and bounded before a decoder sees it (ITU-T T.81, annex B).

Costs that its pixels do not explain: segments without number (7.7 million took 10 s), fill bytes
that the decoder reads again with each block, and scans: a progressive file of 1 MB can hold 66,000,
and each visits all pixels.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from zoo.picture.exif import Reduced, Refused, block_of, orientation

MAX_SEGMENTS = 4096
"""Segments before the first scan; a profile and many thumbnails need about 100."""
MAX_JUNK = 4096
"""Bytes outside of all segments before the first scan, and the longest run of fill bytes after
it."""
MAX_HEADER_BYTES = 131_072
"""Of all tables before the first scan: usual files have 700."""
MAX_SCANS = 500
"""libjpeg-turbo's own fuzzers stop here; encoders write up to 15."""
MAX_SCAN_PIXELS = 1_000_000_000
"""Pixels that all scans of a picture visit, a scan of subsampled colours fewer. Scans that refine
all coefficients cost most, 1.3 s for so many; the usual 10 scans of 108 million pixels come to 0.9
billion."""
FULL_PIXELS = 25_000_000
"""A JPEG of more pixels is decoded at a part of its size; see `scale`."""
MAX_PIXELS = 200_000_000
"""Of a JPEG as stored: 16320 x 12240, the largest sensors of phones."""
LEAST_SIDE = 1024
"""Pixels of the short side that decoding at a part of the size should leave: four times 256."""
MOST_IN_FULL = 50_000_000
"""Pixels up to which a long picture is decoded in full where its short side would fall below
`LEAST_SIDE`."""
MAX_COEFFICIENT_BYTES = 400_000_000
"""Kept of a JPEG with several scans that is decoded at a part of its size; 108 million pixels with
subsampled colours take 324 million, 50 million without subsampling 301 million."""

_MARKER = re.compile(rb"\xff[^\x00\xff]")
# in coded data: neither a stuffed 0xFF nor a restart
_NEXT = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_EOI, _SOS, _COM = 0xD9, 0xDA, 0xFE
_APP0, _APP1, _APP14, _APP15 = 0xE0, 0xE1, 0xEE, 0xEF
_SEQUENTIAL = {0xC0, 0xC1}
_FRAMES = {*_SEQUENTIAL, 0xC2}
_OTHER_FRAMES = {0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}
"""Lossless, hierarchical and arithmetic-coded: no browser shows them, and an empty scan of the last
costs seconds."""
_TABLES = {0xC4, 0xDB, 0xDC, 0xDD}  # Huffman, quantisation, number of lines, restart interval
_RESTARTS = range(0xD0, 0xD8)
_FILL = b"\xff" * MAX_JUNK


@dataclass
class _Header:
    """What stands before the first scan."""

    kept: list[bytes] = field(default_factory=lambda: [b"\xff\xd8"])
    held: int = 0
    """EXIF orientation; 0 until EXIF was found."""
    frame: int = 0
    """Marker of the frame; 0 until it was found."""
    size: tuple[int, int] = (0, 0)
    """Width and height."""
    components: int = 0
    samples: list[tuple[int, int]] = field(default_factory=list)
    """(component, coefficients that its blocks hold); a damaged file may list one twice, or too
    few."""
    scan: int = 0
    """Where the first scan begins."""
    scan_components: int = 0

    @property
    def pixels(self) -> int:
        return self.size[0] * self.size[1]


def scale(width: int, height: int) -> int:
    """1, 2, 4 or 8: the part of its size, one half to one eighth, at which a JPEG is decoded.

    It follows from the picture alone, so that training, export, its proof and serving see the same
    pixels: the first part that leaves at most `FULL_PIXELS`. Up to there a picture is decoded in
    full. Above, more than 6.25 million pixels are left: of the shape 4:3 a short side of at least
    2165 (8160 x 6144 gives 4080 x 3072, and 12000 x 9000 gives 3000 x 2250), four times the input
    side of networks of up to 541 pixels; of 3:2 up to 510. A long picture of at most `MOST_IN_FULL`
    pixels whose short side would fall below `LEAST_SIDE` is decoded in full too.
    """
    if width * height <= FULL_PIXELS:
        return 1
    for part in (2, 4, 8):
        scaled_width, scaled_height = scaled(width, part), scaled(height, part)
        if scaled_width * scaled_height <= FULL_PIXELS:
            is_long = min(scaled_width, scaled_height) < LEAST_SIDE
            if is_long and width * height <= MOST_IN_FULL:
                return 1
            return part
    return 1


def scaled(length: int, part: int) -> int:
    """A side in pixels at one `part`-th, as libjpeg rounds it."""
    return -(-length // part)


def reduced_jpeg(data: bytes) -> Reduced:
    """The JPEG's first picture without EXIF, profiles, comments and thumbnails. Raises
    `Refused`."""
    header = _read(data)
    # several scans: each visits all pixels, so they are counted; a single one stays as it is
    if header.frame not in _SEQUENTIAL or header.scan_components != header.components:
        content = b"".join((*header.kept, *_scans(data, header), b"\xff\xd9"))
        coefficients = sum(count for _, count in header.samples)
        return Reduced(content, header.held or 1, header.size, 2 * coefficients)
    rest: bytes | memoryview = memoryview(data)[header.scan :]
    # looked for first, because replacing copies the whole file
    if data.find(_FILL, header.scan) >= 0:
        rest = data[header.scan :].replace(_FILL, b"\xff")
    return Reduced(b"".join((*header.kept, rest)), header.held or 1, header.size)


def without_metadata(data: bytes) -> bytes:
    """The JPEG with the same coded pixels, and of its metadata the orientation only. Raises
    `Refused`.

    Unlike `reduced_jpeg`, which leaves alone what a decoder does not read, this also drops what
    stands between scans and after the picture: phones put a second picture with its own EXIF there.
    """
    header = _read(data)
    kept = header.kept
    if header.held > 1:
        # directly after the first marker, where EXIF has to stand
        kept.insert(1, _segment(_APP1, block_of(header.held)))
    return b"".join((*kept, *_scans(data, header), b"\xff\xd9"))


def _scans(data: bytes, header: _Header) -> list[bytes]:
    """The scans and the tables between them, and nothing else: the decoder meets what was counted
    here.

    Raises `Refused` for more scans than a picture of its size may have.
    """
    kept, scans, visited = [], 0, 0
    for marker, start, end in _segments(data, header.scan):
        if marker == _SOS:
            scans += 1
            # the scan's header: number of components, then two bytes for each of at most four
            visited += _visited(data[start + 4 : start + 14], header)
        # while they are walked, so that a file of many scans is not walked to its end
        if scans > MAX_SCANS or visited > MAX_SCAN_PIXELS:
            raise Refused(
                f"too costly to decode: more than {scans - 1} scans of {header.pixels / 1e6:.3g} "
                "million pixels; save it as a baseline JPEG"
            )
        if marker in _TABLES or marker == _SOS:
            kept.append(data[start:end])
        elif not _APP0 <= marker <= _APP15 and marker != _COM:
            raise Refused(f"damaged: JPEG marker {marker:02X} after the first scan")
    return kept


def _visited(body: bytes, header: _Header) -> int:
    """Pixels that a scan visits, of the scan's header from its number of components on; at most all
    pixels."""
    if not body:
        return 0
    known = dict(header.samples)
    components = body[1 : 1 + 2 * body[0] : 2]
    return min(header.pixels, sum(known.get(component, header.pixels) for component in components))


def _segments(data: bytes, at: int) -> Iterator[tuple[int, int, int]]:
    """(marker, start, end) of each segment from the first scan to the end of the picture, scans
    with their data."""
    for _ in range(MAX_SEGMENTS):
        if not _MARKER.match(data, at):
            raise Refused("damaged: no JPEG marker where one belongs")
        marker = data[at + 1]
        if marker == _EOI:
            return
        end = _end(data, at + 2)
        if marker == _SOS:
            found = _NEXT.search(data, end)
            end = found.start() if found else len(data)
        yield marker, at, end
        at = end
    raise Refused(f"too costly to decode: more than {MAX_SEGMENTS} JPEG segments")


def _read(data: bytes) -> _Header:
    header, at, junk, table_bytes = _Header(), 2, 0, 0
    for _ in range(MAX_SEGMENTS):
        found = _MARKER.search(data, at, at + MAX_JUNK)
        junk += (found.start() if found else len(data)) - at
        if not found or junk > MAX_JUNK:
            raise Refused("damaged: no JPEG marker where one belongs, or it is truncated")
        marker, at = data[found.end() - 1], found.end()
        # has no length and no content
        if marker in _RESTARTS:
            continue
        end = _end(data, at)
        if marker == _SOS:
            _check_scan(header, data[at:end])
            header.scan = found.start()
            return header
        if marker in _OTHER_FRAMES:
            raise Refused(
                "a JPEG that is lossless, hierarchical or arithmetic-coded; save it as a usual one"
            )
        if marker in _FRAMES:
            _add_frame(header, marker, data[at:end])
        elif marker in _TABLES:
            header.kept.append(data[found.start() : end])
            table_bytes += end - at
        elif marker == _APP1 and not header.held and data[at + 2 : at + 8] == b"Exif\0\0":
            header.held = orientation(data[at + 2 : end])
        elif marker == _APP0 and data[at + 2 : at + 7] == b"JFIF\0" and end - at >= 16:
            # without its thumbnail
            header.kept.append(_segment(_APP0, data[at + 2 : at + 14] + bytes(2)))
        # kept, because it tells whether three components are RGB and four are inverted CMYK
        elif marker == _APP14 and data[at + 2 : at + 7] == b"Adobe" and end - at >= 14:
            header.kept.append(_segment(_APP14, data[at + 2 : at + 14]))
        elif not _APP0 <= marker <= _APP15 and marker != _COM:
            raise Refused(f"damaged: JPEG marker {marker:02X} before the first scan")
        if table_bytes > MAX_HEADER_BYTES:
            raise Refused(f"damaged: more than {MAX_HEADER_BYTES} bytes of JPEG tables")
        at = end
    raise Refused(f"damaged: more than {MAX_SEGMENTS} JPEG segments")


def _end(data: bytes, at: int) -> int:
    """Where the segment ends whose length stands at `at`."""
    end = at + int.from_bytes(data[at : at + 2])
    # the length counts its own two bytes
    if end < at + 2 or end > len(data):
        raise Refused("damaged: a JPEG segment is truncated")
    return end


def _add_frame(header: _Header, marker: int, body: bytes) -> None:
    if header.frame or len(body) < 8:
        raise Refused("damaged: its JPEG frame is not one")
    if body[2] == 12:  # medical pictures; every decoder of 8 bits calls them damaged
        raise Refused("a JPEG of 12 bits a colour, expected 8: save it with 8 bits")
    header.frame, header.components = marker, body[7]
    # a frame names lines before columns
    header.size = int.from_bytes(body[5:7]), int.from_bytes(body[3:5])
    header.samples = _samples(header.size, body[8 : 8 + 3 * header.components])
    header.kept.append(b"\xff" + bytes([marker]) + body)


def _samples(size: tuple[int, int], listed: bytes) -> list[tuple[int, int]]:
    """(component, coefficients in its blocks), which fill whole units of coding (T.81, A.2.4); 3
    bytes of `listed` each. Sampling factors that no decoder accepts count as 1."""
    factors = []
    across = down = 1
    for at in range(0, len(listed) - 2, 3):
        component, sampling = listed[at], listed[at + 1]
        wide, high = max(1, sampling >> 4), max(1, sampling & 15)
        factors.append((component, wide * high))
        across, down = max(across, wide), max(down, high)
    units = scaled(size[0], 8 * across) * scaled(size[1], 8 * down)
    return [(component, 64 * units * blocks) for component, blocks in factors]


def _check_scan(header: _Header, body: bytes) -> None:
    if not header.frame or len(body) < 3:
        raise Refused("damaged: a JPEG scan without its frame")
    header.scan_components = body[2]


def _segment(marker: int, content: bytes) -> bytes:
    return b"\xff" + bytes([marker]) + (len(content) + 2).to_bytes(2) + content
