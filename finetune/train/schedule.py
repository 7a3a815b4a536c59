"""The learning rate as a pure function of the step."""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from finetune.recipe.durations import duration_steps
from finetune.recipe.fields import Recipe


@dataclass(frozen=True)
class Schedule:
    """Everything the learning rate depends on, in steps."""

    kind: Literal["cosine", "step", "polynomial", "exponential", "constant"]
    peak: float
    total_steps: int
    warmup_steps: int
    boundary_steps: tuple[int, ...]
    """Kind step: from each of these steps on, the rate is multiplied by `factor`."""
    factor: float
    """Kind step: at each boundary; kind exponential: per epoch."""
    power: float
    """Kind polynomial: exponent."""
    steps_per_epoch: float

    def lr(self, step: int) -> float:
        """Learning rate of step 0, 1, ... total_steps - 1.

        Warm-up: peak * (step + 1) / warmup_steps. Then, with p the share of the remaining steps
        that are done:

            cosine        peak * (1 + cos(pi p)) / 2            (Loshchilov and Hutter, SGDR, 2017,
                          without restarts)
            polynomial    peak * (1 - p) ** power
            exponential   peak * factor ** (epochs since the warm-up, step by step)
            step          peak * factor ** (boundaries passed)
            constant      peak
        """
        if step < self.warmup_steps:
            return self.peak * (step + 1) / self.warmup_steps
        since = step - self.warmup_steps
        # a run that is all warm-up has no step left to divide by
        progress = since / max(1, self.total_steps - self.warmup_steps)
        match self.kind:
            case "cosine":
                return self.peak * 0.5 * (1 + math.cos(math.pi * progress))
            case "polynomial":
                return self.peak * (1 - progress) ** self.power
            case "exponential":
                return self.peak * self.factor ** (since / self.steps_per_epoch)
            case "step":
                return self.peak * self.factor ** sum(
                    step >= boundary for boundary in self.boundary_steps
                )
        return self.peak


def schedule(recipe: Recipe, *, steps_per_epoch: Fraction | int) -> Schedule:
    """The schedule of a recipe; `UserError` for a duration that is malformed or longer than the
    run, with its flag."""
    total = math.ceil(recipe.epochs * steps_per_epoch)

    def steps(text: str, name: str) -> int:
        return duration_steps(text, steps_per_epoch=steps_per_epoch, total_steps=total, name=name)

    boundaries = tuple(
        steps(text, "decay_at") for text in recipe.decay_at.split(",") if text.strip()
    )
    return Schedule(
        recipe.schedule,
        recipe.lr,
        total,
        steps(recipe.warmup, "warmup"),
        boundaries,
        recipe.decay_factor,
        recipe.decay_power,
        float(steps_per_epoch),
    )
