"""Durations of a recipe: '10%', '2 epochs' or '500 steps'."""

import math
from collections.abc import Mapping
from typing import Any, SupportsFloat

from zoo.host.errors import UserError

DURATIONS = ("warmup", "decay_at")
"""Fields that hold a duration, or several with commas between."""


def duration_steps(
    text: str, *, steps_per_epoch: SupportsFloat, total_steps: int, name: str = ""
) -> int:
    """Steps of a duration written as '10%', '2 epochs' or '500 steps'. The only place where
    durations are converted.

    `name`: the recipe's field that holds it, for errors.

    >>> duration_steps("10%", steps_per_epoch=7, total_steps=70)
    7
    """
    number, unit = _duration(text, name)
    steps_in = {"%": total_steps / 100, "epochs": float(steps_per_epoch), "steps": 1.0}
    steps = round(number * steps_in[unit])
    if not 0 <= steps <= total_steps:
        raise UserError(
            f"{_flag(name)}duration {text!r} is {steps} steps: expected 0 to {total_steps}, the "
            "length of the run."
        )
    return steps


def check_durations(given: Mapping[str, Any]) -> None:
    """Check what can be told of durations before the data is read: `UserError` for a malformed one,
    and for one in epochs or percent that is longer than the run. How many steps a run has is known
    later."""
    for name in DURATIONS:
        for text in str(given.get(name, "")).split(","):
            if not text.strip() and (name != "warmup" or name not in given):
                continue
            number, unit = _duration(text, name)
            most = {"%": 100, "epochs": given.get("epochs", math.inf), "steps": math.inf}[unit]
            if not 0 <= number <= most:
                length = "the length of the run"
                if unit == "epochs":
                    length += f" (--epochs {most})"
                raise UserError(
                    f"{_flag(name)}duration {text!r}: expected 0 or more, and at most {length}."
                )


def _duration(text: str, name: str) -> tuple[float, str]:
    """Return (number, unit: %, epochs or steps)."""
    number = text.strip().rstrip("%abcdefghijklmnopqrstuvwxyz ")
    unit = text.strip()[len(number) :].strip()
    units = {"%": "%", "epochs": "epochs", "epoch": "epochs", "steps": "steps", "step": "steps"}
    try:
        if unit in units and math.isfinite(float(number)):
            return float(number), units[unit]
    except ValueError:
        pass
    raise UserError(
        f"{_flag(name)}duration {text!r}: expected a number with %, epochs or steps, as in '10%', "
        "'2 epochs' or '500 steps'."
    )


def _flag(name: str) -> str:
    if not name:
        return ""
    return f"--{name.replace('_', '-')}: "
