"""A collection of pictures that real folders hold and that decoders trip over; generated, nothing
is downloaded.

`write_bad_pictures(folder)` writes all of it. `BAD` must be refused with a reason, `ODD` must
decode, and each entry says what is to be seen: the reason (a regular expression) or the mean grey
level of the decoded picture.
"""

import io
import os
import struct
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

Maker = Callable[[], bytes]


def photo(width: int = 64, height: int = 48) -> Image.Image:
    """A smooth RGB picture without symmetry, mean level 107.85: red grows to the right, green
    downwards."""
    y, x = np.mgrid[0:height, 0:width]
    channels = (x * 255 / (width - 1), y * 255 / (height - 1), 30 + 64 * (x > y))
    return Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))


def encode(picture: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def grey_png(
    width: int, height: int, *, bits: int, rows: bytes, before: bytes = b"", after: bytes = b""
) -> bytes:
    """A greyscale PNG made by hand from its filtered rows, with further chunks before and after the
    header's."""
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    body = png_chunk(b"IHDR", header) + before + png_chunk(b"IDAT", zlib.compress(rows, 1)) + after
    return b"\x89PNG\r\n\x1a\n" + body + png_chunk(b"IEND", b"")


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def tiff(
    values: np.ndarray,
    *,
    width: int = 0,
    bits: int = 0,
    photometric: int = 1,
    sample_format: int = 1,
) -> bytes:
    """A little-endian, uncompressed TIFF of one channel; `values` are its raw samples, or bytes if
    `width` is given."""
    height, width = len(values), width or values.shape[1]
    data = values.tobytes()
    fields = {
        256: width,
        257: height,
        258: bits or values.itemsize * 8,
        259: 1,
        262: photometric,
        273: 8,
        277: 1,
        278: height,
        279: len(data),
        339: sample_format,
    }
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in fields.items())
    return (
        b"II*\0"
        + struct.pack("<I", 8 + len(data))
        + data
        + struct.pack("<H", len(fields))
        + directory
        + bytes(4)
    )


def ramp(dtype: type, top: float) -> np.ndarray:
    """[48, 64] values that grow evenly from 0 to `top`: mean grey level 127.5 once scaled."""
    return np.tile(np.linspace(0, top, 64), (48, 1)).astype(dtype)


def animation(kind: str) -> bytes:
    frames = [
        Image.new("RGB", (64, 48), colour) for colour in ((200, 0, 0), (0, 200, 0), (0, 0, 200))
    ]
    return encode(frames[0], kind, save_all=True, append_images=frames[1:], lossless=True)


def colour_under_alpha() -> Image.Image:
    """RGBA: left half opaque black, right half fully transparent with red hidden under it."""
    pixels = np.zeros((48, 64, 4), np.uint8)
    pixels[:, :32] = 0, 0, 0, 255
    pixels[:, 32:] = 255, 0, 0, 0
    return Image.fromarray(pixels)


def palette_with_transparency(transparency: int | bytes) -> bytes:
    picture = Image.fromarray(
        np.tile(np.repeat([0, 1], 32), (48, 1)).astype(np.uint8), "L"
    ).convert("P")
    picture.putpalette([0, 0, 0, 255, 0, 0])
    return encode(picture, "PNG", transparency=transparency)


def webp_of_huge_canvas() -> bytes:
    """An animated WebP of 12000 x 12000 with one small frame, 100 bytes."""
    still = encode(Image.new("RGB", (2, 2)), "WEBP", lossless=True)[12:]
    side = (11999).to_bytes(3, "little")
    frame = bytes(6) + (1).to_bytes(3, "little") * 2 + bytes(4) + still
    chunks = b"VP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + side + side
    chunks += (
        b"ANIM" + struct.pack("<I", 6) + bytes(6) + b"ANMF" + struct.pack("<I", len(frame)) + frame
    )
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


@cache
def jpeg() -> bytes:
    return encode(photo(), "JPEG", quality=90)


def zeroed_jpeg() -> bytes:
    start = len(jpeg()) - 40  # inside the entropy-coded data
    return jpeg()[:start] + bytes(20) + jpeg()[start + 20 :]


