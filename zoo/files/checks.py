"""Checks of the values that a file of a stranger holds, by type: text is text, a number is finite
and in its range.

Each function gives the value or raises `ValueError`; inside `of(file)` every such error becomes one
`UserError`.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zoo.host.errors import UserError

LONGEST_TEXT = 100_000
"""Characters of a text that is not a name."""
LONGEST_NAME = 1_000
"""Characters of a name; a class is called like a folder, which has up to 255 bytes."""
MOST_NAMES = 100_000
"""Classes of a model at most."""
_MALFORMED = (
    AttributeError,
    KeyError,
    IndexError,
    TypeError,
    ValueError,
    OverflowError,
    ZeroDivisionError,
)
"""What reading a file raises whose content is of another type than expected."""


@contextmanager
def of(file: Path | str, advice: str = "Copy the folder again.") -> Iterator[None]:
    """What fails in the block because `file` holds something else than expected becomes a
    `UserError` that names it.

    `advice`: the sentence that says what to do.
    """
    try:
        yield
    except _MALFORMED as error:
        raise UserError(
            f"{file} is not as this program writes it ({seen(error)}). {advice}"
        ) from error


def seen(value: Any) -> str:
    """A value for a message, cut where it is long."""
    # repr, because control characters of a stranger's value must not reach the terminal
    shown = repr(value)
    return shown if len(shown) <= 200 else f"{shown[:200]}..."


def text(value: Any, *, most: int = LONGEST_TEXT) -> str:
    """A text, which may be empty."""
    if not isinstance(value, str) or len(value) > most:
        raise ValueError(f"expected a text of at most {most:,} characters, seen {seen(value)}")
    return value


def name(value: Any) -> str:
    """A text of 1 to `LONGEST_NAME` characters."""
    if not text(value, most=LONGEST_NAME):
        raise ValueError("expected a name, seen an empty text")
    return value


def names(value: Any) -> tuple[str, ...]:
    """A list of names, no two of them the same."""
    if not isinstance(value, list | tuple) or len(value) > MOST_NAMES:
        raise ValueError(f"expected a list of at most {MOST_NAMES:,} names, seen {seen(value)}")
    found = tuple(map(name, value))
    if len(set(found)) != len(found):
        raise ValueError("expected different names, seen one of them twice")
    return found


def number(value: Any, *, above: float = -math.inf, below: float = math.inf) -> float:
    """A finite number between the two, exclusive."""
    # True is an int to Python, but not to JSON; NaN fails the comparison
    if isinstance(value, bool) or not isinstance(value, int | float) or not above < value < below:
        raise ValueError(
            f"expected a number above {above:g} and below {below:g}, seen {seen(value)}"
        )
    return float(value)


def whole(value: Any, least: int, most: int) -> int:
    """A whole number in this range."""
    # True is an int to Python
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"expected a whole number from {least} to {most:,}, seen {seen(value)}")
    return value


def mapping(value: Any) -> dict[str, Any]:
    """An object of JSON."""
    if not isinstance(value, Mapping):
        raise ValueError(f"expected an object, seen {seen(value)}")
    return dict(value)


def facts(value: Any) -> dict[str, Any]:
    """An object of at most 100 texts, numbers and empty values."""
    found = mapping(value)
    if len(found) > 100:
        raise ValueError(f"expected at most 100 values, seen {len(found):,}")
    for key, entry in found.items():
        name(key)
        if isinstance(entry, str):
            text(entry, most=LONGEST_NAME)
        elif entry is not None and not isinstance(entry, bool):
            number(entry)
    return found
