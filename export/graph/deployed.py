"""The deployed graph: from the pixels of a decoded picture to probabilities, as one torch module.
Its single source.

    image uint8 [B, H, W, 3] -> resized, cropped, normalised views -> model -> mean, temperature ->
    outputs

Every size in the input may differ from call to call. What it computes is
`zoo/picture/preprocess.py`, `zoo/picture/tta.py` and `zoo/contract/decision.py` over again, in
tensor operations that exporters know; export/proof/parity.py proves that it is the same.
"""

import copy
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from export.graph.resize import ANTIALIASED, Resize, by_products, by_resize
from zoo.contract.bundle import EMBEDDING, HEATMAP, PROBABILITIES, UNKNOWN_SCORE
from zoo.contract.decision import Decision, Early
from zoo.network import class_maps
from zoo.network.forward import forward
from zoo.picture import tta
from zoo.picture.preprocess import Preprocessing
from zoo.picture.tta import View


@dataclass(frozen=True)
class DeployedParts:
    """What a deployed graph is made of."""

    model: nn.Module
    pre: Preprocessing
    decision: Decision
    bank: Tensor | None
    """float32 [references, D], rows of length 1; None without an unknown score."""


class Deployed(nn.Module):
    """The graph: `prepare`, `network` and `answer`, one after the other. `outputs` names what
    `forward` gives."""

    def __init__(self, parts: DeployedParts, *, resize: Resize, half: bool = False):
        """`half`: the network in float16, its ends in float32."""
        super().__init__()
        self.resize, self.decision = resize, parts.decision
        model = parts.model.eval()
        if half:
            # a copy, because `half` changes a module in place and the run's model is the reference
            # of the proof
            model = copy.deepcopy(model).half()
        self.prepare = Prepare(parts.pre, tta.VIEWS[parts.decision.views], resize=resize)
        has_map = class_maps.has_map(parts.model, parts.pre.size)
        self.network = Network(model, parts.decision.early, has_map=has_map, half=half)
        self.answer = AnswerGraph(parts.model.eval(), parts, has_map=has_map)
        self.outputs = self.answer.outputs

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return self.answer(*self.network(self.prepare(image)))


class Network(nn.Module):
    """float32 [N, 3, S, S] -> logits [N, C], embedding [N, D] and, if it is used, the feature map,
    in float32 whatever the precision inside."""

    def __init__(self, model: nn.Module, early: Early | None, *, has_map: bool, half: bool):
        """`early`: the stage that is joined to the embedding."""
        super().__init__()
        self.model, self.early, self.half_network = model, early, half
        self.outputs = ["logits", "pooled"]
        if has_map:
            self.outputs.append("feature_map")

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, ...]:
        if self.half_network:
            pixel_values = pixel_values.half()
        result = forward(self.model, pixel_values, self.early)
        values = (result.logits, result.embedding, result.feature_map)[: len(self.outputs)]
        # float32 from here on: softmax and distances would lose their digits in float16
        return tuple(value.float() for value in values)


class AnswerGraph(nn.Module):
    """What the network says of B pictures in V views each -> the outputs for B pictures, in
    float32."""

    bank: Tensor
    shortest: Tensor

    def __init__(self, model: nn.Module, parts: DeployedParts, *, has_map: bool):
        super().__init__()
        self.model, self.decision, unknown = model, parts.decision, parts.decision.unknown
        self.views = len(tta.VIEWS[parts.decision.views])
        # weights of the file, under these names: export/proof/unknown.py gives a file that rounds
        # others
        self.register_buffer("bank", None if parts.bank is None else parts.bank.T.contiguous())
        self.register_buffer("shortest", torch.tensor(unknown.shortest) if unknown else None)
        self.outputs = [PROBABILITIES]
        if unknown:
            self.outputs.append(UNKNOWN_SCORE)
        self.outputs.append(EMBEDDING)
        if has_map:
            self.outputs.append(HEATMAP)

    def forward(
        self, logits: Tensor, pooled: Tensor, feature_map: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        p_BVC = logits.softmax(1).unflatten(0, (-1, self.views))
        tiny = torch.finfo(torch.float32).tiny
        # the least float32, where zoo/contract/decision.py has float64's: a probability of 0 has no
        # logarithm
        probabilities = (p_BVC.mean(1).clamp(min=tiny).log() / self.decision.temperature).softmax(1)
        embedding = self.first(pooled)
        outputs = [probabilities]
        if self.decision.unknown is not None:
            unknown = self.decision.unknown
            length_B1 = embedding.square().sum(1, keepdim=True).sqrt()
            # cosine: the rows of the bank have length 1
            similarity = embedding / torch.maximum(length_B1, self.shortest) @ self.bank
            # topk, because ONNX has no partition
            outputs.append(1 - similarity.topk(unknown.neighbours, dim=1).values[:, -1])
        outputs.append(embedding)
        if feature_map is not None:
            outputs.append(
                class_maps.heatmap(self.model, self.first(feature_map), probabilities.argmax(1))
            )
        return tuple(outputs)

    def first(self, x: Tensor) -> Tensor:
        """Of what was computed for all views, that of the first, which is the whole picture."""
        # also of one view: no output may be an input of this piece
        return x.unflatten(0, (-1, self.views))[:, 0]


class Prepare(nn.Module):
    """uint8 [B, H, W, 3] -> float32 [B * views, 3, S, S], a picture's views together."""

    mean: Tensor
    std: Tensor

    def __init__(self, pre: Preprocessing, views: tuple[View, ...], *, resize: Resize):
        super().__init__()
        self.pre, self.views = pre, views
        # Resize takes no size that is rounded from floating point (border), and has no other
        # filters of Pillow's
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
        """The views' pixels before normalisation, [B * views, 3, S, S] with whole values from 0 to
        255."""
        if self.matmul:
            image = image.float()
        x_BCHW, size = image.permute(0, 3, 1, 2), self.pre.size
        canvas: dict[float, Tensor] = {}
        for view in self.views:
            if view.zoom not in canvas:
                canvas[view.zoom] = self.canvas(x_BCHW, tta.zoomed_size(size, view.zoom))
        cut = []
        for view in self.views:
            left, top = tta.offsets(view, size)
            window = canvas[view.zoom][:, :, top : top + size, left : left + size]
            if view.mirrored:
                window = window.flip(3)
            cut.append(window)
        if len(cut) == 1:
            return cut[0]
        return torch.stack(cut, 1).flatten(0, 1)

    def canvas(self, x_BCHW: Tensor, size: int) -> Tensor:
        """`zoo.picture.preprocess.resize_crop` to this size."""
        pre = replace(self.pre, size=size)
        return by_products(x_BCHW, pre, self.exact) if self.matmul else by_resize(x_BCHW, pre)
