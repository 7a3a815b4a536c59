"""Settings that exclude each other: refused by name, never ignored."""

from collections.abc import Callable, Mapping
from typing import Any

from finetune.recipe.fields import ROWS, TYPES, Recipe, flag_of
from zoo.host.errors import UserError

ONE_LABEL = "this loss is defined by a picture's one label"
CONFLICTS: tuple[tuple[str, str, Callable[[Recipe], bool], str], ...] = (
    ("mixup", "loss", lambda r: r.mixup > 0 and r.loss in ("focal", "ohem"), ONE_LABEL),
    ("cutmix", "loss", lambda r: r.cutmix > 0 and r.loss in ("focal", "ohem"), ONE_LABEL),
    ("label_smoothing", "loss", lambda r: r.label_smoothing > 0 and r.loss == "focal", ONE_LABEL),
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
    for one, other, excluded, why in CONFLICTS:
        if excluded(recipe):
            values = {key: flag_of(key, getattr(recipe, key)) for key in (one, other)}
            text = f"{values[one]} and {values[other]} exclude each other: {why}."
            recipes_own = next((key for key in (one, other) if key not in given), None)
            if recipes_own is None:
                raise UserError(f"{text} Remove one of them.")
            text += f" {values[recipes_own]} is what --recipe {recipe.recipe} sets:"
            if TYPES[recipes_own] is bool:  # a switch has no flag that turns it off
                raise UserError(
                    f"{text} remove {values[other if recipes_own == one else one]}, or choose "
                    "another recipe."
                )
            raise UserError(f"{text} add {flag_of(recipes_own, ROWS[recipes_own].usual)}.")
    for one, other, beyond, expected in LIMITS:
        if beyond(recipe):
            values = {key: flag_of(key, getattr(recipe, key)) for key in (one, other)}
            raise UserError(
                f"{values[one]}: expected {expected}; {values[other]}. Change one of them."
            )
