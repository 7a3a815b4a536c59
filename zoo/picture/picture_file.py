"""What a picture costs is bounded before a decoder sees it: its container is walked, and only what
pixels need stays.

`reduced_picture` gives Pillow a file of the same format with the first picture alone: no EXIF,
text, profile, comment or further frame is left that a parser could trip over. The number of parts
(segments, chunks, blocks, entries, scans) is bounded, bodies are copied and never unpacked, and no
step takes more than linear time. What is damaged inside the parts that stay is left for the decoder
to find.

Formats are told by content. Standard library only.
"""

import struct
from collections.abc import Callable, Collection

from zoo.picture import jpeg_file, tiff_file
from zoo.picture.exif import MAX_BLOCK, Reduced, Refused, orientation

MAX_CHUNKS = 65_536
"""Chunks of a PNG or WebP. 50 MB in libpng's blocks of 8 KB are 6,100."""
MAX_BLOCKS = 250_000
"""Sub-blocks of a GIF up to the end of its first picture. 50 MB in full blocks are 196,000."""
MAX_RLE_BYTES = 1_000_000
"""Of a run-length coded BMP, which Pillow decodes in Python: 500,000 codes take 0.6 s."""
MAX_RLE_PIXELS = 4_000_000
"""The same for its pixels."""

_PNG_KEPT = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
_WEBP_KEPT = {b"VP8X", b"ALPH", b"VP8 ", b"VP8L", b"ANIM", b"ANMF"}
_WEBP_DROPPED_FLAGS = 0x20 | 0x08 | 0x04  # profile, EXIF, XMP
_RLE = (1, 2)


def reduced_picture(
    data: bytes, formats: Collection[str] = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
) -> Reduced:
    """The file with only what the pixels of its first picture need, and how that was held.

    `data` of none of these `formats` (Pillow's names) comes back as it is. Raises `Refused`.
    """
    for prefix, kind, reduce in _REDUCERS:
        if data.startswith(prefix):
            return reduce(data) if kind in formats else Reduced(data)
    return Reduced(data)


def _png(data: bytes) -> Reduced:
    """Without text, EXIF, profiles and the frames of an animation; its first frame is the picture
    that stays.

    From the first chunk that Pillow refuses, nothing but that chunk's header is kept, so that
    Pillow refuses it.
    """
    view, at, block = memoryview(data), 8, b""
    kept: list[bytes | memoryview] = [data[:8]]
    for _ in range(MAX_CHUNKS):
        if at + 8 > len(data):
            kept.append(data[at:])
            break
        length, name = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        # chunks are kept with their checksum, which the decoder tests
        if name in _PNG_KEPT:
            kept.append(view[at:end])
        # + 4: a chunk that lacks its checksum only is none that Pillow refuses
        elif end > len(data) + 4 or not name.replace(b"_", b"a").isalnum():
            kept.append(data[at : at + 8])
            break
        elif name == b"eXIf":
            # one byte more than is accepted, so that a block that is too large is seen to be so
            block = data[at + 8 : min(end - 4, at + 8 + MAX_BLOCK + 1)]
        if name == b"IEND":
            break
        at = end
    else:
        raise Refused(f"damaged: more than {MAX_CHUNKS} PNG chunks")
    return Reduced(b"".join(kept), orientation(block))


def _gif(data: bytes) -> Reduced:
    """The screen, its palette, which colour is transparent, the first picture."""
    if len(data) < 13:
        raise Refused("damaged: it is truncated")
    at = 13 + _palette_bytes(data[10])
    kept, control, blocks = [data[:at]], b"", 0
    while blocks < MAX_BLOCKS:
        introducer = data[at : at + 1]
        blocks += 1
        if introducer == b"!":
            if _is_transparent(data, at):
                # How a frame is disposed of matters to the next frame only; Pillow would reserve
                # memory for it.
                control = b"!\xf9\x04\x01\0\0" + data[at + 6 : at + 7] + b"\0"
            # extensions are counted with the picture's own blocks: thousands of empty ones cost
            # time as well
            at, blocks = _after_blocks(data, at + 2, blocks)
        elif introducer == b",":
            if len(data) < at + 10:
                break
            end, _ = _after_blocks(data, at + 11 + _palette_bytes(data[at + 9]), blocks)
            return Reduced(b"".join((*kept, control, memoryview(data)[at:end])))
        elif introducer in (b"", b";"):
            break
        else:
            at += 1
    if blocks >= MAX_BLOCKS:
        raise Refused(f"damaged: more than {MAX_BLOCKS} GIF blocks")
    raise Refused("damaged: a GIF that ends before its first picture")


