"""The one decoder and the one evaluation transform: training, evaluation, export checks and serving all use these.

`decode` guarantees, and the tests hold it to:
- RGB as the photographer saw it: EXIF orientation applied, alpha composited on white, 16-bit grey scaled instead of
  clipped, CMYK, palettes and 1 bit converted, the first frame of an animation, no metadata left on the result.
- Whatever the file holds, the only error is `BadImage(name, reason)`. Formats are told by content, and only those
  of `FORMATS` are tried, so that no other Pillow plugin (EPS starts Ghostscript) ever sees a file.
- Memory is bounded by the header (`max_pixels`, shape 20:1) before a pixel is decoded; a FIFO never blocks.
- Time is bounded by the structure: `zoo.picture_file` walks the file first, and Pillow gets what pixels need only.
- Threads may call it freely. Pillow's settings are left alone, so its own limit of 179 million pixels holds as well.

`evaluate` gives, bit for bit and on every version of Pillow, what `timm.data.create_transform(**pretrained_cfg,
is_training=False)` gives with Pillow 12 (timm 1.0.31 `transforms_imagenet_eval`, torchvision 0.29 `Resize`,
`CenterCrop`, `ToTensor`, `Normalize`). timm with Pillow 13 resizes tall pictures in another order; see `_resize`.

Sources: Pillow clips 16-bit grey to white in `convert` (Pillow #2574, #4044, #5991); CVEs of its rarer plugins and
the list of formats: Pillow's handbook, "Security". Needs NumPy and Pillow only.
"""

import io
import math
import os
import re
import stat
import struct
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import BmpImagePlugin, GifImagePlugin, Image, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

from zoo import fields, jpeg_file, picture_file
from zoo.errors import BadImage, UserError
from zoo.exif import Refused

# Plugins imported by name: `Image.open(formats=...)` raises KeyError for a format whose plugin nobody imported.
# The JPEG plugin also opens MPO, the several JPEGs in one file of many phones.
_PLUGINS = (JpegImagePlugin.JpegImageFile, PngImagePlugin.PngImageFile, WebPImagePlugin.WebPImageFile,
            BmpImagePlugin.BmpImageFile, GifImagePlugin.GifImageFile, TiffImagePlugin.TiffImageFile)  # fmt: skip
FORMATS = tuple(plugin.format for plugin in _PLUGINS)
"""Pillow's names of the formats that are opened; HEIF as well if pillow-heif is installed."""
MAX_BYTES = 50_000_000
"""Of an encoded picture, unless a caller says otherwise."""
MAX_ASPECT = 20
"""Longest side over shortest: a 1x20,000 picture resized to a short side of 224 would take 3.9 GB."""

_SIGNATURES = {
    b"\xff\xd8\xff": "JPEG", b"\x89PNG": "PNG", b"RIFF": "WEBP", b"BM": "BMP", b"GIF8": "GIF", b"II*\0": "TIFF",
    b"MM\0*": "TIFF", b"II+\0": "TIFF", b"MM\0+": "TIFF",
}  # fmt: skip
_REFUSED_KINDS = {
    b"<": "text (HTML, SVG or XML)", b"%!PS": "EPS", b"\xc5\xd0\xd3\xc6": "EPS", b"%PDF": "PDF", b"8BPS": "Photoshop",
    b"SIMPLE": "FITS", b"PK\x03\x04": "a ZIP archive",
}  # fmt: skip
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_TURN = Image.Transpose
_METHODS = {  # EXIF orientation -> what makes it upright
    2: _TURN.FLIP_LEFT_RIGHT, 3: _TURN.ROTATE_180, 4: _TURN.FLIP_TOP_BOTTOM, 5: _TURN.TRANSPOSE,
    6: _TURN.ROTATE_270, 7: _TURN.TRANSVERSE, 8: _TURN.ROTATE_90,
}  # fmt: skip
# What Pillow raises on damaged files (20,000 mutated files gave the first six; the rest are what its parsers can meet).
_FAILURES = (
    OSError, ValueError, SyntaxError, RuntimeError, Image.DecompressionBombError, struct.error, zlib.error, EOFError,
    TypeError, LookupError, ArithmeticError, AttributeError, AssertionError, MemoryError,
)  # fmt: skip


