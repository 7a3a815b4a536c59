"""The deployed graph: from the pixels of a decoded picture to probabilities, as one torch module. Its single source.

    image uint8 [B, H, W, 3] -> resized, cropped, normalised views -> model -> mean, temperature -> outputs

Every size in the input may differ from call to call. What it computes is `zoo/picture/preprocess.py`,
`zoo/picture/tta.py` and
`zoo/contract/decision.py` over again, in tensor operations that exporters know; export/parity.py proves that it is the
same.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from zoo.contract.bundle import EMBEDDING, HEATMAP, PROBABILITIES, UNKNOWN_SCORE
from zoo.contract.decision import Decision
from zoo.network import class_maps
from zoo.network.build import forward
from zoo.picture import tta
from zoo.picture.preprocess import Preprocessing
from zoo.picture.tta import View

Resize = Literal["op", "exact", "matmul"]
"""How pictures are resized: by ONNX's Resize, which rounds exact halves otherwise than Pillow; by matrix products with
the very weights of Pillow; by the same in float32, since TensorRT takes neither Resize with antialias, nor float64, nor
uint8 into anything but a cast."""
ANTIALIASED = ("bilinear", "bicubic")
"""Filters for which ONNX's Resize with antialias equals Pillow's; others are computed as matrix products."""
SPLIT = 2**11
"""Pillow's weights are whole multiples of 2^-22."""


RADIUS = {"box": 0.5, "bilinear": 1.0, "hamming": 1.0, "bicubic": 2.0, "lanczos": 3.0}
"""Half width of Pillow's filters, in pixels of the smaller picture."""
FAR = 9.0
"""A distance at which every filter is 0."""


@dataclass(frozen=True)
class Parts:
    """What a deployed graph is made of."""

    model: nn.Module
    pre: Preprocessing
    decision: Decision
    bank: Tensor | None
    """float32 [references, D], rows of length 1; None without an unknown score."""


class Deployed(nn.Module):
    """The graph: `prepare`, `network` and `answer`, one after the other. `outputs` names what `forward` gives."""

    def __init__(self, parts: Parts, *, resize: Resize, half: bool = False):
        """`half`: the network in float16, its ends in float32."""
        super().__init__()
        self.resize, self.decision = resize, parts.decision
        model = copy.deepcopy(parts.model).eval().half() if half else parts.model.eval()
        self.prepare = Prepare(parts.pre, tta.VIEWS[parts.decision.views], resize=resize)
        has_map = class_maps.has_map(parts.model, parts.pre.size)
        self.network = Network(model, has_map=has_map, half=half)
        self.answer = Answer(model, parts, has_map=has_map)
        self.outputs = self.answer.outputs

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return self.answer(*self.network(self.prepare(image)))


class Network(nn.Module):
    """float32 [N, 3, S, S] -> logits [N, C], embedding [N, D] and, if it is used, the feature map, as the network's
    precision has them."""

    def __init__(self, model: nn.Module, *, has_map: bool, half: bool):
        super().__init__()
        self.model, self.half_network = model, half
        self.outputs = ["logits", "pooled", *(["feature_map"] if has_map else [])]

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, ...]:
        seen = forward(self.model, pixel_values.half() if self.half_network else pixel_values)
        return (seen.logits, seen.embedding, seen.feature_map)[:len(self.outputs)]


class Answer(nn.Module):
    """What the network says of B pictures in V views each -> the outputs for B pictures, in float32."""

    bank: Tensor
    shortest: Tensor

    def __init__(self, model: nn.Module, parts: Parts, *, has_map: bool):
        super().__init__()
        self.model, self.decision, unknown = model, parts.decision, parts.decision.unknown
        self.views = len(tta.VIEWS[parts.decision.views])
        # weights of the file, under these names: a file whose embeddings are rounded gets others (export/unknown.py)
        self.register_buffer("bank", None if parts.bank is None else parts.bank.T.contiguous())
        self.register_buffer("shortest", torch.tensor(unknown.shortest) if unknown else None)
        score, heatmap = [UNKNOWN_SCORE] if unknown else [], [HEATMAP] if has_map else []
        self.outputs = [PROBABILITIES, *score, EMBEDDING, *heatmap]

    def forward(self, logits: Tensor, pooled: Tensor, feature_map: Tensor | None = None) -> tuple[Tensor, ...]:
        p_BVC = logits.float().softmax(1).unflatten(0, (-1, self.views))
        tiny = torch.finfo(torch.float32).tiny
        probabilities = (p_BVC.mean(1).clamp(min=tiny).log() / self.decision.temperature).softmax(1)
        embedding = self.first(pooled.float())
        given = [probabilities]
        if self.decision.unknown is not None:
            unknown = self.decision.unknown
            length_B1 = embedding.square().sum(1, keepdim=True).sqrt()
            similarity = embedding / torch.maximum(length_B1, self.shortest) @ self.bank
            given.append(1 - similarity.topk(unknown.neighbours, dim=1).values[:, -1])
        given.append(embedding)
        if feature_map is not None:
            given.append(class_maps.heatmap(self.model, self.first(feature_map), probabilities.argmax(1)))
        return tuple(given)

    def first(self, x: Tensor) -> Tensor:
        """Of what was computed for all views, that of the first, which is the whole picture."""
        return x.unflatten(0, (-1, self.views))[:, 0]  # also of one view: no output may be an input of this piece


