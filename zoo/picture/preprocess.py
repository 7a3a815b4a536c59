"""The one decoder and the one evaluation transform: training, evaluation, export checks and serving
all use these.

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

`evaluate` gives, bit for bit and on every version of Pillow, what
`timm.data.create_transform(**pretrained_cfg, is_training=False)` gives with Pillow 12 (timm 1.0.31
`transforms_imagenet_eval`, torchvision 0.29 `Resize`, `CenterCrop`, `ToTensor`, `Normalize`). timm
with Pillow 13 resizes tall pictures in another order; see `_resize`.

Sources: Pillow clips 16-bit grey to white in `convert` (Pillow #2574, #4044, #5991); CVEs of its
rarer plugins and the list of formats: Pillow's handbook, "Security". Needs NumPy and Pillow only.
"""

import io
import math
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFile

from zoo.files import fields
from zoo.files.folders import read_regular
from zoo.host.errors import BadImage, UserError
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
    name = name or (str(source) if isinstance(source, Path) else "picture")
    try:
        data = read_regular(source, limits.bytes, name=name) if isinstance(source, Path) else source
        if len(data) > limits.bytes:
            raise Refused(f"larger than {limits.bytes / 1e6:g} MB")
        file = picture_file.reduced(data, limits.formats)
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


def without_metadata(source: bytes | Path) -> tuple[str, bytes]:
    """(suffix, encoded picture) with the pixels of `source` as `decode` gives them, bit for bit,
    and nothing else.

    A JPEG keeps its coded pixels and its orientation; anything else becomes an upright PNG. Raises
    `BadImage`.
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


def _rgb(picture: Image.Image, orientation: int) -> Decoded:
    of_16_bits = _of_16_bits(picture)
    picture.load()
    bits_used = -1
    if of_16_bits:  # of which Pillow keeps the upper 8
        bits_used = (
            8 + int(np.asarray(picture)[..., : 1 if picture.mode == "LA" else 3].max()).bit_length()
        )
    if picture.mode == "F" or picture.mode.startswith("I"):
        grey, bits_used = as_grey(picture)
        rgb = grey.convert("RGB")
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
    return Decoded(rgb, bits_used)


def _of_16_bits(picture: Image.Image) -> bool:
    """Whether a picture that is not loaded yet has samples of 16 bits which Pillow makes 8: colour,
    or transparency."""
    tiles = picture.tile if isinstance(picture, ImageFile.ImageFile) else []
    return picture.mode in ("RGB", "RGBA", "LA") and any(";16" in str(tile.args) for tile in tiles)


FILTERS = {
    name: Image.Resampling[name.upper()]
    for name in ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos")
}
"""timm's names of Pillow's resampling filters."""
_CROP_MODES = ("squash", "center", "border")
LARGEST_SIDE = 4096
"""Of a model's input, in pixels; timm's largest is 1024."""
LEAST_CROP, LARGEST_CROP = 0.1, 10.0
"""Of crop_pct; timm's are 0.8 to 1."""
LARGEST_RESIZED = 8192
"""Short side in pixels that a picture is resized to before the crop: memory grows with its
square."""


@dataclass(frozen=True)
class Preprocessing:
    """How a decoded picture becomes a model's input: timm's names and meanings."""

    size: int
    """Side of the square input, in pixels."""
    crop_mode: str = "center"
    """`squash` distorts to the square; `center` keeps the shape and cuts the long side; `border`
    keeps all and pads."""
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
            (
                "size",
                type(self.size) is int and 1 <= self.size <= LARGEST_SIDE,
                f"1 to {LARGEST_SIDE} pixels",
            ),
            ("crop_mode", self.crop_mode in _CROP_MODES, " or ".join(_CROP_MODES)),
            (
                "crop_pct",
                _is_number(crop) and LEAST_CROP <= crop <= LARGEST_CROP,
                "a fraction from 0.1 to 10",
            ),
            (
                "interpolation",
                isinstance(self.interpolation, str) and self.interpolation in FILTERS,
                " or ".join(FILTERS),
            ),
            ("mean", _are_numbers(self.mean), "three numbers"),
            ("std", _are_numbers(self.std) and min(self.std) > 0, "three numbers above 0"),
        ):
            if not good:
                raise UserError(
                    f"preprocessing: {field} must be {expected}, not "
                    f"{fields.seen(getattr(self, field))}"
                )
        if self.size / crop > LARGEST_RESIZED:
            raise UserError(
                f"preprocessing: size / crop_pct must be at most {LARGEST_RESIZED} pixels, not "
                f"{self.size} / {crop}"
            )

    @staticmethod
    def from_config(pretrained_cfg: Mapping[str, Any]) -> "Preprocessing":
        """Read the `pretrained_cfg` of timm's config.json; a missing value means what it means to
        timm (the defaults).

        Raises `UserError` for an input that is not square RGB, or that names an unknown mode or
        filter.
        """
        if not isinstance(pretrained_cfg, Mapping):
            raise UserError(
                f"preprocessing: expected timm's pretrained_cfg, not {fields.seen(pretrained_cfg)}"
            )
        sides = pretrained_cfg.get("input_size") or (3, 224, 224)
        if (
            not isinstance(sides, list | tuple)
            or len(sides) != 3
            or sides[0] != 3
            or sides[1] != sides[2]
        ):
            raise UserError(
                f"preprocessing: input_size must be [3, S, S], not {fields.seen(_listed(sides))}"
            )
        names = ("crop_mode", "crop_pct", "interpolation", "mean", "std")
        given = {key: pretrained_cfg[key] for key in names if pretrained_cfg.get(key)}
        for key in {"mean", "std"} & given.keys():
            if not _are_numbers(given[key]):
                raise UserError(
                    f"preprocessing: {key} must be three numbers, not {fields.seen(given[key])}"
                )
            given[key] = tuple(map(float, given[key]))
        return Preprocessing(size=sides[1], **given)

    def to_config(self) -> dict[str, Any]:
        """The fields of timm's `pretrained_cfg`, ready for JSON."""
        sides = {"input_size": [3, self.size, self.size]}
        crop = {
            "crop_mode": self.crop_mode,
            "crop_pct": self.crop_pct,
            "interpolation": self.interpolation,
        }
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
    border = (
        tuple(round(255 * value) for value in pre.mean) if pre.crop_mode == "border" else (0, 0, 0)
    )
    square = Image.new("RGB", (pre.size, pre.size), border)
    square.paste(resized, (-left, -top))
    return np.array(square)


def normalise(pixels: np.ndarray, pre: Preprocessing) -> np.ndarray:
    """uint8 [S, S, 3] -> float32 [3, S, S]; the float32 operations and their order are
    torchvision's."""
    x_CHW = pixels.transpose(2, 0, 1).astype(np.float32, order="C")
    x_CHW /= np.float32(255)
    x_CHW -= np.array(pre.mean, np.float32)[:, None, None]
    x_CHW /= np.array(pre.std, np.float32)[:, None, None]
    return x_CHW


def _resize(picture: Image.Image, size: tuple[int, int], method: Image.Resampling) -> Image.Image:
    """Pillow's resize, across first and then down, on every version.

    Pillow 13 goes down first where that is faster; its pixels are rounded in between, so the result
    is another, by up to 18 levels on noise (ImagingResampleInner in Resample.c).
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
    """Where a centred crop begins; negative where the picture is shorter and is padded.
    torchvision's rounding."""
    return -((crop - length) // 2) if crop > length else round((length - crop) / 2)