def decode(
    source: bytes | Path, *, name: str = "", max_pixels: int = 50_000_000, max_bytes: int = MAX_BYTES,
    formats: tuple[str, ...] = FORMATS,
) -> Image.Image:
    """Decode one picture to mode RGB, upright, on white.

    `source`: the encoded bytes, or the path of a regular file. `name`: what errors call it (default: the path).
    `max_pixels`, `max_bytes`: limits on width x height and on the encoded size. `formats`: those of `FORMATS` that are
    accepted. Raises `BadImage` only.
    """
    name = name or (str(source) if isinstance(source, Path) else "picture")
    try:
        data = read_regular(source, max_bytes, name=name) if isinstance(source, Path) else source
        if len(data) > max_bytes:
            raise Refused(f"larger than {max_bytes / 1e6:g} MB")
        file = picture_file.reduced(data, formats)
        return _rgb(_open(file.data, max_pixels, formats), file.orientation)
    except Refused as refusal:
        raise BadImage(name, str(refusal)) from None
    except Image.DecompressionBombError:
        raise BadImage(name, f"too large: at most {max_pixels / 1e6:g} million pixels are decoded") from None
    except MemoryError as error:
        raise BadImage(name, "not enough memory to decode it") from error
    except _FAILURES as error:
        detail = str(error).partition("\n")[0][:120].rstrip(". ")
        raise BadImage(name, f"damaged: {detail or type(error).__name__}") from error


def without_metadata(source: bytes | Path) -> tuple[str, bytes]:
    """(suffix, encoded picture) with the pixels of `source` as `decode` gives them, bit for bit, and nothing else.

    A JPEG keeps its coded pixels and its orientation; anything else becomes an upright PNG. Raises `BadImage`.
    """
    data = read_regular(source, MAX_BYTES) if isinstance(source, Path) else source
    picture = decode(data, name=str(source) if isinstance(source, Path) else "")
    if data.startswith(b"\xff\xd8\xff"):
        try:
            clean = jpeg_file.without_metadata(data)
            if decode(clean).tobytes() == picture.tobytes():
                return ".jpg", clean
        except (Refused, BadImage):
            pass  # an odd JPEG, which a PNG shows as well
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return ".png", buffer.getvalue()


def read_regular(path: Path, max_bytes: int, *, name: str = "", follow: bool = True) -> bytes:
    """The bytes of a regular file, at most one more than `max_bytes`; `BadImage(name or path, reason)` otherwise.

    Without `follow` a path that is a link is refused. Never waits: without O_NONBLOCK a FIFO would wait for a writer.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    if not follow:
        flags |= getattr(os, "O_NOFOLLOW", 0)
    try:
        descriptor = os.open(path, flags)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise BadImage(name or str(path), "not a regular file")
            with open(descriptor, "rb", buffering=0, closefd=False) as file:
                return file.read(min(status.st_size, max_bytes) + 1)
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        reason = f"cannot be read: {getattr(error, 'strerror', None) or error}"
        raise BadImage(name or str(path), reason) from None


def _open(data: bytes, max_pixels: int, formats: tuple[str, ...]) -> Image.Image:
    """The picture with its header read and its size accepted, no pixel decoded."""
    _quieten()
    _check_size(picture_file.canvas(data), max_pixels)
    try:
        heif = formats == FORMATS and _is_heif(data)  # who names fewer formats does not want one more
        picture = Image.open(io.BytesIO(data), formats=("HEIF",) if heif else formats)
    except Image.UnidentifiedImageError:
        raise Refused(_why_not(data, formats)) from None
    _check_size(picture.size, max_pixels)
    return picture


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise Refused(f"too large: {width} x {height}, at most {max_pixels / 1e6:g} million pixels are decoded")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise Refused(f"too elongated: {width} x {height}, at most {MAX_ASPECT}:1 is accepted")


def _quieten() -> None:
    """Ignore warnings that Pillow's modules issue (damaged EXIF, odd TIFF tags): what matters is raised.

    `warnings.catch_warnings` is not safe with threads, so one filter stays, put back if another has come before it.
    """
    if not warnings.filters or warnings.filters[0] != _QUIET:
        warnings.filterwarnings("ignore", module=r"PIL\.")


_QUIET = ("ignore", None, Warning, re.compile(r"PIL\."), 0)


def _is_heif(data: bytes) -> bool:
    """Whether this is a HEIF picture, whose optional plugin is then registered; refused without the plugin."""
    if data[4:8] != b"ftyp" or data[8:12] not in _HEIF_BRANDS:
        return False
    try:
        import pillow_heif  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        raise Refused('HEIF needs one more package: pip install "zootune[heif]"') from None
    pillow_heif.register_heif_opener()
    return True


def _why_not(data: bytes, formats: tuple[str, ...]) -> str:
    if not data:
        return "the file is empty"
    signed = next((name for prefix, name in _SIGNATURES.items() if data.startswith(prefix)), "")
    if signed in formats or (formats == FORMATS and data[8:12] in _HEIF_BRANDS):
        return "damaged: its header cannot be read"
    start = data[:256].lstrip(b"\xef\xbb\xbf \t\r\n")
    seen = next((kind for prefix, kind in _REFUSED_KINDS.items() if start.startswith(prefix)), "")
    seen = "AVIF" if data[4:10] == b"ftypav" else "HEIF" if data[8:12] in _HEIF_BRANDS else seen or signed
    *names, last = ("WebP" if name == "WEBP" else name for name in formats)
    return f"{seen or 'of no known format'}; expected a {', '.join(names)} or {last} picture"


def _rgb(picture: Image.Image, orientation: int) -> Image.Image:
    picture.load()
    if picture.mode == "F" or picture.mode.startswith("I"):
        rgb = _grey_of_more_bits(picture).convert("RGB")
    elif picture.has_transparency_data:
        rgba = picture.convert("RGBA")
        rgb = Image.new("RGB", rgba.size, (255, 255, 255))
        rgb.paste(rgba, mask=rgba)
    else:
        rgb = picture.convert("RGB")
    method = _METHODS.get(orientation)
    if method is not None:
        rgb = rgb.transpose(method)
    rgb.info = {}
    return rgb


def _grey_of_more_bits(picture: Image.Image) -> Image.Image:
    """Grey of 12, 16 or 32 bits as mode L: 16 bits divided by 257, float times 255, both rounded to nearest."""
    tags: Mapping[int, Any] = getattr(picture, "tag_v2", {})
    bits = tags.get(TiffImagePlugin.BITSPERSAMPLE, (16,))[0]
    values = np.array(picture)
    low, high = values.min(), values.max()
    if picture.mode == "F":
        if not (low >= 0 and high <= 1):  # also refuses NaN
            raise Refused(f"float values from {low:g} to {high:g}; float pictures must lie between 0 and 1")
        grey = np.rint(values * 255).astype(np.uint8)
    elif bits > 16 or low < 0:
        raise Refused(f"integers of {bits} bits from {low} to {high}; save it with 8 or 16 bits, or as float 0 to 1")
    else:
        wide = values.astype(np.uint32)
        if bits == 12:
            wide = np.bitwise_or(wide << 4, wide >> 8, dtype=np.uint32)
        wide *= 255
        wide += 32895
        wide >>= 16  # now round(16 bits / 257), exactly
        grey = wide.astype(np.uint8)
    if tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0:  # white is zero; Pillow inverts 8 bits only
        grey = 255 - grey
    if "transparency" in picture.info:
        grey[values == picture.info["transparency"]] = 255
    return Image.fromarray(grey)


FILTERS = {
    name: Image.Resampling[name.upper()] for name in ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos")
}
"""timm's names of Pillow's resampling filters."""
_CROP_MODES = ("squash", "center", "border")
LARGEST_SIDE = 4096
"""Of a model's input, in pixels; timm's largest is 1024."""
LEAST_CROP, LARGEST_CROP = 0.1, 10.0
"""Of crop_pct; timm's are 0.8 to 1."""
LARGEST_RESIZED = 8192
"""Short side in pixels that a picture is resized to before the crop: memory grows with its square."""


