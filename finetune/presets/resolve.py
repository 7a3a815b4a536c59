"""Recipes: functions that turn facts about data, base and device into one complete `Recipe`, each
value with a reason.

Adding a recipe: write a function `(facts, given) -> dict[field, (value, why)]` in
finetune/presets/published.py and add its row to `RECIPES`. What it does not name is filled in by
finetune/presets/every_preset.py.
"""

import difflib
import os
from collections.abc import Callable
from dataclasses import fields
from typing import TYPE_CHECKING

from finetune.presets import conflicts, other_optimizer, published
from finetune.presets.auto import auto
from finetune.presets.every_preset import balance, common
from finetune.recipe.durations import check_durations
from finetune.recipe.facts import Choices, Facts, Given, as_fraction
from finetune.recipe.fields import MEASURED, ROWS, TYPES, Recipe, check_bounds, flag_of
from finetune.recipe.resolved import Resolved
from finetune.recipe.row import Row
from finetune.recipe.rows import MAGNITUDES
from zoo.contract.recipe_rows import BY_HAND
from zoo.host import console
from zoo.host.errors import UserError

if TYPE_CHECKING:
    from zoo.network.build import Description


RECIPES: dict[str, Callable[[Facts, Given], Choices]] = {
    "auto": auto,
    "warmup-step": published.warmup_step,
    "paddleclas": published.paddleclas,
    "bag-of-tricks": published.bag_of_tricks,
    "cifar-sam": published.cifar_sam,
    "resnet18-imagenet": published.resnet18_imagenet,
}

FROM_SCRATCH = ("resnet18-imagenet",)
"""Recipes that always start from random weights."""
FOR_FINE_TUNING = ("auto", "warmup-step")
"""Recipes whose rate and length suit trained weights alone."""


def _without_effect(key: str, recipe: Recipe, given: Given) -> str:
    """What to say of a setting given by hand that another one, given or the recipe's, makes
    useless."""
    flag, row = flag_of(key), ROWS[key]
    if recipe.probe_only and not row.probe_too:
        return f"{flag} has no effect with --probe-only: remove one of them."
    other = row.needs[0]
    asked, value = _needed_flag(row), getattr(recipe, other)
    if not value:
        return f"{flag} has no effect without {asked}: remove it, or add that."
    cause = flag_of(other, value)
    if other in given:
        return f"{flag} has no effect with {cause}: remove one of them."
    return (
        f"{flag} has no effect with {cause}, which --recipe {recipe.recipe} sets: remove "
        f"{flag}, or add {asked}."
    )


def _needed_flag(row: Row) -> str:
    """The flag, with a value, that a field of this row needs."""
    other, *values = row.needs
    if values:
        return flag_of(other, values[0])
    return flag_of(other, "NAME" if TYPES[other] is str else "")


def from_scratch(given: Given) -> bool:
    """Whether a run starts from random weights, by hand or by its recipe."""
    return bool(given.get("from_scratch")) or given.get("recipe") in FROM_SCRATCH


def _following(choices: Choices) -> Choices:
    """What other choices force on a setting that is not given."""
    forced: Choices = {}
    if choices["loss"][0] == "focal":
        forced["label_smoothing"] = (0.0, "focal loss has none")
    if choices["from_scratch"][0]:
        forced["probe"] = ("off", "random weights have no features to fit a classifier to")
        forced["batch_norm"] = ("train", "random weights have no statistics to keep")
    scale = choices["randaugment_scale"][0]
    if scale != ROWS["randaugment_scale"].usual:
        magnitude = MAGNITUDES[scale]
        forced["randaugment_magnitude"] = (magnitude.usual, magnitude.why)
    if choices["schedule"][0] == "exponential":
        rate = float(f"{0.01 ** (1 / max(1, choices['epochs'][0])):.4g}")
        forced["decay_factor"] = (rate, "per epoch; over the whole run it would come to 1 %")
    return forced


def check_given(given: Given) -> None:
    """What can be said before the data is read: `UserError` for an unknown recipe or a value out of
    range."""
    name = given.get("recipe", "auto")
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, 1, 0)
        raise UserError(
            f"--recipe {name}: expected one of {', '.join(RECIPES)}; did you mean {near[0]}?"
        )
    check_bounds(given)
    check_durations(given)


def check_sides(values: Given, base: "Description") -> None:
    """`UserError` for a side among a recipe's values, or those given by hand, that is no multiple
    of the base's step."""
    for name in ("image_size", "start_size"):
        if values.get(name):
            _check_side(flag_of(name), values[name], base)


