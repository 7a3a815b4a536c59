"""Pillow's resizing in tensor operations that exporters know: ONNX's Resize, or products with
Pillow's own weights."""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from zoo.picture.preprocess import Preprocessing

Resize = Literal["op", "matmul"]
"""How pictures are resized: by ONNX's Resize, which rounds exact halves otherwise than Pillow; or
by matrix products in float32, since TensorRT takes neither Resize with antialias, nor float64, nor
uint8 into anything but a cast."""
ANTIALIASED = ("bilinear", "bicubic")
"""Filters for which ONNX's Resize with antialias equals Pillow's; others are computed as matrix
products. They are polynomials, whose weights are exact in float32; those of the others are so in
float64."""
SPLIT = 2**11
"""Pillow's weights are whole multiples of 2^-22."""
FINE = 128
"""Steps of a pixel at which the bicubic polynomial is a whole multiple of 2^-22."""
HALF = 0.5 + 2**-12
"""Pillow rounds halves up; a little less is a half too, since weights are known to some 2^-13
then."""
RADIUS = {"box": 0.5, "bilinear": 1.0, "hamming": 1.0, "bicubic": 2.0, "lanczos": 3.0}
"""Half width of Pillow's filters, in pixels of the smaller picture."""
FAR = 9.0
"""A distance at which every filter is 0."""


def by_resize(x_BCHW: Tensor, pre: Preprocessing) -> Tensor:
    """Resize with antialias on uint8, then a centred crop: within one level of Pillow."""
    target = resized_short_side(pre)
    height, width = x_BCHW.shape[2:]
    # not min(), which would fix the sizes of the traced picture
    short = torch.sym_min(height, width)
    sides: list[int] = [
        target if pre.crop_mode == "squash" else target * side // short  # type: ignore[misc]
        for side in (height, width)
    ]
    resized = interpolate(
        x_BCHW, size=sides, mode=pre.interpolation, antialias=True, align_corners=False
    )
    for dim in (2, 3):
        spare = resized.shape[dim] - pre.size
        half = spare // 2  # half of what is cut off, halves to even
        resized = resized.narrow(dim, half + (spare % 2) * (half % 2), pre.size)
    # the exporter does not know the size otherwise
    return resized.reshape(*x_BCHW.shape[:2], pre.size, pre.size)


def by_products(x_BCHW: Tensor, pre: Preprocessing, exact: torch.dtype) -> Tensor:
    """The same as matrix products with Pillow's weights, in Pillow's own fixed-point arithmetic.

    `x_BCHW` is float32 with whole values; `exact` is the type of sizes and places. The result
    equals Pillow's, but for rare ties where a side has thousands of pixels (one row of a picture of
    12,000 px was seen a level off), and for filters that are not in `ANTIALIASED` with `exact`
    float32: one value in 10,000 or less is a level off there (box and nearest: more). The matrices
    have a row for each pixel of the result only, so that nothing here has a size that depends on a
    value.
    """
    height, width = resized_sides(x_BCHW, pre, exact)
    rows_SH, inside_height_S = weights(x_BCHW.shape[2], height, pre)
    columns_SW, inside_width_S = weights(x_BCHW.shape[3], width, pre)
    # across first and then down, rounded in between, as Pillow 12 does
    across = divided(x_BCHW @ columns_SW[0].T, x_BCHW @ columns_SW[1].T)
    resized = divided(rows_SH[0] @ across, rows_SH[1] @ across)
    inside = inside_height_S[:, None] & inside_width_S
    colour = [0, 0, 0]
    if pre.crop_mode == "border":
        colour = [round(255 * value) for value in pre.mean]
    border_C11 = torch.tensor(colour, dtype=torch.float32, device=x_BCHW.device)[:, None, None]
    return torch.where(inside, resized, border_C11)


def divided(high: Tensor, low: Tensor) -> Tensor:
    """(high * SPLIT + low) / SPLIT^2 rounded half up and clipped, as Pillow does with integers of
    32 bits.

    In two parts every product and sum is a whole number below 2^24, which float32 (and TF32's
    factors) hold exactly.
    """
    return ((high + (low / SPLIT).floor() + SPLIT / 2) / SPLIT).floor().clamp(0, 255)


def resized_short_side(pre: Preprocessing) -> int:
    """timm's size before the crop: of both sides (squash), the shorter (center) or the longer one
    (border)."""
    return math.floor(pre.size / pre.crop_pct)


def resized_sides(x_BCHW: Tensor, pre: Preprocessing, exact: torch.dtype) -> list[Tensor]:
    """Height and width before the crop, [1] each, rounded as zoo/picture/preprocess.py rounds
    them."""
    target = resized_short_side(pre)
    sides = [
        torch.full((1,), length, dtype=exact, device=x_BCHW.device) for length in x_BCHW.shape[2:]
    ]
    if pre.crop_mode == "squash":
        return [torch.full_like(side, target) for side in sides]
    if pre.crop_mode == "border":
        ratio = torch.maximum(sides[1] / target, sides[0] / target)
        return [(side / ratio).round().clamp(min=1) for side in sides]
    short = torch.minimum(*sides)
    rounded = [(target * side / short).floor() for side in sides]
    return [
        most - (most * short > target * side).to(exact)
        for most, side in zip(rounded, sides, strict=True)
    ]