def damaged_exif(exif: bytes) -> bytes:
    segment = b"Exif\0\0" + exif
    return jpeg()[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + jpeg()[2:]


BAD: dict[str, tuple[Maker, str]] = {
    "half.jpg": (lambda: half(encode(photo(640, 480), "JPEG")), "damaged: .*truncated"),
    "header-only.jpg": (lambda: jpeg()[:20], "damaged"),
    "without-last-2-bytes.jpg": (lambda: jpeg()[:-2], "damaged: .*truncated"),
    "half.png": (lambda: half(encode(photo(), "PNG")), "damaged"),
    "half.webp": (lambda: half(encode(photo(), "WEBP")), "damaged"),
    "half.gif": (lambda: half(encode(photo(), "GIF")), "damaged"),
    "half.bmp": (lambda: half(encode(photo(), "BMP")), "damaged"),
    "half.tif": (lambda: half(encode(photo(), "TIFF")), "damaged"),
    "signature-only.png": (lambda: b"\x89PNG\r\n\x1a\n", "damaged: its header"),
    "empty.jpg": (lambda: b"", "empty"),
    "html.jpg": (lambda: b"\n<!DOCTYPE html><html><body>404 Not Found</body></html>", "HTML"),
    "svg.jpg": (lambda: b'<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
    "eps.jpg": (lambda: encode(photo(), "EPS"), "EPS; expected a JPEG"),
    "photoshop.png": (lambda: b"8BPS\0\1" + bytes(100), "Photoshop"),
    "pdf.jpg": (lambda: b"%PDF-1.7\n", "PDF"),
    "portable.ppm": (lambda: encode(photo(), "PPM"), "portable pixmap .* save it as JPEG"),
    "avif.jpg": (lambda: b"\0\0\0\x20ftypavif" + bytes(100), "AVIF"),
    ".DS_Store": (lambda: b"\0\0\0\1Bud1" + bytes(100), "notes on a folder"),
    "Thumbs.db": (lambda: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(100), "Thumbs.db"),
    "._x.jpg": (lambda: b"\0\5\x16\7\0\2\0\0Mac OS X        " + bytes(100), "AppleDouble"),
    "30000x30000.png": (
        lambda: grey_png(30000, 30000, bits=1, rows=bytes(30000 * 3751)),
        "too large",
    ),
    "12000x12000.png": (
        lambda: grey_png(12000, 12000, bits=1, rows=bytes(12000 * 1501)),
        "too large: 12000 x 12000, at most 50 million pixels",
    ),
    "canvas.webp": (webp_of_huge_canvas, "too large: 12000 x 12000"),
    "1x21.png": (
        lambda: encode(Image.new("RGB", (1, 21)), "PNG"),
        "too elongated: 1 x 21, at most 20:1",
    ),
    "20000x1.png": (
        lambda: encode(Image.new("RGB", (20000, 1)), "PNG"),
        "too elongated: 20000 x 1",
    ),
    "float-0-255.tif": (
        lambda: tiff(ramp(np.float32, 255), sample_format=3),
        "0 to 255; .* between 0 and 1",
    ),
    "float-nan.tif": (
        lambda: tiff(np.full((48, 64), np.nan, np.float32), sample_format=3),
        "between 0 and 1",
    ),
    "int32.tif": (
        lambda: tiff(ramp(np.int32, 10**6), sample_format=2),
        "integers of 32 bits .* save it with",
    ),
    "negative.tif": (
        lambda: tiff(ramp(np.int16, -9), sample_format=2),
        "integers of 16 bits from -9 to 0",
    ),
}
"""File name -> (content, the reason it is refused for)."""

ODD: dict[str, tuple[Maker, float]] = {
    "plain.jpg": (jpeg, 107.85),
    "no extension": (jpeg, 107.85),
    "line\nbreak and ünïcödé.jpg": (jpeg, 107.85),
    "png-named.jpg": (lambda: encode(photo(), "PNG"), 107.85),
    "trailing-bytes.jpg": (lambda: jpeg() + bytes(500), 107.85),
    "zeroed-20-bytes.jpg": (zeroed_jpeg, 107.85),
    "progressive.jpg": (lambda: encode(photo(), "JPEG", quality=90, progressive=True), 107.85),
    "two-pictures.mpo": (
        lambda: encode(photo(), "MPO", save_all=True, append_images=[photo()], quality=90),
        107.85,
    ),
    "exif-cut.jpg": (lambda: damaged_exif(b"II*\0\x08\0\0\0\x05\0\x12\x01"), 107.85),
    "exif-rubbish.jpg": (lambda: damaged_exif(b"rubbish" * 9), 107.85),
    "exif-offset.jpg": (lambda: damaged_exif(b"MM\0*\xff\xff\xff\xf0"), 107.85),
    "cmyk.jpg": (lambda: encode(photo().convert("CMYK"), "JPEG", quality=95), 107.85),
    "cmyk.tif": (lambda: encode(photo().convert("CMYK"), "TIFF"), 107.85),
    "grey.jpg": (lambda: encode(Image.new("L", (64, 48), 90), "JPEG"), 90),
    "picture.bmp": (lambda: encode(photo(), "BMP"), 107.85),
    "picture.webp": (lambda: encode(photo(), "WEBP", lossless=True), 107.85),
    "lzw.tif": (lambda: encode(photo(), "TIFF", compression="tiff_lzw"), 107.85),
    "one-bit.png": (lambda: encode(Image.fromarray(ramp(np.float32, 1) > 0.5), "PNG"), 127.5),
    "16-bit.png": (lambda: encode(Image.fromarray(ramp(np.uint16, 65535)), "PNG"), 127.5),
    "16-bit.tif": (lambda: tiff(ramp(np.uint16, 65535)), 127.5),
    "16-bit-big-endian.tif": (
        lambda: encode(Image.frombytes("I;16B", (64, 48), b"\x40\0" * 3072), "TIFF"),
        64,
    ),
    "16-bit-white-is-zero.tif": (
        lambda: tiff(np.full((48, 64), 51400, np.uint16), photometric=0),
        55,
    ),
    "16-bit-signed.tif": (lambda: tiff(np.full((48, 64), 25700, np.int16), sample_format=2), 100),
    "16-bit-colour.png": (
        lambda: (
            b"\x89PNG\r\n\x1a\n"
            + png_chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0))
            + png_chunk(b"IDAT", zlib.compress((b"\0" + b"\x80\x01" * 24) * 8))
            + png_chunk(b"IEND", b"")
        ),
        128,
    ),
    "16-bit-transparent-black.png": (
        lambda: grey_png(
            8,
            8,
            bits=16,
            rows=b"\0".join([b""] + [bytes(8) + b"\x40\x40" * 4] * 8),
            before=png_chunk(b"tRNS", bytes(2)),
        ),
        159.5,
    ),
    "12-bit.tif": (
        lambda: tiff(np.tile(np.array([0x80, 0x08, 0x00], np.uint8), (48, 32)), width=64, bits=12),
        127.5,
    ),
    "float.tif": (lambda: tiff(ramp(np.float32, 1), sample_format=3), 127.5),
    "palette-index-transparent.png": (lambda: palette_with_transparency(0), 170),
    "palette-alpha-bytes.png": (lambda: palette_with_transparency(b"\xff\0"), 127.5),
    "colour-under-alpha.png": (lambda: encode(colour_under_alpha(), "PNG"), 127.5),
    "colour-under-alpha.webp": (
        lambda: encode(colour_under_alpha(), "WEBP", lossless=True, exact=True),
        127.5,
    ),
    "colour-under-alpha.tif": (lambda: encode(colour_under_alpha(), "TIFF"), 127.5),
    "grey-alpha.png": (lambda: encode(Image.new("LA", (64, 48), (0, 51)), "PNG"), 204),
    "transparent-colour.png": (
        lambda: encode(Image.new("RGB", (8, 8), (9, 8, 7)), "PNG", transparency=(9, 8, 7)),
        255,
    ),
    "transparent-grey.png": (
        lambda: encode(Image.new("L", (64, 48), 9), "PNG", transparency=9),
        255,
    ),
    "animated.gif": (lambda: animation("GIF"), 200 / 3),
    "animated.png": (lambda: animation("PNG"), 200 / 3),
    "animated.webp": (lambda: animation("WEBP"), 200 / 3),
    "invalid-animation.png": (
        lambda: grey_png(
            8, 8, bits=8, rows=(b"\0" + b"\x50" * 8) * 8, before=png_chunk(b"acTL", bytes(8))
        ),
        80,
    ),
    "huge-text.png": (
        lambda: grey_png(
            8,
            8,
            bits=8,
            rows=bytes(72),
            before=png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**7))),
        ),
        0,
    ),
    "1x20.png": (lambda: encode(Image.new("RGB", (1, 20), (50, 50, 50)), "PNG"), 50),
    "1x1.gif": (lambda: encode(Image.new("L", (1, 1), 50), "GIF"), 50),
}
"""File name -> (content, mean level over all pixels and channels once decoded)."""


def write_bad_pictures(folder: Path) -> None:
    """Write every picture of `BAD` and `ODD`; beside them a FIFO and a folder that are named like
    pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (make, _) in (BAD | ODD).items():
        (folder / name).write_bytes(make())
    (folder / "folder.jpg").mkdir()
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "fifo.jpg")
