"""Learning rate, layer decay and weight decay of `auto`, by optimiser, base and number of pictures.

Each row names its source. What was not measured with this program says so in the reason that a run
prints.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from finetune.presets.anchors import interpolate
from finetune.presets.every_preset import is_heavy
from finetune.recipe.facts import Facts
from finetune.recipe.row import OFF

Anchors = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class RateRow:
    """A learning rate by number of pictures, and how it follows the batch."""

    rates: Anchors
    """Pictures and rate."""
    batch: int
    """The batch at which they hold."""
    scaling: Literal["square root", "linear", "none"]
    """How the rate grows with the batch."""
    source: str
    """Where it is from, as a reason shows it."""

    def rate(self, pictures: int, batch: int) -> float:
        """Return the rate for so many pictures at another batch, to two digits."""
        power = {"square root": 0.5, "linear": 1.0, "none": 0.0}[self.scaling]
        rate = interpolate(pictures, self.rates) * (batch / self.batch) ** power
        return float(f"{rate:.2g}")

    @property
    def why(self) -> str:
        """The reason for such a rate."""
        scaled = {
            "square root": f"times sqrt(batch / {self.batch})",
            "linear": f"times batch / {self.batch}",
            "none": "the same for any batch",
        }
        return f"{self.source}, {scaled[self.scaling]}"


@dataclass(frozen=True)
class Family:
    """How bases of one kind are fine-tuned with AdamW, by their authors or by common practice."""

    architectures: tuple[str, ...]
    """Beginnings of timm's names of architectures."""
    rate: float
    """At batch 512, for 1,000 pictures and more."""
    layer_decay: float
    """From one of twelve blocks to the next; 1 where layers share a rate."""
    drop_path: float
    """Stochastic depth of a base of 60 M parameters or more (ViT-B, ConvNeXt-B)."""
    source: str


FAMILIES = (
    Family(("convnext",), 5e-5, 0.8, 0.2, "ConvNeXt's from ImageNet-22k (Liu et al., 2022)"),
    Family(("swin",), 2e-5, 0.9, 0.2, "Swin's from ImageNet-22k (Liu et al., 2021)"),
    Family(("beit", "eva"), 2e-5, 0.85, 0.1, "BEiT's from ImageNet-22k (Bao et al., 2022)"),
    Family(("vgg", "resnetv2"), 1e-4, 1.0, 0.0, "the lower end of what is usual for ResNets"),
)
"""Published with 30 epochs of ImageNet-1k (Swin's without layer decay), but for the last."""
TRANSFORMER = Family(
    (), 1e-4, 0.75, 0.1, "the upper end of ViT's with AdamW (DeiT III, 2022: 1e-5 to 1e-4)"
)
"""Any other base without batch norms."""
FEW_PICTURES: Anchors = ((200, 0.5), (1_000, 1.0))
"""Share of a family's rate: lower on few pictures, so that training does not undo the probe.
Chosen."""
BLOCKS = 12
"""For which layer decay is published (ViT-B). A deeper base gets a milder one, so that its first
layer keeps the same share of the rate as with twelve blocks."""
LAYER_DECAYS = (0.65, 0.9)
"""Outside this range none is published."""
SMALL_BATCH_NORM = RateRow(
    ((200, 5e-4), (1_000, 7e-4)),
    32,
    "square root",
    "chosen between 5e-4 and 1e-3, measured on EfficientNet-Lite0 with 1,000 pictures "
    '(tests/bench/RESULTS.md, "Statistics of batch norms")',
)
"""AdamW for networks with batch norms and up to 5 M parameters. Of two measured rates, one was
better on digits and the other on emoji; 7e-4 itself, the rate at 200 and other bases were not
measured."""
SHARE_BY_PARAMETERS: Anchors = ((5, 1.0), (23.5, 0.3))
"""Million parameters of a network with batch norms, and its share of that rate: at 23.5 (ResNet-50)
and batch 64 the usual 1e-4 to 5e-4."""

