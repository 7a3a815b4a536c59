"""Recipes: functions that turn facts about data, base and device into one complete `Recipe`, each value with a reason.

Adding a recipe: write a function `(facts, given) -> dict[field, (value, why)]` in finetune/published.py and add its row
to `RECIPES`. What it does not name is filled in by `_common`.
"""

import difflib
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from finetune import conflicts, published
from finetune.dataset import as_fraction
from finetune.recipe import MEASURED, Recipe, Resolved, check_bounds, check_durations, interpolate
from zoo import console
from zoo.errors import UserError
from zoo.recipe_rows import BY_HAND as BY_HAND

if TYPE_CHECKING:
    from zoo.model import Description


@dataclass(frozen=True)
class Facts:
    """What a recipe may depend on."""

    pictures: int
    """Pictures in train, before val is cut from it."""
    class_counts: tuple[int, ...]
    """The same of each class."""
    has_val: bool
    """Whether there is a validation folder."""
    short_side: int
    """Median shorter side of the training pictures, in pixels."""
    base: "Description"
    """Size, input and layers of the base."""
    device: str
    """cpu, cuda, mps."""
    bf16: bool
    """Whether a GPU computes in bf16."""
    cores: int
    """CPU threads this process may compute with."""
    takes: Callable[[int], bool] = lambda side: True
    """Whether the base can be trained with pictures of this side."""


Choices = dict[str, tuple[Any, str]]
Given = Mapping[str, Any]


def auto(facts: Facts, given: Given) -> Choices:
    """The default: a linear probe, then AdamW with a rate and a length fitted to the size of the data.

    Expected with EfficientNet-Lite0 (ImageNet-1k weights) on 2 CPU cores: `--data digits` test top-1 97 to 99 % in 1 to
    4 minutes; emoji (9 classes, 2,417 training pictures) at 96 px with 5 epochs 77 to 78 %.

    Anchors of `lr` at 1,000 and 2,500 pictures: tests/bench/RESULTS.md, "Learning rate by data size"
    (EfficientNet-Lite0, digits and emoji, one seed each). Not measured: the lower rate at 200 pictures (so that it does
    not undo the probe), the numbers of epochs above 2,500 pictures, and other bases. For transformers, whose weights
    were not at hand, the rate is the usual one of published fine-tunings with AdamW (Touvron et al., DeiT III, 2022:
    1e-5 to 1e-4 at batch 512).
    """
    usual_batch = 32 if facts.device == "cpu" else 64
    batch = given.get("batch_size", usual_batch)
    n = facts.pictures
    small = facts.base.params_m < 10
    rate = interpolate(n, LR_ANCHORS if facts.base.batch_norm else LR_ANCHORS_TRANSFORMER)
    epochs = round(interpolate(n, EPOCH_ANCHORS))
    weak = "weaker for a base below 10 M parameters" if small else "usual strength for a base of this size"
    return {
        "epochs": (epochs, f"{_size(facts, given)}: interpolated between anchors"),
        "batch_size": (usual_batch, "fixed on the CPU; never chosen by timing" if facts.device == "cpu" else
                       "usual on a GPU; never chosen by timing"),
        "lr": (float(f"{rate * math.sqrt(batch / 32):.2g}"),
               f"{_size(facts, given)}: interpolated between anchors, times sqrt(batch / 32)"),
        "optimizer": ("adamw", "default"),
        "warmup": ("10%", "default: the head starts from the probe, so a short warm-up is enough"),
        "schedule": ("cosine", "default"),
        "decay_at": ("", "not used by cosine"),
        "decay_factor": (0.1, "not used by cosine"),
        "weight_decay": (0.05, "default of AdamW fine-tuning; not on biases and norms"),
        "label_smoothing": (0.05 if small else 0.1, weak),
        "erasing": (0.1 if small else 0.25, weak),
        "crop_area": (0.5, "default for fine-tuning on few pictures: milder than ImageNet's 0.08"),
        "flip": (0.5, "default; --flip 0 where left and right differ in meaning and shape"),
        "drop_path": (0.0 if small or facts.base.batch_norm else 0.1, weak),
        "batch_norm": ("train", "batches of 16 and more give usable statistics") if min(batch, n) >= 16 else
                      ("frozen", "batches below 16 give noisy statistics"),
        "clip_norm": (0.0, "off") if facts.base.batch_norm else (1.0, "usual for transformers"),
        "probe": ("on", "default: first result in seconds, initial head, and floor of the run"),
        "balance": balance(facts, given),
    }


