"""The default recipe, and the choices that every recipe makes in the same way: input side,
precision, validation, balance.

A choice is (value, reason); the reason is printed and stands in recipe.json.
"""

import math

from finetune.recipe.anchors import interpolate
from finetune.recipe.facts import Choices, Facts, Given, as_fraction
from finetune.recipe.fields import ROWS
from zoo.contract.recipe_rows import BY_HAND

IMBALANCED = 10
"""Ratio of the largest class to the smallest from which on classes are weighted; a choice, not a
measurement."""
SMALL_M = 10
"""A base with fewer million parameters than this is small."""
EPOCH_ANCHORS = ((200, 15), (1_000, 6), (10_000, 5), (1_000_000, 4))
"""Pictures and epochs; `auto` says which of these anchors were measured."""
LR_ANCHORS = ((200, 5e-4), (1_000, 2e-3), (2_500, 1.2e-3))
"""Pictures and learning rate at batch 32, for networks with batch norms."""
LR_ANCHORS_TRANSFORMER = ((200, 3e-5), (10_000, 1e-4))
"""The same for networks without batch norms."""


def auto(facts: Facts, given: Given) -> Choices:
    """Choose the default recipe: a linear probe, then AdamW with a rate and a length that fit the
    size of the data.

    With EfficientNet-Lite0 (ImageNet-1k weights) on 2 CPU cores, `--data digits` reaches a test
    top-1 of 97 to 99 % in 1 to 4 minutes. Emoji (9 classes, 2,417 training pictures) at 96 px
    reaches 77 to 78 % in 5 epochs.

    The rates at 1,000 and 2,500 pictures were measured (tests/bench/RESULTS.md, "Learning rate by
    data size": EfficientNet-Lite0, digits and emoji, one seed each). The rate at 200 pictures was
    not: it is lower, so that training does not undo the probe. Nor were the epochs above 2,500
    pictures, and other bases. The weights of transformers were not at hand; their rate is the usual
    one of published fine-tunings with AdamW (Touvron et al., DeiT III, 2022: 1e-5 to 1e-4 at batch
    512).
    """
    size = _size(facts, given)
    epochs = round(interpolate(facts.pictures, EPOCH_ANCHORS))
    batch_size = _batch_size(facts)
    batch = given.get("batch_size", batch_size[0])
    return {
        **_strength(facts),
        "epochs": (epochs, f"{size}: interpolated between anchors"),
        "batch_size": batch_size,
        "lr": (
            _rate(facts, batch),
            f"{size}: interpolated between anchors, times sqrt(batch / 32)",
        ),
        "optimizer": ("adamw", "default"),
        "warmup": ("10%", "default: the head starts from the probe, so a short warm-up is enough"),
        "schedule": ("cosine", "default"),
        "decay_at": ("", "not used by cosine"),
        "decay_factor": (0.1, "not used by cosine"),
        "weight_decay": (0.05, "default of AdamW fine-tuning; not on biases and norms"),
        "crop_area": (0.5, "default for fine-tuning on few pictures: milder than ImageNet's 0.08"),
        "flip": (0.5, "default; --flip 0 where left and right differ in meaning and shape"),
        "batch_norm": _batch_norm(min(batch, facts.pictures)),
        "clip_norm": _clip_norm(facts),
        "probe": ("on", "default: first result in seconds, initial head, and floor of the run"),
        "balance": balance(facts, given),
    }


def _batch_size(facts: Facts) -> tuple[int, str]:
    """Choose the pictures of a step, by the device alone: a batch size chosen by timing would give
    other weights on a busy day."""
    if facts.device == "cpu":
        return 32, "fixed on the CPU; never chosen by timing"
    return 64, "usual on a GPU; never chosen by timing"


def _rate(facts: Facts, batch: int) -> float:
    """Interpolate the learning rate between the anchors, which hold at batch 32, to two digits."""
    anchors = LR_ANCHORS if facts.base.batch_norm else LR_ANCHORS_TRANSFORMER
    rate = interpolate(facts.pictures, anchors)
    return float(f"{rate * math.sqrt(batch / 32):.2g}")


def _strength(facts: Facts) -> Choices:
    """Choose the strength of regularisation: a small base has little capacity to spare, so it
    gets less."""
    if facts.base.params_m < SMALL_M:
        weak = "weaker for a base below 10 M parameters"
        return {
            "label_smoothing": (0.05, weak),
            "erasing": (0.1, weak),
            "drop_path": (0.0, weak),
        }
    usual = "usual strength for a base of this size"
    return {
        "label_smoothing": (0.1, usual),
        "erasing": (0.25, usual),
        "drop_path": _drop_path(facts, usual),
    }


def _drop_path(facts: Facts, usual: str) -> tuple[float, str]:
    """Choose stochastic depth for a base that is not small."""
    if facts.base.batch_norm:
        return 0.0, usual
    if not facts.takes_drop_path():
        return 0.0, "this architecture has no blocks that could be left out"
    return 0.1, usual


def _batch_norm(pictures: int) -> tuple[str, str]:
    """Choose what batch norms do with this number of pictures in a step."""
    if pictures >= 16:
        return "train", "batches of 16 and more give usable statistics"
    return "frozen", "batches below 16 give noisy statistics"


def _clip_norm(facts: Facts) -> tuple[float, str]:
    """Choose the largest norm of the gradients; 0 turns clipping off."""
    if facts.base.batch_norm:
        return 0.0, "off"
    return 1.0, "usual for transformers"


def common(facts: Facts, given: Given) -> Choices:
    """Choose what a recipe need not name: input side, validation, precision, threads, and the usual
    value of every other field."""
    usual = {name: (row.usual, row.why) for name, row in ROWS.items() if row.why is not None}
    # no side is searched for if one was set by hand: each trial takes some tenths of a second
    by_hand = (given.get("image_size"), BY_HAND)
    image_size = by_hand if "image_size" in given else input_side(facts)
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


def _size(facts: Facts, given: Given) -> str:
    """Say in words which number of pictures the recipe is fitted to."""
    if facts.has_val or ("val" in given and as_fraction(given["val"]) is None):
        return f"{facts.pictures:,} training pictures"
    share = float(given.get("val", _val(facts)[0]))
    return f"{facts.pictures:,} pictures, before {100 * share:.3g} % of them become val"


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
