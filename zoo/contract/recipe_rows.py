"""Which settings of a recipe a reader wants to see: those that were chosen for this run, and those
set by hand.

The others, some forty, are off or at the value that they have in most runs; they are folded away
wherever a recipe is shown, and recipe.json has them all.
"""

from collections.abc import Mapping
from typing import Any

ALWAYS = ("recipe", "epochs", "batch_size", "image_size", "lr")
"""Fields that are shown whatever their reason is."""
BY_HAND = "set by hand"
"""Reason of a value that the user gave."""
USUAL = ("off", "default", "used ", "not used", "not published; off", "not measured")
"""Beginnings of the reasons of values that nobody chose for this run."""
OFF = (False, 0, "", "none", "off")
"""Values that mean that something is not done."""
Rows = dict[str, Mapping[str, Any]]
"""Field -> `{"value": ..., "why": ...}`, as in recipe.json."""


def parted(recipe: Mapping[str, Mapping[str, Any]]) -> tuple[Rows, Rows]:
    """(rows to show, rows to fold away), both in the order of the recipe."""
    shown: Rows = {}
    folded: Rows = {}
    for name, row in recipe.items():
        (shown if _is_shown(name, row) else folded)[name] = row
    return shown, folded


def _is_shown(name: str, row: Mapping[str, Any]) -> bool:
    why = str(row["why"])
    if name in ALWAYS or why == BY_HAND:
        return True
    return row["value"] not in OFF and not why.startswith(USUAL)


def folded_title(folded: Mapping[str, object]) -> str:
    """What stands in the place of the folded rows."""
    return f"{len(folded)} further settings are off or at their usual value"
