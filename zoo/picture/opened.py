"""A picture with its header read and its size accepted, no pixel decoded: what may be opened, and
why not.

Formats are told by content, and only those of `FORMATS` are tried, so that no other Pillow plugin
ever sees a file. A JPEG of more pixels than `jpeg_file.FULL_PIXELS` is set to be decoded at a part
of its size.
"""

import io
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass

from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from zoo.files import file_kinds
from zoo.picture import jpeg_file, picture_file
from zoo.picture.exif import Reduced, Refused

# Plugins imported by name: `Image.open(formats=...)` raises KeyError for a format whose plugin
# nobody imported. The JPEG plugin also opens MPO, the several JPEGs in one file of many phones.
_PLUGINS = (
    JpegImagePlugin.JpegImageFile,
    PngImagePlugin.PngImageFile,
    WebPImagePlugin.WebPImageFile,
    BmpImagePlugin.BmpImageFile,
    GifImagePlugin.GifImageFile,
    TiffImagePlugin.TiffImageFile,
)
FORMATS = tuple(plugin.format for plugin in _PLUGINS)
"""Pillow's names of the formats that are opened; HEIF as well if pillow-heif is installed."""
MAX_BYTES = 50_000_000
"""Of an encoded picture, unless a caller says otherwise."""
MAX_PIXELS = 50_000_000
"""Decoded of one picture, unless a caller says otherwise."""
MAX_ASPECT = 20
"""Longest side over shortest: a 1x20,000 picture resized to a short side of 224 would take 3.9
GB."""
COEFFICIENT_BYTES_PER_PIXEL = 16
"""Of `max_pixels`: what a JPEG with several scans may keep while a part of its size is decoded."""

_SIGNATURES = {
    b"\xff\xd8\xff": "JPEG", b"\x89PNG": "PNG", b"BM": "BMP", b"GIF8": "GIF", b"II*\0": "TIFF",
    b"MM\0*": "TIFF", b"II+\0": "TIFF", b"MM\0+": "TIFF",
}  # fmt: skip

Reserve = Callable[[int], object]
"""Called with a picture's number of pixels as stored, before the first of them is decoded."""


@dataclass(frozen=True)
class Limits:
    """What a picture may be."""

    pixels: int = MAX_PIXELS
    """Width x height of what is decoded."""
    bytes: int = MAX_BYTES
    """Of the encoded picture."""
    formats: tuple[str, ...] = FORMATS
    """Pillow's names of what is accepted."""


DEFAULT = Limits()


def nothing(pixels: int) -> None:
    """A `Reserve` that does nothing."""


def opened(file: Reduced, limits: Limits, reserve: Reserve) -> Image.Image:
    """The picture that a reduced file holds; `reserve` is called when its size is accepted. Raises
    `Refused`, and what Pillow raises on damaged files."""
    _quieten()
    part = jpeg_file.scale(*file.jpeg_size)
    if part > 1:
        return _open_part(file, part, limits, reserve)
    # before Pillow opens it: for an extended WebP that allocates the canvas
    for size in (picture_file.canvas(file.data), file.jpeg_size):
        if all(size):
            _check_size(size, limits.pixels, is_jpeg=all(file.jpeg_size))
    try:
        # who names fewer formats does not want one more
        formats = limits.formats
        if formats == FORMATS and _is_heif(file.data):
            formats = ("HEIF",)
        picture = Image.open(io.BytesIO(file.data), formats=formats)
    except (Image.UnidentifiedImageError, KeyError):  # KeyError: a TIFF's compression
        raise Refused(_why_not(file, limits.formats)) from None
    # for the formats whose size was not known before
    _check_size(picture.size, limits.pixels, is_jpeg=all(file.jpeg_size))
    reserve(picture.width * picture.height)
    return picture


