"""The curve of a learning-rate range test, and the rate that it suggests: pure functions of numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from finetune.recipe import BOUNDS

PER_DECADE = 15
"""Steps for each factor of ten."""
MARGIN = 10
"""The suggestion is the rate from which training makes the model worse, divided by this."""
FLAT_LR = 1e-5
"""Rates up to this hardly change a model in so few steps: the level from which a rise is counted."""
RANGE_TEST = "range test"
"""How the reason of a rate found so begins."""


@dataclass(frozen=True)
class Curve:
    """What a range test saw, one value a step; it ends early where the loss ran away."""

    lr: tuple[float, ...]
    loss: tuple[float, ...]
    """Of the training batch before the step, in nats."""

    @property
    def smooth(self) -> np.ndarray:
        """The losses, averaged with Gaussian weights over about a quarter of a decade to both sides; float64 [N]."""
        place = np.arange(len(self.loss))
        weights = np.exp(-0.5 * ((place[:, None] - place) / (PER_DECADE / 5)) ** 2)
        return np.asarray((weights / weights.sum(1, keepdims=True)) @ np.array(self.loss))


def recorded(series: Mapping[str, Sequence[tuple[int, float]]]) -> Curve | None:
    """The curve in the events of a run, None if it was not measured."""
    if "range/lr" not in series:
        return None
    lr, loss = (tuple(value for _, value in series[name]) for name in ("range/lr", "range/loss"))
    return Curve(lr, loss)


@dataclass(frozen=True)
class Suggestion:
    """A learning rate, and why."""

    lr: float
    why: str


def suggest(curve: Curve) -> Suggestion:
    """A tenth of the highest rate at which the smoothed loss is not above its level at the lowest rates.

    Beyond that rate training makes the model worse than it was; the lowest loss of the curve (fastai's suggestion) lies
    a little below it, and cannot be told from noise where the head comes from a probe and the loss hardly falls.
    """
    smooth, lr = curve.smooth, np.array(curve.lr)
    level = float(smooth[lr <= FLAT_LR].mean())
    good = np.flatnonzero(smooth <= level)
    edge = float(lr[good[-1]])
    low, high = next((low, high) for name, low, high in BOUNDS if name == "lr")
    value = min(high, max(low, float(f"{edge / MARGIN:.2g}")))
    seen = ("did not rise above its start" if good[-1] == len(lr) - 1 else
            f"rose above its start of {level:.3g}")
    return Suggestion(value, f"{RANGE_TEST}: a tenth of {edge:.2g}, after which the loss {seen}")
