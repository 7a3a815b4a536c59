"""Learning rate and weight decay of a published recipe whose optimiser was replaced by hand: those
of the source hold for its own optimiser alone.

A rate is kept between optimisers that share one (SGD and momentum; AdamW, Adam and Ranger), a decay
between those that mean the same by it.
"""

from finetune.presets import rate
from finetune.presets.rate import RateRow
from finetune.recipe.facts import Choices, Facts, Given

RATES = {"momentum": "sgd", "adam": "adamw", "ranger": "adamw"}
"""Optimiser -> the one whose rate it takes."""
DECAYS = {
    "sgd": "gradient",
    "momentum": "gradient",
    "rmsprop": "gradient",
    "lars": "gradient",
    "adamw": "decoupled",
    "adam": "scaled with the gradient",
    "ranger": "scaled with the gradient",
    "adagrad": "scaled with the gradient",
    "adadelta": "scaled with the gradient",
}
"""Optimiser -> what its weight decay is."""
FROM_SCRATCH = {
    "sgd": RateRow(((1_000, 0.1),), 256, "linear", "usual from scratch (He et al., 2016)"),
    "adamw": RateRow(
        ((1_000, 5e-4),), 512, "linear", "DeiT's from scratch (Touvron et al., 2021), not measured"
    ),
    "rmsprop": RateRow(
        ((1_000, 1.6e-2),), 256, "linear", "EfficientNet's (Tan and Le, 2019), not measured"
    ),
    "adadelta": RateRow(
        ((1_000, 1.0),), 256, "none", "the method's own (Zeiler, 2012), not measured"
    ),
    "adagrad": RateRow(((1_000, 1e-2),), 32, "square root", "torch's own, not measured"),
    "lars": RateRow(
        ((1_000, 1.0),), 256, "linear", "usual from scratch (You et al., 2017), not measured"
    ),
}
"""Optimiser -> rate of random weights; fine-tuning's are in finetune/presets/rate.py, mostly a
tenth of these."""


def refitted(choices: Choices, facts: Facts, given: Given) -> Choices:
    """Return the rate and the decay that replace those of a recipe's `choices`, because they are of
    another optimiser than the one in `given`; nothing where the recipe's own hold."""
    own, other = choices["optimizer"][0], given.get("optimizer", choices["optimizer"][0])
    replaced: Choices = {}
    if RATES.get(own, own) != RATES.get(other, other):
        replaced["lr"] = _rate(choices, facts, given)
    if DECAYS[own] != DECAYS[other]:
        decay, why = rate.weight_decay(facts, given)
        replaced["weight_decay"] = (decay, f"the recipe's is of {own}; {why}")
    return replaced


def _rate(choices: Choices, facts: Facts, given: Given) -> tuple[float, str]:
    """Choose the rate of the given optimiser for the recipe's batch."""
    own = choices["optimizer"][0]
    other: str = given["optimizer"]
    row = rate.rate_row(facts, other)
    if given.get("from_scratch", choices.get("from_scratch", (False, ""))[0]):
        row = FROM_SCRATCH[RATES.get(other, other)]
    batch = given.get("batch_size", choices["batch_size"][0])
    found = row.rate(facts.pictures, batch)
    return found, f"the recipe's is of {own}; for {other} {row.why}"