SGD = RateRow(
    ((1_000, 1e-3), (100_000, 1e-2)),
    256,
    "linear",
    "published, not measured: PaddleClas, Tricks for Training, section 2.2.9",
)
SGD_TRANSFORMER = RateRow(
    ((1_000, 3e-3), (100_000, 3e-2)),
    512,
    "linear",
    "published, not measured: the grid of ViT fine-tunings, 1e-3 to 3e-2 (Steiner et al., 2022)",
)
OTHERS: Mapping[str, RateRow] = {
    "rmsprop": RateRow(
        ((1_000, 1.6e-3),),
        256,
        "linear",
        "a tenth of EfficientNet's training from scratch (Tan and Le, 2019), not measured",
    ),
    "adadelta": RateRow(
        ((1_000, 0.1),),
        256,
        "none",
        "a tenth of the method's own (Zeiler, 2012), at which digits fell to chance; not measured",
    ),
    "adagrad": RateRow(
        ((1_000, 1e-3),), 32, "square root", "a tenth of torch's own, chosen and not measured"
    ),
    "lars": RateRow(
        ((1_000, 1e-1),),
        256,
        "linear",
        "a tenth of the usual rate from scratch (You et al., 2017), not measured",
    ),
}
"""Optimisers whose rate does not depend on the base."""


def rate_row(facts: Facts, optimizer: str) -> RateRow:
    """Return the row for a base and an optimiser."""
    if optimizer in OTHERS:
        return OTHERS[optimizer]
    if optimizer in ("sgd", "momentum"):
        return SGD if facts.base.batch_norm else SGD_TRANSFORMER
    return _adamw(facts)


def _adamw(facts: Facts) -> RateRow:
    """Return the row for AdamW, Adam and Ranger."""
    if not facts.base.batch_norm:
        family = family_of(facts.base.architecture)
        rates = tuple((pictures, share * family.rate) for pictures, share in FEW_PICTURES)
        return RateRow(rates, 512, "square root", f"published, not measured: {family.source}")
    if facts.base.params_m <= SHARE_BY_PARAMETERS[0][0]:
        return SMALL_BATCH_NORM
    share = interpolate(facts.base.params_m, SHARE_BY_PARAMETERS)
    rates = tuple((pictures, share * rate) for pictures, rate in SMALL_BATCH_NORM.rates)
    return RateRow(
        rates,
        32,
        "square root",
        "from the rate of small bases to what is usual for ResNet-50; not measured",
    )


def family_of(architecture: str) -> Family:
    """Return how a base without batch norms is fine-tuned."""
    for family in FAMILIES:
        if architecture.startswith(family.architectures):
            return family
    return TRANSFORMER


def layer_decay(facts: Facts, given: Mapping[str, Any]) -> tuple[float, str]:
    """Choose the rate of each layer relative to the one above it."""
    family = family_of(facts.base.architecture)
    shared = facts.base.batch_norm or family.layer_decay == 1
    # random weights have no layers to keep, and LARS fits the rate of each layer itself
    if shared or given.get("from_scratch") or given.get("optimizer") == "lars":
        return 1.0, OFF
    blocks = max(facts.base.layers - 2, 1)  # besides patch embedding and head
    low, high = LAYER_DECAYS
    decay = min(max(family.layer_decay ** (BLOCKS / blocks), low), high)
    return round(decay, 2), f"published, not measured: {family.source}, for {blocks} blocks"


HEAVY_SHARE = 0.7
"""PaddleClas, Tricks for Training, section 2.2.4: 7e-5 instead of 1e-4."""
DECAY_OF_ADAMW: Anchors = ((10_000, 0.05), (1_000_000, 0.01))
"""Pictures and decoupled weight decay: less for more data, as PaddleClas advises. Fine-tunings on
ImageNet-1k publish 1e-8 (BEiT, ConvNeXt, Swin) to 0.05 (MAE)."""
DECAY_OF_SGD: Anchors = ((10_000, 1e-4), (1_000_000, 3e-5))
"""The same for decay that is part of the gradient: PaddleClas's 1e-4, and 1e-5 to 4e-5 for small
networks and much data."""


def weight_decay(facts: Facts, given: Mapping[str, Any]) -> tuple[float, str]:
    """Choose the weight decay, which means another thing for each kind of optimiser."""
    optimizer = given.get("optimizer", "adamw")
    if optimizer in ("adam", "ranger", "adagrad", "adadelta"):
        return 0.0, f"{optimizer} would scale it with the gradient (Loshchilov and Hutter, 2019)"
    anchors, kind = DECAY_OF_ADAMW, "default of AdamW fine-tuning"
    if optimizer != "adamw":
        anchors, kind = DECAY_OF_SGD, "published by PaddleClas, section 2.2.4"
    decay = interpolate(facts.pictures, anchors)
    if is_heavy(given):
        decay, kind = HEAVY_SHARE * decay, f"{kind}, {HEAVY_SHARE} of it with heavy augmentation"
    return float(f"{decay:.2g}"), f"{kind}; less for more pictures; not on biases and norms"