class Prepare(nn.Module):
    """uint8 [B, H, W, 3] -> float32 [B * views, 3, S, S], a picture's views together."""

    mean: Tensor
    std: Tensor

    def __init__(self, pre: Preprocessing, views: tuple[View, ...], *, resize: Resize):
        super().__init__()
        self.pre, self.views = pre, views
        # Resize takes no size that is rounded from floating point (border), and has no other filters of Pillow's
        fits = pre.crop_mode != "border" and pre.crop_pct <= 1 and pre.interpolation in ANTIALIASED
        self.matmul = resize != "op" or not fits
        self.exact = torch.float32 if resize == "matmul" else torch.float64
        self.register_buffer("mean", torch.tensor(pre.mean)[:, None, None])
        self.register_buffer("std", torch.tensor(pre.std)[:, None, None])

    def forward(self, image: Tensor) -> Tensor:
        return self.normalised(self.windows(image))

    def normalised(self, windows: Tensor) -> Tensor:
        """As the network was trained."""
        return (windows.float() / 255 - self.mean) / self.std

    def windows(self, image: Tensor) -> Tensor:
        """The views' pixels before normalisation, [B * views, 3, S, S] with whole values from 0 to 255."""
        x_BCHW, size = (image.float() if self.matmul else image).permute(0, 3, 1, 2), self.pre.size
        canvas = {zoom: self.canvas(x_BCHW, tta.zoomed_size(size, zoom))
                  for zoom in dict.fromkeys(view.zoom for view in self.views)}
        cut = []
        for view in self.views:
            left, top = tta.offsets(view, size)
            window = canvas[view.zoom][:, :, top:top + size, left:left + size]
            cut.append(window.flip(3) if view.mirrored else window)
        return cut[0] if len(cut) == 1 else torch.stack(cut, 1).flatten(0, 1)

    def canvas(self, x_BCHW: Tensor, size: int) -> Tensor:
        """`zoo.picture.preprocess.resize_crop` to this size."""
        pre = replace(self.pre, size=size)
        return by_products(x_BCHW, pre, self.exact) if self.matmul else by_resize(x_BCHW, pre)


