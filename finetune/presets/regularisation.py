"""The next stronger and the next milder regularisation of a finished run's recipe."""

from collections.abc import Mapping
from typing import Any

from finetune.recipe.fields import ROWS

STRONGER = {
    "erasing": (0.25, 0.5),
    "label_smoothing": (0.1,),
    "crop_area": (0.5, 0.25, 0.08),
    "weight_decay": (0.1,),
}
"""Usual strengths, milder first. Erasing 0.5: Zhong et al., 2020; smoothing 0.1 and crops from 8 %
of the area: Szegedy et al., 2016 and 2015; AdamW's decay: Steiner et al., 2021."""
MILDER = {
    "cutmix": (0.0,),
    "mixup": (0.0,),
    "policy_share": (0.5, 0.25),
    "gridmask": (0.5, 0.25),
    "hide_and_seek": (0.5, 0.25),
    "cutout": (0.5, 0.25),
    "erasing": (0.25, 0.1),
    "crop_area": (0.25, 0.5, 0.8),
}
"""Milder strengths, the stronger first; what hides or changes most is the first. What has strengths
of its own is not switched off: set by hand, they would then be refused."""
Values = Mapping[str, Any]
"""Field of `Recipe` -> the run's value. A field that is missing is never proposed."""


def changes(values: Values, **new: float) -> dict[str, float]:
    """Keep of the new values those that differ from the recipe's and are within bounds."""
    changed = {}
    for name, value in new.items():
        in_bounds = ROWS[name].low <= value <= ROWS[name].high
        if in_bounds and name in values and value != values[name]:
            changed[name] = value
    return changed


def stronger(values: Values) -> dict[str, float]:
    """Give the next usual strength of the first two regularisers that have one."""
    new: dict[str, float] = {}
    for name, strengths in STRONGER.items():
        # Adam's and SGD's weight decay is on another scale than AdamW's
        other_scale = name == "weight_decay" and values.get("optimizer") != "adamw"
        if len(new) == 2 or name not in values or other_scale:
            continue
        for strength in strengths:
            # the stronger crop is the smaller one
            low, high = sorted((strength, values[name]), reverse=name == "crop_area")
            if low != high and high == strength:
                new[name] = strength
                break
    return changes(values, **new)


def milder(values: Values) -> dict[str, float]:
    """Give no smoothing, a third of the weight decay, and the next milder strength of the first
    augmentation that is on."""
    new = {"label_smoothing": 0.0}
    if "weight_decay" in values:
        new["weight_decay"] = float(f"{values['weight_decay'] / 3:.2g}")
    for name, strengths in MILDER.items():
        weaker = [strength for strength in strengths if _is_milder(name, strength, values)]
        if weaker:
            new[name] = weaker[0]
            break
    return changes(values, **new)


def _is_milder(name: str, strength: float, values: Values) -> bool:
    """Tell whether a strength of an augmentation that is on is below the run's."""
    if name not in values or (name == "policy_share" and values.get("policy", "none") == "none"):
        return False
    if name == "crop_area":
        return bool(strength > values[name])
    return bool(strength < values[name])
