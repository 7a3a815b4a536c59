"""Settings that exclude each other: refused by name, never ignored."""

from collections.abc import Callable, Mapping
from typing import Any

from finetune.recipe import Recipe
from zoo.errors import UserError

ONE_LABEL = "this loss is defined by a picture's one label"
CONFLICTS: tuple[tuple[str, str, Callable[[Recipe], bool], str], ...] = (
    ("mixup", "loss", lambda r: r.mixup > 0 and r.loss in ("focal", "ohem"), ONE_LABEL),
    ("cutmix", "loss", lambda r: r.cutmix > 0 and r.loss in ("focal", "ohem"), ONE_LABEL),
    ("label_smoothing", "loss", lambda r: r.label_smoothing > 0 and r.loss == "focal", ONE_LABEL),
    ("accumulate", "loss", lambda r: r.accumulate > 1 and r.loss == "ohem",
     "the hardest pictures of each part of a batch are not those of the batch"),
    ("balance", "loss", lambda r: r.balance != "none" and r.loss == "logit-adjusted",
     "both correct for class sizes, and together they would do it twice"),
)
"""(setting, another one, whether their values exclude each other, why)."""
OFF = {"loss": "cross-entropy", "balance": "none", "accumulate": 1}
"""Value that makes a setting exclude nothing; of the others it is 0."""


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
            raise UserError(f"{text} Leave one of them away.")
