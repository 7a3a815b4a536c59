"""One row of the table of a recipe's fields (finetune/recipe/fields.py)."""

import math
from dataclasses import dataclass
from typing import Any

OFF = "off"
"""The usual reason for a usual value."""
NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Row:
    """What is known of a recipe's field besides its type and its help, which stand beside it."""

    low: float = -math.inf
    high: float = math.inf
    """Inclusive range of a number."""
    least: float = 0
    """The smallest number besides 0 that does what the field says: below, fp32 rounds it to
    nothing."""
    usual: Any = 0
    """The value with which the field does nothing, or what nearly every run has."""
    why: str | None = None
    """The reason for `usual` in a recipe that does not name the field; None: every recipe names it,
    or it is decided for all of them (finetune/presets/every_preset.py)."""
    needs: tuple[str, ...] = ()
    """Another field, and its values with which this one has an effect; no values: any but empty or
    off."""
    heavy: bool = False
    """Whether it varies the pictures so much that less weight decay is needed, as with a policy."""
    probe_too: bool = False
    """Whether it has an effect on a run that is only a probe as well."""

    def refusal(self, value: float) -> str:
        """Why a number is no value of the field; empty where it is one."""
        if not self.low <= value <= self.high:
            return f"expected a value from {self.low} to {self.high}"
        if 0 < value < self.least:
            return f"expected 0 (off), or a value from {self.least:g} to {self.high:g}"
        return ""

    def has_effect(self, recipe: Any) -> bool:
        """Whether the field changes anything in a run by this `Recipe`; where it does not, it is
        refused, never ignored."""
        if recipe.probe_only and not self.probe_too:
            return False
        if not self.needs:
            return True
        other, *values = self.needs
        value = getattr(recipe, other)
        if not values:
            return bool(value)
        return value in values


def row_of(hint: Any) -> Row:
    """Return the row in the annotation of a field; an empty one where it has none."""
    for note in getattr(hint, "__metadata__", ()):
        if isinstance(note, Row):
            return note
    return Row()