def by_resize(x_BCHW: Tensor, pre: Preprocessing) -> Tensor:
    """Resize with antialias on uint8, then a centred crop: within one level of Pillow."""
    target = resized_short_side(pre)
    height, width = x_BCHW.shape[2:]
    short = torch.sym_min(height, width)
    sides: list[int] = [target if pre.crop_mode == "squash" else target * side // short for side in (height, width)]  # type: ignore[misc]
    resized = interpolate(x_BCHW, size=sides, mode=pre.interpolation, antialias=True, align_corners=False)
    for dim in (2, 3):
        spare = resized.shape[dim] - pre.size
        half = spare // 2  # half of what is cut off, halves to even
        resized = resized.narrow(dim, half + (spare % 2) * (half % 2), pre.size)
    return resized.reshape(*x_BCHW.shape[:2], pre.size, pre.size)  # the exporter does not know the size otherwise


def by_products(x_BCHW: Tensor, pre: Preprocessing, exact: torch.dtype) -> Tensor:
    """The same as matrix products with Pillow's weights, in Pillow's own fixed-point arithmetic.

    `x_BCHW` is float32 with whole values; `exact` is the type of sizes and places: float64 as in Pillow, and then the
    result equals Pillow's, or float32, where one value in 10,000 or less is a level off (box and nearest: more). The
    matrices have a row for each pixel of the result only, so that nothing here has a size that depends on a value.
    """
    height, width = resized_sides(x_BCHW, pre, exact)
    rows_SH, inside_height_S = weights(x_BCHW.shape[2], height, pre)
    columns_SW, inside_width_S = weights(x_BCHW.shape[3], width, pre)
    across = divided(*((x_BCHW @ part.T) for part in columns_SW))
    resized = divided(*((part @ across) for part in rows_SH))
    inside = inside_height_S[:, None] & inside_width_S
    colour = [round(255 * value) for value in pre.mean] if pre.crop_mode == "border" else [0, 0, 0]
    border_C11 = torch.tensor(colour, dtype=torch.float32, device=x_BCHW.device)[:, None, None]
    return torch.where(inside, resized, border_C11)


def divided(high: Tensor, low: Tensor) -> Tensor:
    """(high * SPLIT + low) / SPLIT^2 rounded half up and clipped, as Pillow does with integers of 32 bits.

    In two parts every product and sum is a whole number below 2^24, which float32 (and TF32's factors) hold exactly.
    """
    return ((high + (low / SPLIT).floor() + SPLIT / 2) / SPLIT).floor().clamp(0, 255)


def resized_short_side(pre: Preprocessing) -> int:
    """timm's size before the crop: of both sides (squash), the shorter (center) or the longer one (border)."""
    return math.floor(pre.size / pre.crop_pct)


def resized_sides(x_BCHW: Tensor, pre: Preprocessing, exact: torch.dtype) -> list[Tensor]:
    """Height and width before the crop, [1] each, rounded as zoo/picture/preprocess.py rounds them."""
    target = resized_short_side(pre)
    sides = [torch.full((1,), length, dtype=exact, device=x_BCHW.device) for length in x_BCHW.shape[2:]]
    if pre.crop_mode == "squash":
        return [torch.full_like(side, target) for side in sides]
    if pre.crop_mode == "border":
        ratio = torch.maximum(sides[1] / target, sides[0] / target)
        return [(side / ratio).round().clamp(min=1) for side in sides]
    short = torch.minimum(*sides)
    return [(target * side / short).floor() for side in sides]


def weights(length: int, resized: Tensor, pre: Preprocessing) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Pillow's weights along one dimension, and bool [S]: which pixels lie in the picture.

    The weights are whole multiples of 1 / SPLIT^2 as float32 [S, length] twice: how many times SPLIT, and the rest. The
    rows are those of the centred crop of S out of `resized` pixels. Pillow's `precompute_coeffs`, Resample.c.
    """
    spare = resized - pre.size
    cropped = torch.where(spare >= 0, (spare / 2).round(), -(-spare / 2).floor())  # round: halves to even
    place_S = torch.arange(pre.size, dtype=resized.dtype, device=resized.device) + cropped
    inside_S = (place_S >= 0) & (place_S < resized)
    scale = torch.full_like(resized, length) / resized  # number / tensor would be its reciprocal, rounded, times it
    index_N = torch.arange(length, dtype=resized.dtype, device=resized.device)
    centre_S1 = ((place_S + 0.5) * scale)[:, None]
    if pre.interpolation == "nearest":
        return _in_two_parts((index_N == centre_S1.floor()).to(resized.dtype)), inside_S
    if resized.dtype == torch.float64:  # Pillow's order of operations and bounds: box has edges to hit
        stretch = scale.clamp(min=1)
        support = RADIUS[pre.interpolation] * stretch
        first_S1, last_S1 = (centre_S1 - support + 0.5).floor(), (centre_S1 + support + 0.5).floor()
        far = (index_N < first_S1) | (index_N >= last_S1)
        distance_SN = ((index_N - centre_S1 + 0.5) * (1 / stretch)).masked_fill(far, FAR)
    else:  # one quotient of whole numbers, which float32 holds: no digits are lost far from the corner
        longer = resized.clamp(min=length)
        distance_SN = ((2 * index_N + 1) * resized - (2 * place_S[:, None] + 1) * length) / (2 * longer)
    value_SN = FILTERS[pre.interpolation](distance_SN)
    return _in_two_parts(value_SN / value_SN.sum(1, keepdim=True).clamp(min=1e-6)), inside_S


def _in_two_parts(value_SN: Tensor) -> tuple[Tensor, Tensor]:
    """Weights as Pillow rounds them, `normalize_coeffs_8bpc` in Resample.c."""
    fixed_SN = torch.sign(value_SN) * (value_SN.abs() * SPLIT**2 + 0.5).floor()
    high_SN = (fixed_SN / SPLIT).floor()
    return high_SN.float(), (fixed_SN - SPLIT * high_SN).float()


def _bicubic(x: Tensor) -> Tensor:
    """Pillow's polynomials (a = -0.5) as products, which lose no digits near their zeros in float32."""
    x = x.abs()
    near, far = (1 - x) * (1 + x - 1.5 * x * x), 0.5 * (1 - x) * (2 - x) * (2 - x)
    return torch.where(x < 1, near, torch.where(x < 2, far, 0.0))


FILTERS: dict[str, Callable[[Tensor], Tensor]] = {
    "box": lambda x: ((x > -0.5) & (x <= 0.5)).float(),
    "bilinear": lambda x: (1 - x.abs()).clamp(min=0),
    "hamming": lambda x: torch.where(x.abs() < 1, torch.sinc(x) * (0.54 + 0.46 * torch.cos(math.pi * x)), 0.0),
    "bicubic": _bicubic,
    "lanczos": lambda x: torch.where(x.abs() < 3, torch.sinc(x) * torch.sinc(x / 3), 0.0),
}
"""Pillow's filters (Resample.c): weight at a distance in pixels of the smaller picture."""
