"""The one decoder: training, evaluation, export checks and serving all use it.

`decode` guarantees, and the tests hold it to:
- RGB as the photographer saw it: EXIF orientation applied, alpha composited on white, 16-bit grey
  scaled instead of clipped, CMYK, palettes and 1 bit converted, the first frame of an animation, no
  metadata left on the result.
- Colours as stored: a profile (Adobe RGB, Display P3, that of a press) is not applied, so that no
  library of profiles changes pixels, and a picture in a wide space looks duller. CMYK becomes RGB
  by Pillow's plain formula.
- A JPEG of more than 25 million pixels is decoded at a part of its size that follows from the
  picture alone (`jpeg_file.scale`): 8160 x 6144 at one half takes 0.12 GB and 0.4 s, progressive
  0.23 GB and 1.1 s.
- Whatever the file holds, the only error is `BadImage(name, reason)`. Formats are told by content,
  and only those of `FORMATS` are tried, so that no other Pillow plugin (EPS starts Ghostscript)
  ever sees a file.
- Memory is bounded by the header (`max_pixels`, shape 20:1) before a pixel is decoded; a FIFO never
  blocks.
- Time is bounded by the structure: `zoo.picture.picture_file` walks the file first, and Pillow gets
  what pixels need only.
- Threads may call it freely. Pillow's settings are left alone; its own limit of 179 million pixels
  holds for all that is decoded in full.

Sources: Pillow clips 16-bit grey to white in `convert` (Pillow #2574, #4044, #5991); CVEs of its
rarer plugins and the list of formats: Pillow's handbook, "Security". Needs NumPy and Pillow only.
"""

import io
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile

from zoo.files.folders import read_regular
from zoo.host.errors import BadImage
from zoo.picture import jpeg_file, picture_file
from zoo.picture.exif import Refused
from zoo.picture.grey_bits import as_grey
from zoo.picture.opened import (
    DEFAULT,
    FORMATS,
    MAX_BYTES,
    MAX_PIXELS,
    Limits,
    Reserve,
    nothing,
    opened,
)

_TURN = Image.Transpose
_METHODS = {  # EXIF orientation -> what makes it upright
    2: _TURN.FLIP_LEFT_RIGHT, 3: _TURN.ROTATE_180, 4: _TURN.FLIP_TOP_BOTTOM, 5: _TURN.TRANSPOSE,
    6: _TURN.ROTATE_270, 7: _TURN.TRANSVERSE, 8: _TURN.ROTATE_90,
}  # fmt: skip
# What Pillow raises on damaged files (20,000 mutated files gave the first six; the rest are what
# its parsers can meet).
_FAILURES = (
    OSError, ValueError, SyntaxError, RuntimeError, Image.DecompressionBombError, struct.error,
    zlib.error, EOFError, TypeError, LookupError, ArithmeticError, AttributeError, AssertionError,
    MemoryError,
)  # fmt: skip


@dataclass(frozen=True)
class Decoded:
    """A picture, and what its decoding showed."""

    picture: Image.Image
    """Mode RGB."""
    bits_used: int = -1
    """Of a picture with samples of 16 bits: how many the largest takes, 0 to 16; -1 of all
    others."""


def decode(
    source: bytes | Path,
    *,
    name: str = "",
    max_pixels: int = MAX_PIXELS,
    max_bytes: int = MAX_BYTES,
    formats: tuple[str, ...] = FORMATS,
    reserve: Reserve = nothing,
) -> Image.Image:
    """Decode one picture to mode RGB, upright, on white.

    `source`: the encoded bytes, or the path of a regular file. `name`: what errors call it
    (default: the path). `max_pixels`, `max_bytes`: limits on width x height of what is decoded and
    on the encoded size. `formats`: those of `FORMATS` that are accepted. `reserve` is called once
    the header is accepted (`zoo.picture.opened.Reserve`). Raises `BadImage` only.
    """
    limits = Limits(max_pixels, max_bytes, formats)
    return decode_and_measure(source, name=name, limits=limits, reserve=reserve).picture