def _check_side(flag: str, side: int, base: "Description") -> None:
    """`UserError` for a picture side that the base does not take; its own is always allowed."""
    if side == base.input_size:
        return
    if base.size_step is None:
        raise UserError(f"{flag} {side}: {base.architecture} takes only {base.input_size} px.")
    if side % base.size_step:
        raise UserError(
            f"{flag} {side}: expected a multiple of {base.size_step} px for {base.architecture}."
        )


def resolve(facts: Facts, given: Given) -> Resolved:
    """The recipe that `given["recipe"]` names (default auto), with the values given by hand put in.

    Raises `UserError` for an unknown name, a value out of range, and a setting that would have no
    effect.
    """
    check_given(given)
    measured = [key for key, value in given.items() if key in MEASURED and value == "auto"]
    by_hand = {key: value for key, value in given.items() if key not in measured}
    _check_val(facts, by_hand)
    choices = _choices(facts, by_hand)
    if measured:
        choices["balance"] = balance(facts, by_hand)
    assert set(choices) == {f.name for f in fields(Recipe)}
    recipe = Recipe(**{key: value for key, (value, _) in choices.items()})
    for key in (*by_hand, *measured):
        if getattr(recipe, key) is not False and not ROWS[key].has_effect(recipe):
            raise UserError(_without_effect(key, recipe, by_hand))
    conflicts.refuse(recipe, by_hand)
    _warn_of_odd_choices(facts, recipe, by_hand)
    _check_against_base(recipe, by_hand, facts.base)
    return Resolved(recipe, {key: why for key, (_, why) in choices.items()})


def _check_val(facts: Facts, given: Given) -> None:
    """`UserError` for a fraction of train as val where the data has a val folder."""
    if facts.has_val and as_fraction(given.get("val", "folder")) is not None:
        raise UserError(
            f"--val {given['val']} has no effect: the data has a val folder. Remove --val, or "
            "remove that folder."
        )


def _choices(facts: Facts, given: Given) -> Choices:
    """Every field's value and reason: what is given by hand, else the recipe's, else the usual."""
    name = given.get("recipe", "auto")
    chosen = RECIPES[name](facts, given)
    choices = {
        "recipe": (name, "default"),
        **common(facts, given),
        **chosen,
        **_of_optimizer(name, chosen, facts, given),
        **{key: (value, BY_HAND) for key, value in given.items()},
    }
    choices |= {key: choice for key, choice in _following(choices).items() if key not in given}
    # the paths of val and teacher are of this machine: local.json has them
    if facts.has_val and "val" in given:
        choices["val"] = ("folder", BY_HAND)
    teacher, why = choices["teacher"]
    if os.path.isabs(teacher):
        choices["teacher"] = (os.path.basename(teacher), why)
    return choices


def _of_optimizer(name: str, chosen: Choices, facts: Facts, given: Given) -> Choices:
    """Rate and decay for an optimiser given by hand; `auto` chose them for it already."""
    if name == "auto":
        return {}
    return other_optimizer.refitted(chosen, facts, given)


def _warn_of_odd_choices(facts: Facts, recipe: Recipe, given: Given) -> None:
    """Say of settings that are allowed and hardly meant."""
    if given.get("balance", "none") != "none" and len(set(facts.class_counts)) == 1:
        console.warn(
            f"--balance {recipe.balance} changes next to nothing: all classes have "
            f"{facts.class_counts[0]} training pictures."
        )
    if recipe.from_scratch and recipe.recipe in FOR_FINE_TUNING:
        console.warn(
            f"--recipe {recipe.recipe} is made for weights that are trained already, and too short "
            "from scratch: bag-of-tricks, cifar-sam, paddleclas and resnet18-imagenet are made for "
            "random ones as well."
        )


def _check_against_base(recipe: Recipe, given: Given, base: "Description") -> None:
    """`UserError` for settings that the base does not take, and for steps without their times."""
    if "batch_norm" in given and not base.batch_norm:
        raise UserError(
            f"--batch-norm has no effect: {base.architecture} has no batch norm. Remove it."
        )
    if recipe.stem == "cifar" and not base.cifar_stem:
        raise UserError(
            "--stem cifar: expected a ResNet that has it, such as resnet18_1k or resnet50_1k, seen "
            f"{base.architecture}. Remove it."
        )
    if recipe.schedule == "step" and not recipe.decay_at.strip():
        raise UserError(
            "--schedule step needs --decay-at, the times at which the rate falls, as in '75%'."
        )
    check_sides(vars(recipe), base)