def _is_transparent(data: bytes, at: int) -> bool:
    """Whether a GIF's extension at this place says that one colour is transparent."""
    if data[at + 1 : at + 2] != b"\xf9" or len(data) <= at + 7:
        return False
    return data[at + 2] >= 4 and data[at + 3] & 1 == 1


def _palette_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 128 else 0


def _after_blocks(data: bytes, at: int, blocks: int) -> tuple[int, int]:
    """Where a chain of sub-blocks ends (at most the end of the file), and the number of blocks up
    to there."""
    # a block of length 0 ends the chain
    while at < len(data) and (size := data[at]):
        at += size + 1
        blocks += 1
        if blocks > MAX_BLOCKS:
            raise Refused(f"damaged: more than {MAX_BLOCKS} GIF blocks")
    return min(at + 1, len(data)), blocks


def canvas(data: bytes) -> tuple[int, int]:
    """Width and height of an extended WebP, which Pillow allocates before it tells them; (0, 0) of
    all else."""
    if data[:4] != b"RIFF" or data[8:16] != b"WEBPVP8X" or len(data) < 30:
        return 0, 0
    return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")


def _webp(data: bytes) -> Reduced:
    """Without EXIF, XMP, profile, and all frames of an animation but the first."""
    # RIFF holds sound and films too
    if data[8:12] != b"WEBP":
        return Reduced(data)
    end = min(len(data), 8 + int.from_bytes(data[4:8], "little"))
    view, at, block, framed = memoryview(data), 12, b"", False
    kept: list[bytes | memoryview] = []
    for _ in range(MAX_CHUNKS):
        if at + 8 > end:
            break
        name, size = struct.unpack_from("<4sI", data, at)
        # chunks of RIFF are padded to an even length
        after = at + 8 + size + (size & 1)
        if name == b"VP8X" and at + 8 < end:
            # the flags say which chunks follow: they have to agree with what is left
            kept += [
                data[at : at + 8],
                bytes([data[at + 8] & ~_WEBP_DROPPED_FLAGS]),
                view[at + 9 : min(after, end)],
            ]
        elif name in _WEBP_KEPT and not (name == b"ANMF" and framed):
            kept.append(view[at : min(after, end)])
            framed = framed or name == b"ANMF"
        elif name == b"EXIF" and not block:
            block = data[at + 8 : min(at + 8 + size, end, at + 8 + MAX_BLOCK + 7)]
        at = after
    else:
        raise Refused(f"damaged: more than {MAX_CHUNKS} WebP chunks")
    body = b"".join(kept)
    return Reduced(b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body, orientation(block))


def _bmp(data: bytes) -> Reduced:
    """As it is, unless it is run-length coded and large."""
    if len(data) >= 34 and data[14] != 12 and int.from_bytes(data[30:34], "little") in _RLE:
        width, height = struct.unpack_from("<Ii", data, 18)
        # a negative height means that rows stand from top to bottom
        if len(data) > MAX_RLE_BYTES or width * abs(height) > MAX_RLE_PIXELS:
            raise Refused(
                f"too costly to decode: a run-length coded BMP of {width} x {abs(height)}, at most "
                f"{MAX_RLE_PIXELS / 1e6:g} million pixels and {MAX_RLE_BYTES / 1e6:g} MB are "
                "decoded"
            )
    return Reduced(data)


_REDUCERS: tuple[tuple[bytes | tuple[bytes, ...], str, Callable[[bytes], Reduced]], ...] = (
    (b"\xff\xd8\xff", "JPEG", jpeg_file.reduced_jpeg), (b"\x89PNG\r\n\x1a\n", "PNG", _png),
    ((b"GIF87a", b"GIF89a"), "GIF", _gif), (b"RIFF", "WEBP", _webp), (b"BM", "BMP", _bmp),
    (tiff_file.SIGNATURES, "TIFF", tiff_file.reduced_tiff),
)  # fmt: skip
