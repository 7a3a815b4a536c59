"""A recipe with the reason for each of its values, as recipe.json holds it."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, get_args

from finetune.recipe.fields import MEASURED, ROWS, TYPES, Recipe, with_later_fields
from zoo.files import checks
from zoo.host.errors import UserError

LATER = "not known to the version that began this run"
"""The reason for a value that recipe.json does not have."""


@dataclass(frozen=True)
class Resolved:
    """A recipe and the reason for each of its values."""

    recipe: Recipe
    why: dict[str, str]

    def replace(self, why: str, **values: Any) -> "Resolved":
        """The same with some values changed, all for one reason."""
        recipe = Recipe(
            **{f.name: values.get(f.name, getattr(self.recipe, f.name)) for f in fields(Recipe)}
        )
        return Resolved(recipe, self.why | dict.fromkeys(values, why))

    def to_json(self) -> dict[str, dict[str, Any]]:
        """`{field: {"value": ..., "why": ...}}`, the content of recipe.json."""
        return {
            f.name: {"value": getattr(self.recipe, f.name), "why": self.why[f.name]}
            for f in fields(Recipe)
        }

    @staticmethod
    def from_json(content: dict[str, dict[str, Any]]) -> "Resolved":
        """What `to_json` wrote. A field that came later has its usual value, which an earlier
        version trained with.

        Raises `UserError` for a field that is unknown, and for one that is missing and has always
        been there.
        """
        later = {
            name: {"value": value, "why": LATER} for name, value in with_later_fields({}).items()
        }
        missing = sorted(set(ROWS) - set(content) - set(later))
        unknown = sorted(set(content) - set(ROWS))
        if missing or unknown:
            raise UserError(
                f"recipe.json has other fields than this version: {missing + unknown}. "
                "Continue the run with the version that started it, or train again."
            )
        read = later | content
        return Resolved(
            Recipe(**{name: _of_type(read[name]["value"], TYPES[name]) for name in ROWS}),
            {name: checks.text(read[name]["why"]) for name in ROWS},
        )


def _of_type(value: Any, expected: Any) -> Any:
    """The value of a recipe field, if it is of the field's type; else `ValueError`."""
    if expected is bool:
        if not isinstance(value, bool):
            raise ValueError(f"expected true or false, seen {checks.seen(value)}")
        return value
    if expected is float and isinstance(value, float):
        return checks.number(value)
    if expected in (float, int):
        return checks.whole(value, -(10**15), 10**15)
    if expected is str:
        return checks.text(value)
    if not isinstance(value, str) or value not in get_args(expected):
        raise ValueError(
            f"expected one of {', '.join(get_args(expected))}, seen {checks.seen(value)}"
        )
    return value


def given_of(content: Mapping[str, Any]) -> dict[str, Any]:
    """Recipe fields set by hand, read from a file; `ValueError` that names a key that is none, or a
    wrong value."""
    found = {}
    for key, value in content.items():
        if checks.name(key) not in TYPES:
            near = difflib.get_close_matches(key[:50], TYPES, 1, 0)
            raise ValueError(
                f"expected settings of a recipe, such as {near[0]}, seen {checks.seen(key)}"
            )
        usual = (key in MEASURED and value == "auto") or (key == "lr" and value == "find")
        try:
            found[key] = value if usual else _of_type(value, TYPES[key])
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from None
        if isinstance(value, str) and "\0" in value:
            raise ValueError(
                f"{key}: expected a text without zero bytes, seen {checks.seen(value)}"
            )
    return found