@dataclass(frozen=True)
class Preprocessing:
    """How a decoded picture becomes a model's input: timm's names and meanings."""

    size: int
    """Side of the square input, in pixels."""
    crop_mode: str = "center"
    """`squash` distorts to the square; `center` keeps the shape and cuts the long side; `border` keeps all and pads."""
    crop_pct: float = 0.875
    """Resized to floor(size / crop_pct), then cropped to size."""
    interpolation: str = "bicubic"
    """Pillow's filter: nearest, bilinear, bicubic, box, hamming or lanczos."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """Subtracted from R, G, B, which lie between 0 and 1 (default: ImageNet's)."""
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    """Divides after `mean`."""

    def __post_init__(self) -> None:
        crop = self.crop_pct
        for field, good, expected in (
            ("size", type(self.size) is int and 1 <= self.size <= LARGEST_SIDE, f"1 to {LARGEST_SIDE} pixels"),
            ("crop_mode", self.crop_mode in _CROP_MODES, " or ".join(_CROP_MODES)),
            ("crop_pct", _is_number(crop) and LEAST_CROP <= crop <= LARGEST_CROP, "a fraction from 0.1 to 10"),
            ("interpolation", isinstance(self.interpolation, str) and self.interpolation in FILTERS,
             " or ".join(FILTERS)),
            ("mean", _are_numbers(self.mean), "three numbers"),
            ("std", _are_numbers(self.std) and min(self.std) > 0, "three numbers above 0"),
        ):
            if not good:
                raise UserError(f"preprocessing: {field} must be {expected}, not {fields.seen(getattr(self, field))}")
        if self.size / crop > LARGEST_RESIZED:
            raise UserError(f"preprocessing: size / crop_pct must be at most {LARGEST_RESIZED} pixels, not "
                            f"{self.size} / {crop}")

    @staticmethod
    def from_config(pretrained_cfg: Mapping[str, Any]) -> "Preprocessing":
        """Read the `pretrained_cfg` of timm's config.json; a missing value means what it means to timm (the defaults).

        Raises `UserError` for an input that is not square RGB, or that names an unknown mode or filter.
        """
        if not isinstance(pretrained_cfg, Mapping):
            raise UserError(f"preprocessing: expected timm's pretrained_cfg, not {fields.seen(pretrained_cfg)}")
        sides = pretrained_cfg.get("input_size") or (3, 224, 224)
        if not isinstance(sides, list | tuple) or len(sides) != 3 or sides[0] != 3 or sides[1] != sides[2]:
            raise UserError(f"preprocessing: input_size must be [3, S, S], not {fields.seen(_listed(sides))}")
        names = ("crop_mode", "crop_pct", "interpolation", "mean", "std")
        given = {key: pretrained_cfg[key] for key in names if pretrained_cfg.get(key)}
        for key in {"mean", "std"} & given.keys():
            if not _are_numbers(given[key]):
                raise UserError(f"preprocessing: {key} must be three numbers, not {fields.seen(given[key])}")
            given[key] = tuple(map(float, given[key]))
        return Preprocessing(size=sides[1], **given)

    def to_config(self) -> dict[str, Any]:
        """The fields of timm's `pretrained_cfg`, ready for JSON."""
        sides = {"input_size": [3, self.size, self.size]}
        crop = {"crop_mode": self.crop_mode, "crop_pct": self.crop_pct, "interpolation": self.interpolation}
        return sides | crop | {"mean": list(self.mean), "std": list(self.std)}


def _listed(sides: Any) -> Any:
    return list(sides) if isinstance(sides, tuple) else sides


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e9 < value < 1e9


def _are_numbers(values: Any) -> bool:
    """Whether these are three finite numbers, for R, G and B."""
    return isinstance(values, list | tuple) and len(values) == 3 and all(map(_is_number, values))


def evaluate(picture: Image.Image, pre: Preprocessing) -> np.ndarray:
    """RGB picture of any size -> float32 [3, S, S], as timm's evaluation transform gives it."""
    return normalise(resize_crop(picture, pre), pre)


def resize_crop(picture: Image.Image, pre: Preprocessing) -> np.ndarray:
    """RGB picture of any size -> uint8 [S, S, 3]."""
    resized = _resize(picture, _resized_size(picture.size, pre), FILTERS[pre.interpolation])
    left, top = (_offset(length, pre.size) for length in resized.size)
    if min(resized.size) >= pre.size:
        return np.array(resized.crop((left, top, left + pre.size, top + pre.size)))
    border = tuple(round(255 * value) for value in pre.mean) if pre.crop_mode == "border" else (0, 0, 0)
    square = Image.new("RGB", (pre.size, pre.size), border)
    square.paste(resized, (-left, -top))
    return np.array(square)


def normalise(pixels: np.ndarray, pre: Preprocessing) -> np.ndarray:
    """uint8 [S, S, 3] -> float32 [3, S, S]; the float32 operations and their order are torchvision's."""
    x_CHW = pixels.transpose(2, 0, 1).astype(np.float32, order="C")
    x_CHW /= np.float32(255)
    x_CHW -= np.array(pre.mean, np.float32)[:, None, None]
    x_CHW /= np.array(pre.std, np.float32)[:, None, None]
    return x_CHW


def _resize(picture: Image.Image, size: tuple[int, int], method: Image.Resampling) -> Image.Image:
    """Pillow's resize, across first and then down, on every version.

    Pillow 13 goes down first where that is faster; its pixels are rounded in between, so the result is another, by up
    to 18 levels on noise (ImagingResampleInner in Resample.c).
    """
    width, height = size
    if picture.height - height > max(0, 2 * (picture.width - width)):  # Pillow 13's condition
        picture = picture.resize((width, picture.height), method)
    return picture.resize(size, method)


def _resized_size(size: tuple[int, int], pre: Preprocessing) -> tuple[int, int]:
    """Width and height before the crop, rounded as timm and torchvision do."""
    width, height = size
    target = math.floor(pre.size / pre.crop_pct)
    if pre.crop_mode == "squash":
        return target, target
    if pre.crop_mode == "border":
        ratio = max(width / target, height / target)
        return max(1, round(width / ratio)), max(1, round(height / ratio))
    long_side = int(target * max(size) / min(size))
    return (target, long_side) if width <= height else (long_side, target)


def _offset(length: int, crop: int) -> int:
    """Where a centred crop begins; negative where the picture is shorter and is padded. torchvision's rounding."""
    return -((crop - length) // 2) if crop > length else round((length - crop) / 2)
