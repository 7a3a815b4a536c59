"""Settings that exclude each other: refused by name, never ignored."""

from collections.abc import Callable, Mapping
from typing import Any

from finetune.recipe.fields import Recipe
from zoo.host.errors import UserError

ONE_LABEL = "this loss is defined by a picture's one label"
CONFLICTS: tuple[tuple[str, str, Callable[[Recipe], bool], str], ...] = (
    ("mixup", "loss", lambda r: r.mixup > 0 and r.loss in ("focal", "ohem"), ONE_LABEL),
    ("cutmix", "loss", lambda r: r.cutmix > 0 and r.loss in ("focal", "ohem"), ONE_LABEL),
    ("label_smoothing", "loss", lambda r: r.label_smoothing > 0 and r.loss == "focal", ONE_LABEL),
    ("accumulate", "loss", lambda r: r.accumulate > 1 and r.loss == "ohem",
     "the hardest pictures of each part of a batch are not those of the batch"),
    ("from_scratch", "probe", lambda r: r.from_scratch and r.probe == "on",
     "random weights have no features to fit a classifier to"),
    ("from_scratch", "batch_norm", lambda r: r.from_scratch and r.batch_norm == "frozen",
     "random weights have no statistics to keep"),
    ("balance", "loss", lambda r: r.balance != "none" and r.loss == "logit-adjusted",
     "both correct for class sizes, and together they would do it twice"),
)
"""(setting, another one, whether their values exclude each other, why)."""
OFF = {"loss": "cross-entropy", "balance": "none", "accumulate": 1, "probe": "off", "batch_norm": "train"}
"""Value that makes a setting exclude nothing; of the others it is 0."""


LIMITS: tuple[tuple[str, str, Callable[[Recipe], bool], str], ...] = (
    ("accumulate", "batch_size", lambda r: r.accumulate > r.batch_size, "at most a part for each picture"),
    ("patience", "epochs", lambda r: r.patience >= r.epochs, "fewer epochs than the run has"),
    ("start_size", "image_size", lambda r: r.start_size >= r.image_size, "less than the size of the last epochs"),
    ("start_size", "epochs", lambda r: r.start_size > 0 and r.epochs == 1, "two epochs or more, of two sizes"),
)
"""(setting, the one that limits it, whether it is beyond, what was expected)."""


def refuse(recipe: Recipe, given: Mapping[str, Any]) -> None:
    """`UserError` for the first two settings that exclude each other; `given`: those set by hand."""
    for one, other, excluded, why in CONFLICTS:
        if excluded(recipe):
            values = {key: f"--{key.replace('_', '-')} {getattr(recipe, key)}" for key in (one, other)}
            text = f"{values[one]} and {values[other]} exclude each other: {why}."
            not_given = [key for key in (one, other) if key not in given]
            if not_given:
                key = not_given[0]
                flag = values[key].split()[0]
                raise UserError(f"{text} {values[key]} is what --recipe {recipe.recipe} sets: add {flag} "
                                f"{OFF.get(key, 0)}.")
            raise UserError(f"{text} Remove one of them.")
    for one, other, beyond, expected in LIMITS:
        if beyond(recipe):
            values = {key: f"--{key.replace('_', '-')} {getattr(recipe, key)}" for key in (one, other)}
            raise UserError(f"{values[one]}: expected {expected}; {values[other]}. Change one of them.")
