"""Settings that exclude each other: refused by name, never ignored."""

from collections.abc import Callable, Mapping
from typing import Any

from finetune.recipe.fields import ROWS, TYPES, Recipe, flag_of
from finetune.recipe.rows import MAGNITUDES
from zoo.host.errors import UserError

ONE_LABEL = "this loss is defined by a picture's one label"
MIXED_VIEWS = "views of one picture are compared, and mixed ones are of two"
CONFLICTS: tuple[tuple[str, str, Callable[[Recipe], bool], str], ...] = (
    ("mixup", "loss", lambda r: r.mixup > 0 and r.loss in ("focal", "ohem"), ONE_LABEL),
    ("cutmix", "loss", lambda r: r.cutmix > 0 and r.loss in ("focal", "ohem"), ONE_LABEL),
    ("label_smoothing", "loss", lambda r: r.label_smoothing > 0 and r.loss == "focal", ONE_LABEL),
    (
        "mixup",
        "augmix_consistency",
        lambda r: r.mixup > 0 and r.views > 1,
        MIXED_VIEWS,
    ),
    (
        "cutmix",
        "augmix_consistency",
        lambda r: r.cutmix > 0 and r.views > 1,
        MIXED_VIEWS,
    ),
    (
        "accumulate",
        "loss",
        lambda r: r.accumulate > 1 and r.loss == "ohem",
        "the hardest pictures of each part of a batch are not those of the batch",
    ),
    (
        "from_scratch",
        "probe",
        lambda r: r.from_scratch and r.probe == "on",
        "random weights have no features to fit a classifier to",
    ),
    (
        "from_scratch",
        "batch_norm",
        lambda r: r.from_scratch and r.batch_norm == "frozen",
        "random weights have no statistics to keep",
    ),
    (
        "balance",
        "loss",
        lambda r: r.balance != "none" and r.loss == "logit-adjusted",
        "both correct for class sizes, and together they would do it twice",
    ),
)
"""(setting, another one, whether their values exclude each other, why)."""
LIMITS: tuple[tuple[str, str, Callable[[Recipe], bool], str], ...] = (
    (
        "accumulate",
        "batch_size",
        lambda r: r.accumulate > r.batch_size,
        "at most a part for each picture",
    ),
    (
        "crop_ratio",
        "crop_area",
        lambda r: r.crop_ratio != ROWS["crop_ratio"].usual and r.crop_area == 1,
        "random crops, which a --crop-area below 1 makes",
    ),
    (
        "randaugment_magnitude",
        "randaugment_scale",
        lambda r: r.randaugment_magnitude > MAGNITUDES[r.randaugment_scale].most,
        "at most 10 on this scale",
    ),
    ("patience", "epochs", lambda r: r.patience >= r.epochs, "fewer epochs than the run has"),
    (
        "start_size",
        "image_size",
        lambda r: r.start_size >= r.image_size,
        "less than the size of the last epochs",
    ),
    (
        "start_size",
        "epochs",
        lambda r: r.start_size > 0 and r.epochs == 1,
        "two epochs or more, of two sizes",
    ),
)
"""(setting, the one that limits it, whether it is beyond, what was expected)."""


def refuse(recipe: Recipe, given: Mapping[str, Any]) -> None:
    """`UserError` for the first two settings that exclude each other; `given`: those set by
    hand."""
    for first, second, excluded, why in CONFLICTS:
        if excluded(recipe):
            raise UserError(_conflict(recipe, given, first, second, why))
    for setting, limit, beyond, expected in LIMITS:
        if beyond(recipe):
            raise UserError(
                f"{_shown(recipe, setting)}: expected {expected}; {_shown(recipe, limit)}. Change "
                "one of them."
            )


def _conflict(recipe: Recipe, given: Mapping[str, Any], first: str, second: str, why: str) -> str:
    """What to say of two settings that exclude each other, and which of them to change."""
    text = f"{_shown(recipe, first)} and {_shown(recipe, second)} exclude each other: {why}."
    if first in given and second in given:
        return f"{text} Remove one of them."
    recipes_own, by_hand = (second, first) if first in given else (first, second)
    text += f" {_shown(recipe, recipes_own)} is what --recipe {recipe.recipe} sets:"
    if TYPES[recipes_own] is bool:  # a switch has no flag that turns it off
        return f"{text} remove {_shown(recipe, by_hand)}, or choose another recipe."
    return f"{text} add {flag_of(recipes_own, ROWS[recipes_own].usual)}."


def _shown(recipe: Recipe, name: str) -> str:
    """A setting with its value, as on the command line."""
    return flag_of(name, getattr(recipe, name))
