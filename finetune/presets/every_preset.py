"""Choices that every recipe makes in the same way: input side, precision, validation, balance.

A choice is (value, reason); the reason is printed and stands in recipe.json.
"""

import math

from finetune.recipe.facts import Choices, Facts, Given, as_fraction
from finetune.recipe.fields import ROWS
from zoo.contract.recipe_rows import BY_HAND

IMBALANCED = 10
"""Ratio of the largest class to the smallest from which on classes are weighted; a choice, not a
measurement."""
HEAVY = tuple(name for name, row in ROWS.items() if row.heavy)
CIFAR_SIDE = 32
"""Pixels of a side of CIFAR's pictures."""
MOST_CIFAR_SIDE = 40
"""Pictures of a median short side up to this are taken for CIFAR's; a choice."""
"""Augmentations with which less weight decay is needed, as with a policy."""


def common(facts: Facts, given: Given) -> Choices:
    """Choose what a recipe need not name: input side, validation, precision, threads, and the usual
    value of every other field."""
    usual = {name: (row.usual, row.why) for name, row in ROWS.items() if row.why is not None}
    # no side is searched for if one was set by hand: each trial takes some tenths of a second
    if "image_size" in given:
        image_size = (given["image_size"], BY_HAND)
    elif given.get("stem") == "cifar":
        image_size = cifar_side(facts)
    else:
        image_size = input_side(facts)
    return usual | {
        "image_size": image_size,
        "amp": _amp(facts),
        "val": _val(facts),
        "threads": (facts.cores, "one per CPU core that this process may use, or OMP_NUM_THREADS"),
    }


def balance(facts: Facts, given: Given) -> tuple[str, str]:
    """Choose whether classes are weighted, by the ratio of the largest to the smallest.

    Of the settings of balance, weights gained most at a ratio of 50 (tests/bench/RESULTS.md, "Long
    tails": a classifier on frozen features, two seeds). The logit-adjusted loss gained more there;
    it is used only if it is asked for by name.
    """
    if given.get("loss") == "logit-adjusted":
        return "none", "the logit-adjusted loss corrects for class sizes itself"
    ratio = max(facts.class_counts) / min(facts.class_counts)
    imbalance = f"the largest class has {ratio:.3g} times the pictures of the smallest"
    if ratio < IMBALANCED:
        return "none", f"{imbalance}, below {IMBALANCED}"
    return "weights", f"{imbalance}, {IMBALANCED} or more"


def input_side(facts: Facts) -> tuple[int, str]:
    """Choose the smallest side that the base takes, from twice the median short side and from 96 px
    on; never a larger one than the base's own."""
    base = facts.base
    if base.size_step is None:
        return base.input_size, "the only size this base takes"
    wanted = max(96, 2 * facts.short_side)
    first = math.ceil(wanted / base.size_step) * base.size_step
    smaller_sides = range(first, base.input_size, base.size_step)
    side = next(filter(facts.takes, smaller_sides), base.input_size)
    if first >= base.input_size:
        return side, f"the base's own; pictures have a median short side of {facts.short_side} px"
    if side > first:
        return side, f"the smallest from {first} px on that this network can be trained with"
    return side, f"at least twice the median short side of {facts.short_side} px, and at least 96"


def cifar_side(facts: Facts) -> tuple[int, str]:
    """Choose the multiple of 32 px that is nearest to the pictures, for a stem that does not make
    them smaller."""
    side = CIFAR_SIDE * max(1, round(facts.short_side / CIFAR_SIDE))
    return (
        min(side, facts.base.input_size),
        f"stem cifar: about the median short side of {facts.short_side} px",
    )


def cifar_input(facts: Facts, given: Given) -> Choices:
    """Choose stem and input side of a recipe that was published for CIFAR."""
    if "stem" in given:
        return {}
    if facts.short_side > MOST_CIFAR_SIDE:
        return {"stem": ("own", f"pictures have a median short side of {facts.short_side} px")}
    if not facts.base.cifar_stem:
        return {"stem": ("own", "the only one of this network here")}
    if not given.get("from_scratch"):
        return {"stem": ("own", "that of the trained weights; published, from scratch: cifar")}
    return {
        "stem": ("cifar", "published: ResNets for 32 px"),
        "image_size": (CIFAR_SIDE, "published: 32 px, CIFAR's own"),
    }


def is_heavy(given: Given, names: tuple[str, ...] = HEAVY) -> bool:
    """Tell whether a policy or one of these augmentations was asked for by hand."""
    return given.get("policy", "none") != "none" or any(map(given.get, names))


def trained_on(facts: Facts, given: Given) -> int:
    """Return the pictures of train that are left when validation pictures are cut from them, to
    within a few."""
    share = _share_of_val(facts, given)
    return max(1, round(facts.pictures * (1 - share)))


def size_in_words(facts: Facts, given: Given) -> str:
    """Say which number of pictures a recipe is fitted to."""
    share = _share_of_val(facts, given)
    if not share:
        return f"{facts.pictures:,} training pictures"
    return f"{facts.pictures:,} pictures, before {100 * share:.3g} % of them become val"


def _share_of_val(facts: Facts, given: Given) -> float:
    """Return the share of train that becomes validation pictures; 0 where they have a folder."""
    if facts.has_val:
        return 0.0
    return as_fraction(given.get("val", _val(facts)[0])) or 0.0


def _amp(facts: Facts) -> tuple[str, str]:
    """Choose the precision of training by the device."""
    if facts.device != "cuda":
        return "off", "training in fp32 is as fast on this device"
    if facts.bf16:
        return "bf16", "faster on this GPU"
    return "fp16", "faster on a GPU without bf16"


def _val(facts: Facts) -> tuple[str, str]:
    """Choose where validation pictures come from: a folder, or a share of train."""
    if facts.has_val:
        return "folder", "the data has one"
    if facts.pictures > 100_000:
        return (
            f"{20_000 / facts.pictures:.3g}",
            "20,000 pictures: standard error of an accuracy below 0.36 points",
        )
    return "0.2", "default share of train"
