"""Wide residual networks for pictures of 32 px (Zagoruyko and Komodakis, 2016): the one
architecture that timm lacks.

`import zoo.network.build` registers `wide_resnet40_10` with timm; then `timm.create_model` knows
it.
"""

from typing import Any

import torch
from timm.layers import create_classifier
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn

default_cfgs = generate_default_cfgs(
    {
        "wide_resnet40_10.untrained": {
            "input_size": (3, 32, 32),
            "num_classes": 100,
            "pool_size": (8, 8),
            "crop_pct": 1.0,
            "interpolation": "bicubic",
            "mean": (0.5071, 0.4865, 0.4409),
            "std": (0.2673, 0.2564, 0.2762),
            "first_conv": "stem",
            "classifier": "head",
            "license": "apache-2.0",
        }
    }
)
"""As timm's registry wants them; CIFAR-100's mean and standard deviation per channel; no
weights."""


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
        self.global_pool, self.head = create_classifier(width_in, num_classes)
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
