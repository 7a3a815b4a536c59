"""GoogLeNet, SqueezeNet and ShuffleNetV2: networks that torchvision has with weights, and timm has
not.

`import zoo.network.build` registers them with timm under torchvision's names; then
`timm.create_model` knows them. Their layers are torchvision's own objects under their own names, so
that torchvision's files fit; the head is timm's. Three things differ from torchvision's functions:

- GoogLeNet has no auxiliary heads: torchvision's are random, as it says itself. Its weights are for
  pixels with mean and deviation 0.5. torchvision gets these by changing ImageNet's normalisation
  inside the network (`transform_input`); here the configuration says so, which is the same numbers.
- SqueezeNet's head is linear on pooled features. torchvision's has a ReLU behind the classifier,
  so that logits cannot fall below 0: no linear probe could start such a head, and a class whose
  logits are all 0 would learn nothing.
- Dropout before the head is the recipe's.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from timm.layers import create_classifier
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn
from torchvision import models

from zoo.bases.rows import TORCHVISION, TORCHVISION_FILES, TORCHVISION_URL

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5,) * 3, (0.5,) * 3)
NOT_KEPT = ("aux1", "aux2", "avgpool", "dropout", "fc", "classifier")
"""torchvision's parts behind the last feature map."""


@dataclass(frozen=True)
class Published:
    """What must be known of one of torchvision's networks."""

    network: Callable[[], nn.Module]
    """Makes it, with random weights."""
    first: str
    """Name of the first convolution."""
    head: str
    """torchvision's name of the classifier."""
    stages: tuple[str, ...]
    """The last layers of strides 2, 4, 8, 16 (and 32)."""
    width: int
    """Channels of the last feature map."""
    resized: int = 256
    """Pixels of the short side before torchvision's evaluation cuts 224 px out of the middle."""
    statistics: tuple[tuple[float, ...], ...] = IMAGENET
    """Mean and standard deviation per channel of the pixels that the weights are for."""


def _googlenet() -> nn.Module:
    network = models.GoogLeNet(aux_logits=False, init_weights=False)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            # torchvision cuts this off at 200 deviations, which takes it seconds
            nn.init.normal_(module.weight, std=0.01)
    return network


def _squeezenet(version: str) -> Callable[[], nn.Module]:
    return lambda: models.SqueezeNet(version)


def _shufflenet(name: str, width: int, resized: int = 256) -> Published:
    stages = ("conv1", "maxpool", "stage2", "stage3", "conv5")
    return Published(getattr(models, name), "conv1.0", "fc", stages, width, resized)


NETWORKS = {
    "googlenet": Published(
        _googlenet,
        "conv1.conv",
        "fc",
        ("conv1", "conv3", "inception3b", "inception4e", "inception5b"),
        1024,
        statistics=HALF,
    ),
    "squeezenet1_0": Published(
        _squeezenet("1_0"),
        "features.0",
        "classifier",
        ("features.1", "features.5", "features.10", "features.12"),
        512,
    ),
    "squeezenet1_1": Published(
        _squeezenet("1_1"),
        "features.0",
        "classifier",
        ("features.1", "features.4", "features.7", "features.12"),
        512,
    ),
    "shufflenet_v2_x0_5": _shufflenet("shufflenet_v2_x0_5", 1024),
    "shufflenet_v2_x1_0": _shufflenet("shufflenet_v2_x1_0", 1024),
    "shufflenet_v2_x1_5": _shufflenet("shufflenet_v2_x1_5", 1024, resized=232),
    "shufflenet_v2_x2_0": _shufflenet("shufflenet_v2_x2_0", 2048, resized=232),
}
"""torchvision's name -> its parts."""


def _configuration(published: str, licence: str | None) -> dict[str, Any]:
    """timm's configuration of a network, with what torchvision's weights say of their evaluation:
    bilinear with antialias, which is Pillow's filter."""
    parts = NETWORKS[published.partition(".")[0]]
    mean, std = parts.statistics
    return {
        "url": TORCHVISION_URL + TORCHVISION_FILES[published],
        "input_size": (3, 224, 224),
        "num_classes": 1000,
        "pool_size": None,
        "crop_pct": 224 / parts.resized,
        "interpolation": "bilinear",
        "mean": mean,
        "std": std,
        "first_conv": parts.first,
        "classifier": parts.head,
        "license": licence,
    }


default_cfgs = generate_default_cfgs(
    {published: _configuration(published, licence) for _, published, *_, licence, _ in TORCHVISION}
)
"""As timm's registry wants them."""


class TorchvisionNet(nn.Module):
    """The layers of one of torchvision's networks up to its last feature map, and a linear head on
    the mean over all places. Final."""

    def __init__(
        self,
        name: str,
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
    ):
        super().__init__()
        if in_chans != 3:
            raise ValueError(f"{name} takes pictures of 3 channels only, not in_chans={in_chans}")
        parts = NETWORKS[name]
        layers: list[str] = []
        for part, module in parts.network().named_children():
            if part in NOT_KEPT:
                continue
            self.add_module(part, module)
            inside = [f"{part}.{layer}" for layer, _ in module.named_children()]
            layers += inside if part == "features" else [part]
        self.layers, self.stages, self.head_name = tuple(layers), parts.stages, parts.head
        self.num_features = self.head_hidden_size = parts.width
        self.drop_rate = drop_rate
        self.reset_classifier(num_classes, global_pool)

    @torch.jit.ignore
    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Layers for layer-wise rates, in torchvision's order."""
        blocks = []
        for number, layer in enumerate(self.layers):
            blocks.append((rf"^{re.escape(layer)}\.", (number,)))
        return {"blocks": blocks}

    @torch.jit.ignore
    def get_classifier(self) -> nn.Module:
        return self.get_submodule(self.head_name)

    def reset_classifier(self, num_classes: int, global_pool: str = "avg") -> None:
        self.num_classes = num_classes
        self.global_pool, head = create_classifier(
            self.num_features, num_classes, pool_type=global_pool
        )
        setattr(self, self.head_name, head)

    def forward_features(self, x: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, D, h, w]."""
        for layer in self.layers:
            x = self.get_submodule(layer)(x)
        return x

    def forward_intermediates(
        self, x: Tensor, indices: Sequence[int] | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """The last feature map, and the maps of these stages (None: of all)."""
        stages = []
        for layer in self.layers:
            x = self.get_submodule(layer)(x)
            if layer in self.stages:
                stages.append(x)
        if indices is None:
            return x, stages
        return x, [stages[index] for index in indices]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        pooled = nn.functional.dropout(self.global_pool(x), self.drop_rate, self.training)
        return pooled if pre_logits else self.get_classifier()(pooled)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


def checkpoint_filter_fn(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """The tensors of torchvision's file under the names of the network here: no auxiliary heads,
    and SqueezeNet's 1x1 convolution as linear layer. timm calls it by this name."""
    renamed = {}
    for name, tensor in state.items():
        if name.startswith("classifier.1."):
            renamed[name.replace("classifier.1.", "classifier.")] = tensor.reshape(tensor.shape[:2])
        elif not name.startswith(("aux1.", "aux2.")):
            renamed[name] = tensor
    return renamed


def _register(name: str) -> None:
    def entrypoint(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        network: nn.Module = build_model_with_cfg(
            partial(TorchvisionNet, name),
            name,
            pretrained,
            pretrained_filter_fn=checkpoint_filter_fn,
            **kwargs,
        )
        return network

    # timm takes the name of an architecture from its function
    entrypoint.__name__ = name
    register_model(entrypoint)


for _name in NETWORKS:
    _register(_name)
