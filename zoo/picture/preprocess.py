"""The one evaluation transform: training, evaluation, export checks and serving all use it.

`evaluate` gives, bit for bit and on every version of Pillow, what
`timm.data.create_transform(**pretrained_cfg, is_training=False)` gives with Pillow 12 (timm 1.0.31
`transforms_imagenet_eval`, torchvision 0.29 `Resize`, `CenterCrop`, `ToTensor`, `Normalize`). timm
with Pillow 13 resizes tall pictures in another order; see `_resize`.

Needs NumPy and Pillow only.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from zoo.files import checks
from zoo.host.errors import UserError

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
        for field, good, expected in self._checks():
            if not good:
                raise UserError(
                    f"preprocessing: {field} must be {expected}, not "
                    f"{checks.seen(getattr(self, field))}"
                )
        if self.size / self.crop_pct > LARGEST_RESIZED:
            raise UserError(
                f"preprocessing: size / crop_pct must be at most {LARGEST_RESIZED} pixels, not "
                f"{self.size} / {self.crop_pct}"
            )

    def _checks(self) -> Iterator[tuple[str, bool, str]]:
        """(field, whether its value is one, what is expected)."""
        size, crop, interpolation = self.size, self.crop_pct, self.interpolation
        whole = type(size) is int  # True is none
        yield "size", whole and 1 <= size <= LARGEST_SIDE, f"1 to {LARGEST_SIDE} pixels"
        yield "crop_mode", self.crop_mode in _CROP_MODES, " or ".join(_CROP_MODES)
        good = _is_number(crop) and LEAST_CROP <= crop <= LARGEST_CROP
        yield "crop_pct", good, "a fraction from 0.1 to 10"
        good = isinstance(interpolation, str) and interpolation in FILTERS
        yield "interpolation", good, " or ".join(FILTERS)
        yield "mean", _are_numbers(self.mean), "three numbers"
        good = _are_numbers(self.std) and min(self.std) > 0
        yield "std", good, "three numbers above 0"

    @staticmethod
    def from_config(pretrained_cfg: Mapping[str, Any]) -> "Preprocessing":
        """Read the `pretrained_cfg` of timm's config.json; a missing value means what it means to
        timm (the defaults).

        Raises `UserError` for an input that is not square RGB, or that names an unknown mode or
        filter.
        """
        if not isinstance(pretrained_cfg, Mapping):
            raise UserError(
                f"preprocessing: expected timm's pretrained_cfg, not {checks.seen(pretrained_cfg)}"
            )
        sides = pretrained_cfg.get("input_size") or (3, 224, 224)
        if isinstance(sides, tuple):
            sides = list(sides)
        is_list = isinstance(sides, list) and len(sides) == 3
        if not is_list or sides[0] != 3 or sides[1] != sides[2]:
            raise UserError(
                f"preprocessing: input_size must be [3, S, S], not {checks.seen(sides)}"
            )
        names = ("crop_mode", "crop_pct", "interpolation", "mean", "std")
        # an empty text or list means timm's default, like a missing key
        values = {name: pretrained_cfg[name] for name in names if pretrained_cfg.get(name)}
        for name in {"mean", "std"} & values.keys():
            if not _are_numbers(values[name]):
                raise UserError(
                    f"preprocessing: {name} must be three numbers, not {checks.seen(values[name])}"
                )
            values[name] = tuple(map(float, values[name]))
        return Preprocessing(size=sides[1], **values)

    def to_config(self) -> dict[str, Any]:
        """The fields of timm's `pretrained_cfg`, ready for JSON."""
        sides = {"input_size": [3, self.size, self.size]}
        crop = {
            "crop_mode": self.crop_mode,
            "crop_pct": self.crop_pct,
            "interpolation": self.interpolation,
        }
        return sides | crop | {"mean": list(self.mean), "std": list(self.std)}


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
    # the whole picture, though a part is cut out: timm resizes before it crops
    resized = _resize(picture, _resized_size(picture.size, pre), FILTERS[pre.interpolation])
    left, top = _offset(resized.width, pre.size), _offset(resized.height, pre.size)
    if min(resized.size) >= pre.size:
        return np.array(resized.crop((left, top, left + pre.size, top + pre.size)))
    border = (0, 0, 0)
    if pre.crop_mode == "border":
        red, green, blue = pre.mean
        border = (round(255 * red), round(255 * green), round(255 * blue))
    square = Image.new("RGB", (pre.size, pre.size), border)
    square.paste(resized, (-left, -top))
    return np.array(square)


def normalise(pixels: np.ndarray, pre: Preprocessing) -> np.ndarray:
    """uint8 [S, S, 3] -> float32 [3, S, S]; the float32 operations and their order are
    torchvision's."""
    x_CHW = pixels.transpose(2, 0, 1).astype(np.float32, order="C")
    # divided, not multiplied by 1 / 255: the last bit would be another one
    x_CHW /= np.float32(255)
    x_CHW -= np.array(pre.mean, np.float32)[:, None, None]
    x_CHW /= np.array(pre.std, np.float32)[:, None, None]
    return x_CHW


def _resize(picture: Image.Image, size: tuple[int, int], method: Image.Resampling) -> Image.Image:
    """Pillow's resize, across first and then down, on every version."""
    width, height = size
    # Pillow 13 goes down first where that is faster; its pixels are rounded in between, so that the
    # result is another, by up to 18 levels on noise (ImagingResampleInner in Resample.c)
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
        # the long side fits exactly, the short one is padded
        ratio = max(width / target, height / target)
        return max(1, round(width / ratio)), max(1, round(height / ratio))
    # cut off, not rounded, as torchvision's Resize does
    long_side = int(target * max(size) / min(size))
    if width <= height:
        return target, long_side
    return long_side, target


def _offset(length: int, crop: int) -> int:
    """Where a centred crop begins; negative where the picture is shorter and is padded.
    torchvision's rounding."""
    if crop > length:
        return -((crop - length) // 2)
    return round((length - crop) / 2)