NOT_MEASURED = "not measured"
RECIPES: dict[str, Callable[[Facts, Given], Choices]] = {
    "auto": auto, "warmup-step": published.warmup_step, "paddleclas": published.paddleclas,
    "bag-of-tricks": published.bag_of_tricks, "cifar-sam": published.cifar_sam,
    "resnet18-imagenet": published.resnet18_imagenet}

FROM_SCRATCH = ("resnet18-imagenet",)
"""Recipes that always start from random weights."""
FOR_FINE_TUNING = ("auto", "warmup-step")
"""Recipes whose rate and length suit trained weights alone."""

TRAINING_CORE: Choices = {
    "decay_power": (1.0, "used by schedule polynomial"),
    "accumulate": (1, "off"), "sam_rho": (0.0, "off"), "ema": (0.0, "off"), "compile": ("off", "default"),
    "patience": (0, "off"), "layer_decay": (1.0, "off"), "start_size": (0, "off"),
    "from_scratch": (False, "off"), "init": ("timm", "used from scratch"), "zero_gamma": (False, "off"),
    "teacher": ("", "off"), "distill_temperature": (4.0, "used with a teacher"),
    "distill_weight": (0.5, "used with a teacher"),
}
"""Training of a recipe that does not name it."""
PICTURES_AND_LOSS: Choices = {
    **dict.fromkeys(("policy", "balance"), ("none", "off")),
    **dict.fromkeys(("rotate", "color_jitter", "pca_noise", "mixup", "cutmix", "cutout", "gridmask", "hide_and_seek"),
                    (0.0, "off")),
    "crop_padding": (0, "off"),
    "loss": ("cross-entropy", "default"),
    "focal_gamma": (2.0, "used by loss focal: the best of Lin et al., 2017"),
    "ohem_share": (0.5, "used by loss ohem: the harder half of each batch"),
}
"""Pictures and loss of a recipe that does not name them."""
IMBALANCED = 10
"""From this ratio of the largest class to the smallest on, balance is decided to be weights (set, not measured)."""

EPOCH_ANCHORS = ((200, 15), (1_000, 6), (10_000, 5), (1_000_000, 4))
LR_ANCHORS = ((200, 5e-4), (1_000, 2e-3), (2_500, 1.2e-3))
LR_ANCHORS_TRANSFORMER = ((200, 3e-5), (10_000, 1e-4))


def _common(facts: Facts, given: Given) -> Choices:
    """What a recipe need not name: input side, fit, validation, precision, threads, and all that is off."""
    return {
        # a side that was set by hand is not chosen as well, for each that is tried takes some tenths of a second
        "image_size": (given["image_size"], BY_HAND) if "image_size" in given else input_side(facts),
        "fit": ("squash", "default: the whole picture, measured better than a crop on two data sets"),
        "seed": (0, "default"),
        "amp": _amp(facts),
        "val": _val(facts),
        "probe_only": (False, "default"),
        "dropout": (0.0, "default"),
        "features": ("fp32", NOT_MEASURED),
        "threads": (facts.cores, "one per CPU core that this process may use, or OMP_NUM_THREADS"),
        **TRAINING_CORE,
        **PICTURES_AND_LOSS,
    }


def balance(facts: Facts, given: Given) -> tuple[str, str]:
    """What the measured imbalance asks for.

    Why weights: of the settings of balance it gained most at a ratio of 50, in tests/bench/RESULTS.md, "Long tails" (a
    classifier on frozen features, two seeds). The logit-adjusted loss gained more there; it is asked for by name.
    """
    if given.get("loss") == "logit-adjusted":
        return "none", "the logit-adjusted loss corrects for class sizes itself"
    ratio = max(facts.class_counts) / min(facts.class_counts)
    seen = f"the largest class has {ratio:.3g} times the pictures of the smallest"
    return ("none", f"{seen}, below {IMBALANCED}") if ratio < IMBALANCED else (
        "weights", f"{seen}, {IMBALANCED} or more")