def decode_and_measure(
    source: bytes | Path, *, name: str = "", limits: Limits = DEFAULT, reserve: Reserve = nothing
) -> Decoded:
    """`decode`, with what is worth a finding where many pictures are alike;
    `zoo.picture.grey_bits.finding` makes it one."""
    name = name or _name_of(source)
    try:
        data = source
        if isinstance(data, Path):
            data = read_regular(data, limits.bytes, name=name)
        if len(data) > limits.bytes:
            raise Refused(f"larger than {limits.bytes / 1e6:g} MB")
        file = picture_file.reduced_picture(data, limits.formats)
        return _rgb(opened(file, limits, reserve), file.orientation)
    except Refused as refusal:
        raise BadImage(name, str(refusal)) from None
    except Image.DecompressionBombError:
        raise BadImage(
            name, f"too large: at most {limits.pixels / 1e6:g} million pixels are decoded"
        ) from None
    except MemoryError as error:
        raise BadImage(name, "not enough memory to decode it") from error
    except _FAILURES as error:
        detail = str(error).partition("\n")[0][:120].rstrip(". ")
        raise BadImage(name, f"damaged: {detail or type(error).__name__}") from error


def _name_of(source: bytes | Path) -> str:
    """What errors call a picture that was given no name."""
    return str(source) if isinstance(source, Path) else "picture"


def without_metadata(source: bytes | Path) -> tuple[str, bytes]:
    """(suffix, encoded picture) with the pixels of `source` as `decode` gives them, bit for bit,
    and nothing else.

    A JPEG keeps its coded pixels and its orientation; anything else becomes an upright PNG. Raises
    `BadImage`.
    """
    data = source
    if isinstance(data, Path):
        data = read_regular(data, MAX_BYTES)
    picture = decode(data, name=_name_of(source))
    # a JPEG stays one, because as a PNG it would be several times as large
    if data.startswith(b"\xff\xd8\xff"):
        try:
            clean = jpeg_file.without_metadata(data)
            # promised bit for bit, so that the answer to the cleaned picture is the same
            if decode(clean).tobytes() == picture.tobytes():
                return ".jpg", clean
        except (Refused, BadImage):
            pass  # an odd JPEG, which a PNG shows as well
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return ".png", buffer.getvalue()


def _rgb(picture: Image.Image, orientation: int) -> Decoded:
    # before `load`, which forgets the tiles that tell the raw mode
    of_16_bits = _of_16_bits(picture)
    picture.load()
    bits_used = -1
    if of_16_bits:  # of which Pillow keeps the upper 8
        colours = 1 if picture.mode == "LA" else 3
        bits_used = 8 + int(np.asarray(picture)[..., :colours].max()).bit_length()
    # Pillow's `convert` cuts these off at 255 instead of scaling them
    if picture.mode == "F" or picture.mode.startswith("I"):
        grey, bits_used = as_grey(picture)
        rgb = grey.convert("RGB")
    elif picture.has_transparency_data:
        rgba = picture.convert("RGBA")
        # `convert("RGB")` would drop alpha and show what lies under transparent places
        rgb = Image.new("RGB", rgba.size, (255, 255, 255))
        rgb.paste(rgba, mask=rgba)
    else:
        rgb = picture.convert("RGB")
    method = _METHODS.get(orientation)
    if method is not None:
        rgb = rgb.transpose(method)
    # profiles and comments would travel with the picture into whatever is saved from it
    rgb.info = {}
    return Decoded(rgb, bits_used)


def _of_16_bits(picture: Image.Image) -> bool:
    """Whether a picture that is not loaded yet has samples of 16 bits which Pillow makes 8: colour,
    or transparency."""
    if not isinstance(picture, ImageFile.ImageFile) or picture.mode not in ("RGB", "RGBA", "LA"):
        return False
    return any(";16" in str(tile.args) for tile in picture.tile)