def weights(
    length: int, resized: Tensor, pre: Preprocessing
) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Pillow's weights along one dimension, and bool [S]: which pixels lie in the picture.

    The weights are whole multiples of 1 / SPLIT^2 as float32 [S, length] twice: how many times
    SPLIT, and the rest. The rows are those of the centred crop of S out of `resized` pixels.
    Pillow's `precompute_coeffs`, Resample.c.
    """
    spare = resized - pre.size
    # round: halves to even
    cropped = torch.where(spare >= 0, (spare / 2).round(), -(-spare / 2).floor())
    place_S = torch.arange(pre.size, dtype=resized.dtype, device=resized.device) + cropped
    inside_S = (place_S >= 0) & (place_S < resized)
    if pre.interpolation in ANTIALIASED:
        return _of_polynomial(length, resized.float(), place_S.float(), pre.interpolation), inside_S
    # number / tensor would be its reciprocal, rounded, times it
    scale = torch.full_like(resized, length) / resized
    index_N = torch.arange(length, dtype=resized.dtype, device=resized.device)
    centre_S1 = ((place_S + 0.5) * scale)[:, None]
    if pre.interpolation == "nearest":
        return _in_two_parts((index_N == centre_S1.floor()).to(resized.dtype)), inside_S
    stretch = scale.clamp(min=1)  # Pillow's order of operations and bounds: box has edges to hit
    support = RADIUS[pre.interpolation] * stretch
    first_S1, last_S1 = (centre_S1 - support + 0.5).floor(), (centre_S1 + support + 0.5).floor()
    far = (index_N < first_S1) | (index_N >= last_S1)
    distance_SN = ((index_N - centre_S1 + 0.5) * (1 / stretch)).masked_fill(far, FAR)
    value_SN = FILTERS[pre.interpolation](distance_SN)
    return _in_two_parts(value_SN / value_SN.sum(1, keepdim=True).clamp(min=1e-6)), inside_S


def _in_two_parts(value_SN: Tensor) -> tuple[Tensor, Tensor]:
    """Weights as Pillow rounds them, `normalize_coeffs_8bpc` in Resample.c."""
    fixed_SN = torch.sign(value_SN) * (value_SN.abs() * SPLIT**2 + 0.5).floor()
    high_SN = (fixed_SN / SPLIT).floor()
    return high_SN.float(), (fixed_SN - SPLIT * high_SN).float()


FILTERS: dict[str, Callable[[Tensor], Tensor]] = {
    "box": lambda x: ((x > -0.5) & (x <= 0.5)).float(),
    "hamming": lambda x: torch.where(
        x.abs() < 1, torch.sinc(x) * (0.54 + 0.46 * torch.cos(math.pi * x)), 0.0
    ),
    "lanczos": lambda x: torch.where(x.abs() < 3, torch.sinc(x) * torch.sinc(x / 3), 0.0),
}
"""Pillow's filters (Resample.c) that are no polynomials: weight at a distance in pixels of the
smaller picture."""


# --- polynomials: whole numbers below 2^24, which no other order of operations and no fused one
# rounds differently


def _of_polynomial(
    length: int, resized: Tensor, place_S: Tensor, interpolation: str
) -> tuple[Tensor, Tensor]:
    """Pillow's weights, float32 [S, length] twice, correct to some 2^-13 of their last digit before
    they are rounded.

    The distance between two centres is a quotient of whole numbers: |(2i + 1) resized - (2p + 1)
    length| over twice the longer of both.
    """
    index_N = torch.arange(length, dtype=resized.dtype, device=resized.device)
    whole = 2 * resized.clamp(min=length)
    distance_SN = ((2 * index_N + 1) * resized - (2 * place_S[:, None] + 1) * length).abs()
    if interpolation == "bilinear":
        value_SN = (whole - distance_SN).clamp(min=0)
        return _shares(value_SN, torch.zeros_like(value_SN))
    return _shares(*_bicubic(distance_SN, whole))


def _bicubic(distance_SN: Tensor, whole: Tensor) -> tuple[Tensor, Tensor]:
    """2^22 times Pillow's polynomials (a = -0.5) at distance / whole, as a whole number and a small
    rest.

    With u = 2 - x and v = 1 - x, or 0 where that is negative, they are (u^3 - u^2) / 2 - 2 v^3 +
    v^2: a whole number at each 1 / FINE, and by Taylor's series a little further, where only the
    rest is rounded.
    """
    left_SN = FINE * (2 * whole - distance_SN).clamp(min=0)
    u = (left_SN / whole).round()
    further = left_SN - u * whole  # at most half of `whole`
    near = (distance_SN < whole).float()
    v = (u - FINE) * near
    slope = u * (3 * u - 2 * FINE) - v * (12 * v - 4 * FINE)
    bend = 3 * u - FINE - near * (12 * v - 2 * FINE)
    step = further / whole
    along = (slope * further / whole).round()
    value_SN = u * u * (u - FINE) - v * v * (4 * v - 2 * FINE) + along
    rest_SN = (slope * further - along * whole) / whole + step * step * (
        bend + step * (1 - 4 * near)
    )
    return value_SN, rest_SN


def _shares(value_SN: Tensor, rest_SN: Tensor) -> tuple[Tensor, Tensor]:
    """Weights in two parts: the share of value + rest in its row, in units of 1 / SPLIT^2, rounded
    as Pillow does.

    Each part is a digit of a long division in base SPLIT.
    """
    high_SN = (value_SN / SPLIT).round()
    low_SN = (value_SN - high_SN * SPLIT) + rest_SN
    high_S1, low_S1 = high_SN.sum(1, keepdim=True), low_SN.sum(1, keepdim=True)
    total_S1 = (high_S1 + low_S1 / SPLIT).clamp(min=1e-6)
    first_SN = (SPLIT * (high_SN + low_SN / SPLIT) / total_S1).round()
    left_SN = SPLIT * ((SPLIT * high_SN - first_SN * high_S1) + low_SN) - first_SN * low_S1
    second_SN = left_SN / total_S1
    sign_SN = torch.sign(value_SN + rest_SN)
    return first_SN, sign_SN * (sign_SN * second_SN + HALF).floor()