def input_side(facts: Facts) -> tuple[int, str]:
    """Smallest side that the base takes, of at least twice the median short side and 96 px, at most the base's own."""
    base = facts.base
    if base.size_step is None:
        return base.input_size, "the only size this base takes"
    wanted = max(96, 2 * facts.short_side)
    first = math.ceil(wanted / base.size_step) * base.size_step
    side = next((side for side in range(first, base.input_size, base.size_step) if facts.takes(side)), base.input_size)
    if first >= base.input_size:
        return side, f"the base's own; pictures have a median short side of {facts.short_side} px"
    if side > first:
        return side, f"the smallest from {first} px on that this network can be trained with"
    return side, f"at least twice the median short side of {facts.short_side} px, and at least 96"


def _size(facts: Facts, given: Given) -> str:
    """The number of pictures that the rules of a recipe go by, in words."""
    if facts.has_val or ("val" in given and as_fraction(given["val"]) is None):
        return f"{facts.pictures:,} training pictures"
    share = float(given.get("val", _val(facts)[0]))
    return f"{facts.pictures:,} pictures, before {100 * share:.3g} % of them become val"


def _amp(facts: Facts) -> tuple[str, str]:
    if facts.device == "cuda":
        return ("bf16", "faster on this GPU") if facts.bf16 else ("fp16", "faster on a GPU without bf16")
    return "off", "training in fp32 is as fast on this device"


def _val(facts: Facts) -> tuple[str, str]:
    if facts.has_val:
        return "folder", "the data has one"
    if facts.pictures > 100_000:
        return f"{20_000 / facts.pictures:.3g}", "20,000 pictures: standard error of an accuracy below 0.36 points"
    return "0.2", "default share of train"


NEEDS = {
    **dict.fromkeys(("epochs", "lr", "optimizer", "warmup", "schedule", "weight_decay", "label_smoothing", "erasing",
                     "crop_area", "flip", "drop_path", "dropout", "clip_norm", "batch_norm", "amp", "batch_size",
                     *TRAINING_CORE, *PICTURES_AND_LOSS), lambda r: not r.probe_only),
    "decay_at": lambda r: r.schedule == "step", "decay_factor": lambda r: r.schedule in ("step", "exponential"),
    "decay_power": lambda r: r.schedule == "polynomial",
    "init": lambda r: r.from_scratch, "zero_gamma": lambda r: r.from_scratch,
    "distill_temperature": lambda r: r.teacher != "", "distill_weight": lambda r: r.teacher != "",
    "focal_gamma": lambda r: r.loss == "focal", "ohem_share": lambda r: r.loss == "ohem",
    "features": lambda r: r.probe == "on",
    "probe_only": lambda r: not r.probe_only or r.probe == "on",
}
"""When a setting given by hand has an effect; without it the setting is refused, never ignored."""


ENABLED_BY = {
    **dict.fromkeys(("decay_at", "decay_factor"), ("schedule", "step")), "decay_power": ("schedule", "polynomial"),
    **dict.fromkeys(("init", "zero_gamma"), ("from_scratch", "")),
    **dict.fromkeys(("distill_temperature", "distill_weight"), ("teacher", "NAME")),
    **dict.fromkeys(("features", "probe_only"), ("probe", "on")),
    "focal_gamma": ("loss", "focal"), "ohem_share": ("loss", "ohem"),
}
"""Setting -> the other one, and its value, that it needs by `NEEDS`; those not listed need a run without probe_only."""


