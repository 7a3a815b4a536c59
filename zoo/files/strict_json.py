"""JSON of strangers: bounded in size, depth and numbers before anything is made of it."""

import json
from typing import Any

DEEPEST = 64
"""Lists and objects inside each other at most."""
MOST_VALUES = 1_000_000
"""Values at most; each takes up to 150 bytes of memory, however short it is in the file."""
MOST_DIGITS = 300
"""Of a whole number: every such number is also a finite float."""


def parse(content: bytes, *, finite: bool = True) -> Any:
    """The value of a JSON text in UTF-8.

    Raises `ValueError` for what is not JSON, for values over the limits above, for a key that
    stands twice in an object and, with `finite`, for NaN, Infinity and numbers that overflow.
    """
    # every value but the first of a list or object follows a comma; the first ones follow a bracket
    if sum(map(content.count, (b",", b"[", b"{"))) > MOST_VALUES:
        raise ValueError(f"more than {MOST_VALUES:,} values")
    # by default json.loads reads NaN and Infinity, and gives infinity for 1e999
    strict: dict[str, Any] = {}
    if finite:
        strict = {"parse_float": _finite, "parse_constant": _refuse}
    try:
        value = json.loads(
            content.decode("utf-8"), object_pairs_hook=_object, parse_int=_whole, **strict
        )
    except UnicodeDecodeError as error:  # its own text would hold all of the content
        raise ValueError(f"byte {error.start} is not UTF-8") from None
    except RecursionError:
        raise ValueError(f"more than {DEEPEST} lists and objects inside each other") from None
    # after the parsing, whose own limit (RecursionError) is far beyond this one
    _check_depth(value)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    # of two values under one key each reader could take another one
    if len(found) != len(pairs):
        raise ValueError("an object has the same key twice")
    return found


def _whole(digits: str) -> int:
    # int() of a text takes quadratic time, and Python itself stops only at 4,300 digits
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"a whole number of {len(digits):,} digits")
    return int(digits)


def _finite(digits: str) -> float:
    number = float(digits)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"the number {digits[:40]} is too large")
    return number


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is not a number of JSON")


def _check_depth(value: Any) -> None:
    """Level by level, so that this function is not deep itself."""
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > DEEPEST:
            raise ValueError(f"more than {DEEPEST} lists and objects inside each other")
        inner = list[Any]()
        for outer in level:
            if isinstance(outer, dict):
                inner += outer.values()
            elif isinstance(outer, list):
                inner += outer
        level = inner
