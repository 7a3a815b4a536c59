"""The curve of a learning-rate range test, and the rate that it suggests: pure functions of
numbers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from finetune.recipe.fields import ROWS

PER_DECADE = 15
"""Steps for each factor of ten."""
WIDTH = PER_DECADE / 5
"""Standard deviation in steps of the Gaussian that smooths the losses."""
WEIGHED = 2 * math.sqrt(math.pi) * WIDTH
"""Losses that such a mean is worth: its variance is that of one loss divided by this."""
NOISE = 4
"""Standard errors of a smoothed loss that count as noise: it is the lowest of a hundred that is
looked at."""
MARGIN = 10
"""The suggestion is a rate that the curve shows, divided by this."""
FLAT_LR = 1e-5
"""Rates up to this hardly change a model in so few steps: the level from which a rise is
counted."""
RANGE_TEST = "range test"
"""How the reason of a rate found so begins."""


@dataclass(frozen=True)
class Curve:
    """Holds what a range test measured, one value a step; it ends early where the loss ran away."""

    lr: tuple[float, ...]
    loss: tuple[float, ...]
    """Of the training batch before the step, in nats."""

    @property
    def smooth(self) -> np.ndarray:
        """Average the losses with Gaussian weights over about a quarter of a decade to both sides;
        float64 [N]."""
        place = np.arange(len(self.loss))
        weights = np.exp(-0.5 * ((place[:, None] - place) / WIDTH) ** 2)
        # by their sum, as at the ends of the curve a part of the Gaussian has no losses
        return np.asarray((weights / weights.sum(1, keepdims=True)) @ np.array(self.loss))


def recorded_curve(series: Mapping[str, Sequence[tuple[int, float]]]) -> Curve | None:
    """Read the curve from the events of a run; None if it was not measured."""
    if "range/lr" not in series:
        return None
    _, lr = zip(*series["range/lr"], strict=True)
    _, loss = zip(*series["range/loss"], strict=True)
    return Curve(lr, loss)


@dataclass(frozen=True)
class Suggestion:
    """Holds a learning rate, and the reason for it."""

    lr: float
    why: str


def suggest(curve: Curve) -> Suggestion:
    """Suggest a tenth of the rate at which the smoothed loss is lowest (Gugger's rule, fastai's
    `minimum`).

    Where the loss does not fall below its level at the lowest rates by more than noise, as with a
    probe's head that is good already, the lowest place means nothing: then a tenth of the last rate
    at which it was not above that level, noise apart.
    """
    smooth, lr, flat = curve.smooth, np.array(curve.lr), np.array(curve.lr) <= FLAT_LR
    level, lowest = float(smooth[flat].mean()), int(smooth.argmin())
    noise = float(np.array(curve.loss)[flat].std()) / math.sqrt(WEIGHED)
    if level - smooth[lowest] > NOISE * noise:
        edge = float(lr[lowest])
        place = f"where the loss is lowest ({smooth[lowest]:.3g}, at first {level:.3g})"
    else:
        # the last one, as noise may lift the curve above the level before it really rises
        edge = float(lr[np.flatnonzero(smooth <= level + NOISE * noise)[-1]])
        place = (
            f"after which the loss rises above its start ({level:.3g}); it never fell below it "
            "by more than noise"
        )
    low, high = ROWS["lr"].low, ROWS["lr"].high
    # two digits say enough, and --lr must take the rate
    value = min(high, max(low, float(f"{edge / MARGIN:.2g}")))
    return Suggestion(value, f"{RANGE_TEST}: a tenth of {edge:.2g}, {place}")