def _without_effect(key: str, recipe: Recipe, given: Given) -> str:
    """What to say of a setting given by hand that another one, given or the recipe's, makes useless."""
    flag = "--" + key.replace("_", "-")
    other, needed = ENABLED_BY.get(key, ("probe_only", ""))
    if recipe.probe_only and key not in ("features", "probe_only"):
        return f"{flag} has no effect with --probe-only: leave one of them away."
    if not getattr(recipe, other):
        needs = f"--{other.replace('_', '-')} {needed}".strip()
        return f"{flag} has no effect without {needs}: leave it away, or add that."
    cause = f"--{other} {getattr(recipe, other)}"
    if other in given:
        return f"{flag} has no effect with {cause}: leave one of them away."
    return (f"{flag} has no effect with {cause}, which --recipe {recipe.recipe} sets: leave {flag} away, or add "
            f"--{other} {needed}.")


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
    if choices["schedule"][0] == "exponential":
        rate = float(f"{0.01 ** (1 / max(1, choices['epochs'][0])):.4g}")
        forced["decay_factor"] = (rate, "per epoch; over the whole run it would come to 1 %")
    return forced


def check(given: Given) -> None:
    """What can be said before the data is read: `UserError` for an unknown recipe or a value out of range."""
    name = given.get("recipe", "auto")
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, 1, 0)
        raise UserError(f"--recipe {name}: expected one of {', '.join(RECIPES)}; did you mean {near[0]}?")
    check_bounds(given)
    check_durations(given)


def _check_side(flag: str, side: int, base: "Description") -> None:
    """`UserError` for a picture side that the base does not take; its own is always allowed."""
    if side == base.input_size:
        return
    if base.size_step is None:
        raise UserError(f"{flag} {side}: {base.architecture} takes only {base.input_size} px.")
    if side % base.size_step:
        raise UserError(f"{flag} {side}: expected a multiple of {base.size_step} px for {base.architecture}.")


def resolve(facts: Facts, given: Given) -> Resolved:
    """The recipe that `given["recipe"]` names (default auto), with the values given by hand put in.

    Raises `UserError` for an unknown name, a value out of range, and a setting that would have no effect.
    """
    check(given)
    measured = {key: value for key, value in given.items() if key in MEASURED and value == "auto"}
    given = {key: value for key, value in given.items() if key not in measured}
    name = given.get("recipe", "auto")
    if facts.has_val and as_fraction(given.get("val", "folder")) is not None:
        raise UserError(f"--val {given['val']} has no effect: the data has a val folder. Leave --val away, or "
                        "remove that folder.")
    choices = {"recipe": (name, BY_HAND if "recipe" in given else "default"), **_common(facts, given),
               **RECIPES[name](facts, given), **{key: (value, BY_HAND) for key, value in given.items()}}
    choices |= {key: choice for key, choice in _following(choices).items() if key not in given}
    if measured:
        choices["balance"] = balance(facts, given)
    if facts.has_val and "val" in given:
        choices["val"] = ("folder", BY_HAND)  # its path is of this machine: local.json has it
    choices["teacher"] = (os.path.basename(choices["teacher"][0]) if os.path.isabs(choices["teacher"][0]) else
                          choices["teacher"][0], choices["teacher"][1])  # the same
    assert set(choices) == {f.name for f in fields(Recipe)}
    recipe = Recipe(**{key: value for key, (value, _) in choices.items()})
    for key in (*given, *measured):
        if key in NEEDS and not NEEDS[key](recipe):
            raise UserError(_without_effect(key, recipe, given))
    conflicts.refuse(recipe, given)
    if given.get("balance", "none") != "none" and len(set(facts.class_counts)) == 1:
        console.warn(f"--balance {recipe.balance} changes next to nothing: all classes have "
                      f"{facts.class_counts[0]} training pictures.")
    if recipe.from_scratch and name in FOR_FINE_TUNING:
        console.warn(f"--recipe {name} is made for weights that are trained already, and too short from scratch: "
                      "bag-of-tricks, cifar-sam, paddleclas and resnet18-imagenet are made for random ones as well.")
    if "batch_norm" in given and not facts.base.batch_norm:
        raise UserError(f"--batch-norm has no effect: {facts.base.architecture} has no batch norm. Leave it away.")
    if recipe.schedule == "step" and not recipe.decay_at.strip():
        raise UserError("--schedule step needs --decay-at, the times at which the rate falls, as in '75%'.")
    for flag, side in (("--image-size", recipe.image_size), ("--start-size", recipe.start_size)):
        _check_side(flag, side or facts.base.input_size, facts.base)
    return Resolved(recipe, {key: why for key, (_, why) in choices.items()})
