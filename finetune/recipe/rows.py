"""Types and rows of the fields that have an effect only with another one: how strong an
augmentation is, what a loss or a schedule takes.

The usual strengths are those that the functions had before they could be set, so a recipe of an
earlier version trains as it did.
"""

from typing import Annotated, Literal, NamedTuple

from finetune.recipe.row import OFF, Row

WITH_ERASING = "used with erasing"
WITH_GRIDMASK = "used with gridmask"
BY_RANDAUGMENT = "used by policy randaugment"
RANDAUGMENT = ("policy", "randaugment")
AUGMIX = ("policy", "augmix")


class Magnitude(NamedTuple):
    """What one of RandAugment's scales says of its magnitude."""

    usual: int
    most: int
    why: str


MAGNITUDES = {
    "torchvision": Magnitude(9, 30, BY_RANDAUGMENT),
    "paddleclas": Magnitude(
        5, 10, f"{BY_RANDAUGMENT}; published: PaddleClas, ResNet50_RandAugment.yaml: magnitude 5"
    ),
    "timm": Magnitude(9, 10, f"{BY_RANDAUGMENT}; published: timm, rand-m9-mstd0.5-inc1"),
}
"""Scale of RandAugment -> its magnitude."""

DecayPower = Annotated[
    float,
    Row(0.1, 10.0, usual=1.0, why="used by schedule polynomial", needs=("schedule", "polynomial")),
]
FocalGamma = Annotated[
    float,
    Row(
        0.01,
        10.0,
        usual=2.0,
        why="used by loss focal: the best of Lin et al., 2017",
        needs=("loss", "focal"),
    ),
]
OhemShare = Annotated[
    float,
    Row(
        0.01,
        0.99,
        usual=0.5,
        why="used by loss ohem: the harder half of each batch",
        needs=("loss", "ohem"),
    ),
]
PolicyShare = Annotated[
    float,
    Row(
        0.01,
        1.0,
        usual=1.0,
        why="used by a policy",
        needs=("policy", "autoaugment", "randaugment", "augmix"),
    ),
]
RandAugmentScale = Annotated[
    Literal["torchvision", "paddleclas", "timm"],
    Row(usual="torchvision", why=BY_RANDAUGMENT, needs=RANDAUGMENT),
]
RandAugmentOps = Annotated[int, Row(1, 20, usual=2, why=BY_RANDAUGMENT, needs=RANDAUGMENT)]
RandAugmentMagnitude = Annotated[int, Row(0, 30, usual=9, why=BY_RANDAUGMENT, needs=RANDAUGMENT)]
AugMixSeverity = Annotated[int, Row(1, 10, usual=3, why="used by policy augmix", needs=AUGMIX)]
AugMixConsistency = Annotated[float, Row(0.0, 1000.0, least=1e-3, usual=0.0, why=OFF, needs=AUGMIX)]
ErasingArea = Annotated[float, Row(0.02, 0.9, usual=1 / 3, why=WITH_ERASING, needs=("erasing",))]
ErasingRatio = Annotated[float, Row(1.0, 10.0, usual=1 / 0.3, why=WITH_ERASING, needs=("erasing",))]
ErasingFill = Annotated[
    Literal["noise", "mean"], Row(usual="noise", why=WITH_ERASING, needs=("erasing",))
]
CutoutSide = Annotated[float, Row(0.05, 1.0, usual=0.5, why="used with cutout", needs=("cutout",))]
GridMaskKept = Annotated[float, Row(0.05, 0.95, usual=0.6, why=WITH_GRIDMASK, needs=("gridmask",))]
GridMaskRotate = Annotated[float, Row(0.0, 360.0, usual=0.0, why=OFF, needs=("gridmask",))]
GridMaskGrowth = Annotated[float, Row(0.0, 1.0, usual=0.0, why=OFF, needs=("gridmask",))]
HideAndSeekShare = Annotated[
    float,
    Row(0.05, 0.95, usual=0.5, why="used with hide-and-seek", needs=("hide_and_seek",)),
]
