"""Which pictures of a class are held out for validation, where the data has no val folder."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from finetune.data.dataset import Data, Picture
from finetune.recipe.facts import as_fraction
from zoo.host.errors import UserError

SHOWN = 5
"""Classes in a finding."""


def split(data: Data, val: str) -> Data:
    """Cut the fraction `val` (as in '0.2') from train; data that already has a val is returned as
    it is.

    Per class, in order of sha256, identical bytes together: the same picture lands on the same side
    on any machine.
    """
    if _has_val(data.pictures):
        return data
    fraction = as_fraction(val)
    if fraction is None:
        raise UserError(
            "the validation folder has no usable picture: every one stands in test too, or was "
            "left out."
        )
    copies_of = _copies_in_train(data.pictures)
    chosen = {}
    for label, copies in copies_of.items():
        chosen[label] = held_out(copies, count_held_out(fraction, copies.total()))
    pictures = []
    for p in data.pictures:
        moves = p.split == "train" and p.sha256 in chosen[p.label]
        pictures.append(p._replace(split="val") if moves else p)
    if not _has_val(pictures):
        raise UserError(
            "no class has two different pictures, so nothing can be held out for validation: add "
            "pictures."
        )
    alone, shares = [], {}
    for label, copies in copies_of.items():
        name = data.classes[label]
        if len(copies) == 1:
            alone.append(name)
        else:
            shares[name] = (sum(map(copies.__getitem__, chosen[label])), copies.total())
    return replace(
        data,
        pictures=tuple(pictures),
        findings=(*data.findings, *_never_held_out(alone), *far_from(fraction, shares)),
        val_rule=f"{fraction:.2g} of train, per class, by sha256",
    )


def _has_val(pictures: Iterable[Picture]) -> bool:
    return any(p.split == "val" for p in pictures)


def _copies_in_train(pictures: Iterable[Picture]) -> dict[int, Counter[str]]:
    """Count copies: label -> sha256 -> pictures of train with these bytes."""
    copies_of: dict[int, Counter[str]] = defaultdict(Counter)
    for p in pictures:
        if p.split == "train":
            copies_of[p.label][p.sha256] += 1
    return copies_of


def count_held_out(fraction: float, pictures: int) -> int:
    """Tell how many pictures of a class are wanted for val."""
    return max(1, round(fraction * pictures))


def held_out(copies: Counter[str], wanted: int) -> set[str]:
    """Choose the sha256 of about `wanted` pictures of one class, in order of sha256; one group at
    least stays in train.

    `copies`: sha256 -> pictures with these bytes. A group of copies that would go beyond `wanted`
    is passed over; if every group is too large, the smallest is taken.
    """
    chosen: set[str] = set()
    taken = 0
    # the last group always stays in train
    for sha256 in sorted(copies)[:-1]:
        if taken + copies[sha256] <= wanted:
            chosen.add(sha256)
            taken += copies[sha256]
    if not chosen and len(copies) > 1:
        # sorted, so that of equal groups the same one is taken on any machine
        chosen.add(min(sorted(copies), key=copies.__getitem__))
    return chosen


def _never_held_out(alone: Sequence[str]) -> list[str]:
    """Write a finding about the classes of a single picture, if there are some."""
    if not alone:
        return []
    return [f"classes with a single picture are not in val: {', '.join(sorted(alone)[:10])}"]


def far_from(fraction: float, held: Mapping[str, tuple[int, int]]) -> list[str]:
    """Write a finding about the classes whose share is far from `fraction`; `held`: name ->
    (pictures in val, pictures)."""
    far = []
    for name, (taken, total) in held.items():
        if not 0.5 <= taken / count_held_out(fraction, total) <= 1.5:
            far.append(f"{name} {taken} of {total}")
    if not far:
        return []
    more = " ..." if len(far) > SHOWN else ""
    return [
        f"copies of one picture stay on one side, so val holds another share than {fraction:.2g} "
        f"of some classes: {', '.join(far[:SHOWN])}{more}"
    ]
