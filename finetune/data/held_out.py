"""Which pictures of a class are held out for validation, where the data has no val folder."""

from collections import Counter
from collections.abc import Mapping

SHOWN = 5
"""Classes in a finding."""


def held_out(copies: Counter[str], wanted: int) -> set[str]:
    """The sha256 of about `wanted` pictures of one class, in order of sha256; one group at least
    stays in train.

    `copies`: sha256 -> pictures with these bytes. A group of copies that would go beyond `wanted`
    is passed over; if every group is too large, the smallest is taken.
    """
    chosen: set[str] = set()
    taken = 0
    for sha256 in sorted(copies)[:-1]:
        if taken + copies[sha256] <= wanted:
            chosen.add(sha256)
            taken += copies[sha256]
    if not chosen and len(copies) > 1:
        chosen.add(min(sorted(copies), key=copies.__getitem__))
    return chosen


def far_from(fraction: float, held: Mapping[str, tuple[int, int]]) -> list[str]:
    """A sentence about the classes whose share is far from `fraction`; `held`: name -> (pictures in
    val, pictures)."""
    far = [
        f"{name} {taken} of {total}"
        for name, (taken, total) in held.items()
        if not 0.5 <= taken / max(1, round(fraction * total)) <= 1.5
    ]
    if not far:
        return []
    return [
        f"copies of one picture stay on one side, so val holds another share than {fraction:.2g} "
        f"of some classes: {', '.join(far[:SHOWN])}{' ...' if len(far) > SHOWN else ''}"
    ]