def _open_part(file: Reduced, part: int, limits: Limits, reserve: Reserve) -> Image.Image:
    """`opened` for a JPEG that is decoded at one `part`-th of its size."""
    width, height = file.jpeg_size
    if width * height > jpeg_file.MAX_PIXELS:
        raise Refused(
            f"too large: {width} x {height}, at most {jpeg_file.MAX_PIXELS / 1e6:g} million pixels "
            "of a JPEG are decoded; make it smaller"
        )
    _check_aspect(width, height)
    size = jpeg_file.scaled(width, part), jpeg_file.scaled(height, part)
    if size[0] * size[1] > limits.pixels:
        raise Refused(
            f"too large: {width} x {height}, at 1/{part} {size[0]} x {size[1]}, at most "
            f"{limits.pixels / 1e6:g} million pixels are decoded; make it smaller"
        )
    # a progressive JPEG is kept whole as coefficients, at whatever scale it is decoded
    kept = min(jpeg_file.MAX_COEFFICIENT_BYTES, COEFFICIENT_BYTES_PER_PIXEL * limits.pixels)
    if file.coefficient_bytes > kept:
        raise Refused(
            f"too costly to decode: a progressive JPEG of {width} x {height} takes "
            f"{file.coefficient_bytes / 1e6:.0f} MB, at most {kept / 1e6:.0f} MB are given; save "
            "it as a baseline JPEG, or make it smaller"
        )
    # not by Image.open, whose limit is meant for the size before the scaling
    picture = JpegImagePlugin.JpegImageFile(io.BytesIO(file.data))
    picture.draft(picture.mode, (width // part, height // part))
    # the header that Pillow reads may be another one than the one that was measured
    if picture.size != size:
        raise Refused("damaged: its header cannot be read")
    reserve(width * height)
    return picture


def _check_size(size: tuple[int, int], max_pixels: int, *, is_jpeg: bool) -> None:
    width, height = size
    if width * height > max_pixels:
        other = ""
        if not is_jpeg:
            most = f"{jpeg_file.MAX_PIXELS / 1e6:g} million"
            other = f", or save it as a JPEG, of which up to {most} are read"
        raise Refused(
            f"too large: {width} x {height}, at most {max_pixels / 1e6:g} million pixels are "
            f"decoded; make it smaller{other}"
        )
    _check_aspect(width, height)


def _check_aspect(width: int, height: int) -> None:
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise Refused(f"too elongated: {width} x {height}, at most {MAX_ASPECT}:1 is accepted")


def _quieten() -> None:
    """Ignore warnings that Pillow's modules issue (damaged EXIF, odd TIFF tags): what matters is
    raised."""
    # `warnings.catch_warnings` is not safe with threads, so one filter stays; it is put back only
    # if another has come before it, or the list of filters would grow with every picture
    if not warnings.filters or warnings.filters[0] != _QUIET:
        warnings.filterwarnings("ignore", module=r"PIL\.")


_QUIET = ("ignore", None, Warning, re.compile(r"PIL\."), 0)


def _is_heif(data: bytes) -> bool:
    """Whether this is a HEIF picture, whose optional plugin is then registered; refused without the
    plugin."""
    if data[4:8] != b"ftyp" or file_kinds.seen(data)[0] != "HEIF":
        return False
    try:
        import pillow_heif  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        raise Refused(
            'HEIF needs one more package: pip install "zootune[heif]"; or save it as JPEG'
        ) from None
    # here, not at import: it is optional, and registering twice does no harm
    pillow_heif.register_heif_opener()
    return True


def _why_not(file: Reduced, formats: tuple[str, ...]) -> str:
    """Why no decoder opens it."""
    signed = ""
    for prefix, name in _SIGNATURES.items():
        if file.data.startswith(prefix):
            signed = name
    if file.data[:4] == b"RIFF" and b"WEBP".startswith(file.data[8:12]):
        signed = "WEBP"
    if signed in formats:
        return file.unusual or "damaged: its header cannot be read"
    if formats == FORMATS and file_kinds.seen(file.data)[0] == "HEIF":
        return "damaged: its header cannot be read"
    *names, last = ("WebP" if name == "WEBP" else name for name in formats)
    return file_kinds.reason(file.data, f"a {', '.join(names)} or {last} picture", named=signed)
