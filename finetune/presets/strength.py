"""How strongly `auto` regularises, by the size of the base and the number of pictures."""

from finetune.presets.anchors import interpolate
from finetune.presets.rate import family_of
from finetune.recipe.facts import Choices, Facts

SMALL_M = 10
"""A base with fewer million parameters than this is small."""
CROP_SMALL = ((10_000, 0.5), (1_000_000, 0.2))
CROP_LARGE = ((10_000, 0.5), (1_000_000, 0.08))
"""Pictures and least area of a random crop. On ImageNet 0.08 is usual, and 0.2 better for small
networks (PaddleClas, Tricks for Training, section 2.2.6); on few pictures crops are milder."""
MIDDLE_M, LARGE_M = 60, 200
"""From so many million parameters on a base is of middle size (ViT-B), or large (ViT-L)."""
DROP_PATH_BELOW_MIDDLE, MORE_FOR_LARGE = 0.1, 0.1


def strength(facts: Facts) -> Choices:
    """Choose label smoothing, erasing, stochastic depth and crops: a small base has little capacity
    to spare, so it gets less."""
    crop_area = (_crop_area(facts), "milder than ImageNet's on few pictures; chosen")
    if facts.base.params_m < SMALL_M:
        weak = "weaker for a base below 10 M parameters"
        return {
            "label_smoothing": (0.05, weak),
            "erasing": (0.1, weak),
            "drop_path": (0.0, weak),
            "crop_area": crop_area,
        }
    usual = "usual strength for a base of this size"
    return {
        "label_smoothing": (0.1, usual),
        "erasing": (0.25, usual),
        "drop_path": _drop_path(facts),
        "crop_area": crop_area,
    }


def _crop_area(facts: Facts) -> float:
    """Return the least share of a picture's area that a random crop covers."""
    anchors = CROP_SMALL if facts.base.params_m < SMALL_M else CROP_LARGE
    return float(f"{interpolate(facts.pictures, anchors):.2g}")


def _drop_path(facts: Facts) -> tuple[float, str]:
    """Choose stochastic depth for a base that is not small."""
    if facts.base.batch_norm:
        return 0.0, "usual strength for a base of this size"
    if not facts.takes_drop_path():
        return 0.0, "this architecture has no blocks that could be left out"
    family = family_of(facts.base.architecture)
    drop_path = family.drop_path
    if facts.base.params_m < MIDDLE_M:
        drop_path = min(drop_path, DROP_PATH_BELOW_MIDDLE)
    if facts.base.params_m >= LARGE_M:
        drop_path += MORE_FOR_LARGE
    return round(drop_path, 2), f"published for this size, not measured: {family.source}"
