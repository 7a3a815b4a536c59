"""The default recipe: a linear probe, then fine-tuning with AdamW."""

from finetune.presets import length, rate
from finetune.presets.every_preset import balance, size_in_words, trained_on
from finetune.presets.strength import strength
from finetune.recipe.facts import Choices, Facts, Given

MANY_PICTURES = 10_000
"""From so many on, statistics are learned from batches; chosen."""


def auto(facts: Facts, given: Given) -> Choices:
    """Choose the default recipe: a linear probe, then AdamW with a rate and a length that fit the
    data, the base and the device.

    With EfficientNet-Lite0 (ImageNet-1k weights) on 2 CPU cores, `--data digits` reaches a test
    top-1 of 97 to 98 % in 1 to 4 minutes (tests/bench/RESULTS.md, "Statistics of batch norms", has
    other sets). Other bases, and lengths on a GPU, follow published fine-tunings; they were not
    measured, and the reasons of rate and length say so.
    """
    size, training = size_in_words(facts, given), trained_on(facts, given)
    epochs, why_so_long = length.epochs(facts, training)
    batch_size = length.batch_size(facts, training)
    batch = given.get("batch_size", batch_size[0])
    rates = rate.rate_row(facts, given.get("optimizer", "adamw"))
    return {
        **strength(facts),
        "epochs": (epochs, f"{size}: {why_so_long}"),
        "batch_size": batch_size,
        "lr": (rates.rate(facts.pictures, batch), f"{size}: {rates.why}"),
        "optimizer": ("adamw", "default"),
        "warmup": ("10%", "default: the head starts from the probe, so a short warm-up is enough"),
        "schedule": ("cosine", "default"),
        "decay_at": ("", "not used by cosine"),
        "decay_factor": (0.1, "not used by cosine"),
        "weight_decay": rate.weight_decay(facts, given),
        "layer_decay": rate.layer_decay(facts, given),
        "flip": (0.5, "default; --flip 0 where left and right differ in meaning and shape"),
        "batch_norm": _batch_norm(facts, batch),
        "clip_norm": _clip_norm(facts),
        "probe": ("on", "default: first result in seconds, initial head, and floor of the run"),
        "balance": balance(facts, given),
    }


def _batch_norm(facts: Facts, batch: int) -> tuple[str, str]:
    """Choose what batch norms do.

    A linear probe is fitted to features of the base's statistics. With those of a batch it answers
    no better than by chance on some data (tests/bench/RESULTS.md, "Statistics of batch norms"), and
    a short run does not make up for that.
    """
    if not facts.base.batch_norm:
        return "train", "default: there are no batch norms"
    if min(batch, facts.pictures) < 16:
        return "frozen", "batches below 16 give noisy statistics"
    if facts.pictures < MANY_PICTURES:
        return (
            "frozen",
            "the probe's head fits the base's statistics; measured on EfficientNet-Lite0 alone",
        )
    return "train", "enough pictures to learn other statistics; not measured"


def _clip_norm(facts: Facts) -> tuple[float, str]:
    """Choose the largest norm of the gradients; 0 turns clipping off."""
    if facts.base.batch_norm:
        return 0.0, "off"
    return 1.0, "usual for transformers"
