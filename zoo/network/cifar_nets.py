"""Networks for pictures of 32 px, as CIFAR's, that timm lacks.

Wide residual networks (Zagoruyko and Komodakis, 2016), and timm's ResNets with the stem that is
usual on CIFAR: one 3x3 convolution of stride 1 in place of the 7x7 of stride 2, and no max pooling,
so that 32 px reach the last stage as 4 x 4 places instead of one.

`import zoo.network.build` registers `wide_resnet40_10`, `resnet18_cifar` and the others of
`CIFAR_RESNETS` with timm; then `timm.create_model` knows them.
"""

from typing import Any

import torch
from timm.layers import create_classifier
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import Tensor, nn

CIFAR = "_cifar"
"""What the names of timm's ResNets get appended for the stem of 32 px."""
STEM_WIDTH = 64
SE = {"attn_layer": "se"}
CIFAR_RESNETS: dict[str, dict[str, Any]] = {
    "resnet18": {"block": BasicBlock, "layers": (2, 2, 2, 2)},
    "resnet34": {"block": BasicBlock, "layers": (3, 4, 6, 3)},
    "resnet50": {"block": Bottleneck, "layers": (3, 4, 6, 3)},
    "resnet101": {"block": Bottleneck, "layers": (3, 4, 23, 3)},
    "resnet152": {"block": Bottleneck, "layers": (3, 8, 36, 3)},
    "seresnet18": {"block": BasicBlock, "layers": (2, 2, 2, 2), "block_args": SE},
    "seresnet34": {"block": BasicBlock, "layers": (3, 4, 6, 3), "block_args": SE},
    "seresnet50": {"block": Bottleneck, "layers": (3, 4, 6, 3), "block_args": SE},
    "resnext50_32x4d": {
        "block": Bottleneck,
        "layers": (3, 4, 6, 3),
        "cardinality": 32,
        "base_width": 4,
    },
    "wide_resnet50_2": {"block": Bottleneck, "layers": (3, 4, 6, 3), "base_width": 128},
}
"""timm's ResNets that also come with the stem of 32 px, and how timm builds them."""


def _configuration(first: str, head: str, places: int) -> dict[str, Any]:
    """As timm's registry wants it; CIFAR-100's mean and standard deviation per channel, no
    weights. `places`: of a side of the last feature map."""
    return {
        "input_size": (3, 32, 32),
        "num_classes": 100,
        "pool_size": (places, places),
        "crop_pct": 1.0,
        "interpolation": "bicubic",
        "mean": (0.5071, 0.4865, 0.4409),
        "std": (0.2673, 0.2564, 0.2762),
        "first_conv": first,
        "classifier": head,
        "license": "apache-2.0",
    }


default_cfgs = generate_default_cfgs(
    {
        "wide_resnet40_10.untrained": _configuration("stem", "head", 8),
        **{f"{name}{CIFAR}.untrained": _configuration("conv1", "fc", 4) for name in CIFAR_RESNETS},
    }
)


class Block(nn.Module):
    """Norm, ReLU, 3x3 convolution, twice, beside a shortcut (1x1 where the shape changes)."""

    def __init__(self, width_in: int, width: int, stride: int, drop_path: float):
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(width_in), nn.BatchNorm2d(width)
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.shortcut = (
            nn.Conv2d(width_in, width, 1, stride, bias=False) if width_in != width else None
        )
        self.drop_path = drop_path

    def forward(self, x: Tensor) -> Tensor:
        active = self.norm1(x).relu()
        branch = self.conv2(self.norm2(self.conv1(active)).relu())
        if self.training and self.drop_path:
            kept = torch.rand(len(x), 1, 1, 1, device=x.device) >= self.drop_path
            # divided, so that its mean stays the same and nothing need be scaled in evaluation
            branch = branch * kept / (1 - self.drop_path)
        return branch + (x if self.shortcut is None else self.shortcut(active))


class WideResNet(nn.Module):
    """`depth` = 6 n + 4 layers in three stages of n blocks, `widen` times as wide as 16, 32, 64."""

    def __init__(
        self,
        depth: int = 40,
        widen: int = 10,
        num_classes: int = 100,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ):
        super().__init__()
        self.num_classes, self.drop_rate = num_classes, drop_rate
        self.num_features = self.head_hidden_size = 64 * widen
        blocks_each = (depth - 4) // 6
        self.stem = nn.Conv2d(in_chans, 16, 3, 1, 1, bias=False)
        blocks: list[Block] = []
        width_in = 16
        for stage, width in enumerate((16 * widen, 32 * widen, 64 * widen)):
            for number in range(blocks_each):
                # rising to the deepest, as in timm
                rate = drop_path_rate * len(blocks) / (3 * blocks_each - 1)
                stride = 2 if stage and not number else 1
                blocks.append(Block(width_in, width, stride, rate))
                width_in = width
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.BatchNorm2d(width_in)
        self.global_pool, self.head = create_classifier(width_in, num_classes, global_pool)
        self.feature_info = [{"num_chs": width_in, "reduction": 4, "module": "norm"}]
        for module in self.modules():
            # torch's own start is for leaky ReLU; fan out, as in the published code of residual
            # networks
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    @torch.jit.ignore
    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Layers for layer-wise rates: the stem, each block, the last norm and the head."""
        return {"stem": r"^stem", "blocks": [(r"^blocks\.(\d+)", None), (r"^norm", (99999,))]}

    @torch.jit.ignore
    def get_classifier(self) -> nn.Module:
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str = "avg") -> None:
        self.num_classes = num_classes
        self.global_pool, self.head = create_classifier(
            self.num_features, num_classes, pool_type=global_pool
        )

    def forward_features(self, x: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, 640, H / 4, W / 4]."""
        return self.norm(self.blocks(self.stem(x))).relu()

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        pooled = nn.functional.dropout(self.global_pool(x), self.drop_rate, self.training)
        return pooled if pre_logits else self.head(pooled)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


@register_model
def wide_resnet40_10(pretrained: bool = False, **kwargs: Any) -> WideResNet:
    """WRN-40-10: 40 layers, ten times as wide; 55.8 million parameters with 100 classes."""
    return build_model_with_cfg(WideResNet, "wide_resnet40_10", pretrained, **kwargs)


def resnet_of_cifar(in_chans: int = 3, **arguments: Any) -> ResNet:
    """timm's ResNet with the stem of 32 px; the arguments are timm's."""
    network: Any = ResNet(in_chans=in_chans, **arguments)
    network.conv1 = nn.Conv2d(in_chans, STEM_WIDTH, 3, 1, 1, bias=False)
    # as timm starts the convolution that this one replaces
    nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    network.maxpool = nn.Identity()
    for stage in network.feature_info:
        stage["reduction"] = max(1, stage["reduction"] // 4)
    return network


def _register(name: str) -> None:
    def entrypoint(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        network: nn.Module = build_model_with_cfg(
            resnet_of_cifar, f"{name}{CIFAR}", pretrained, **CIFAR_RESNETS[name], **kwargs
        )
        return network

    # timm takes the name of an architecture from its function
    entrypoint.__name__ = f"{name}{CIFAR}"
    register_model(entrypoint)


for _name in CIFAR_RESNETS:
    _register(_name)
