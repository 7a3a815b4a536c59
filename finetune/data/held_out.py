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
    on any machine. Where pictures have groups, a group is never cut.
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
    grouped = any(p.group for p in data.pictures)
    chosen = set[str]()
    if grouped:
        chosen = held_out_groups(copies_of, fraction)
    else:
        for copies in copies_of.values():
            chosen |= held_out(copies, count_held_out(fraction, copies.total()))
    pictures = []
    for p in data.pictures:
        moves = p.split == "train" and p.unit in chosen
        pictures.append(p._replace(split="val") if moves else p)
    if not _has_val(pictures):
        raise UserError(
            f"no class has two different {'groups' if grouped else 'pictures'}, so nothing can be "
            "held out for validation: add pictures."
        )
    alone, shares = [], {}
    for label, copies in copies_of.items():
        name, taken = data.classes[label], sum(map(copies.__getitem__, chosen & copies.keys()))
        if taken:
            shares[name] = (taken, copies.total())
        else:
            alone.append(name)
    kind = "group" if grouped else "picture"
    return replace(
        data,
        pictures=tuple(pictures),
        findings=(
            *data.findings,
            *_never_held_out(alone, kind),
            *far_from(fraction, shares, grouped=grouped),
        ),
        val_rule=f"{fraction:.2g} of train, per class, by {'group' if grouped else 'sha256'}",
    )


def _has_val(pictures: Iterable[Picture]) -> bool:
    return any(p.split == "val" for p in pictures)


def _copies_in_train(pictures: Iterable[Picture]) -> dict[int, Counter[str]]:
    """Count copies: label -> unit (mostly a sha256) -> pictures of train that it holds."""
    copies_of: dict[int, Counter[str]] = defaultdict(Counter)
    for p in pictures:
        if p.split == "train":
            copies_of[p.label][p.unit] += 1
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


def held_out_groups(copies_of: Mapping[int, Counter[str]], fraction: float) -> set[str]:
    """Choose whole units, about `fraction` of each class, in order of their names.

    `copies_of`: label -> unit -> pictures. A unit may hold pictures of several classes: it is taken
    if it brings more pictures that are wanted than pictures that are too many, and leaves each of
    its classes something to train on. If no unit is, the smallest that can be taken is.
    """
    labels_of: dict[str, Counter[int]] = defaultdict(Counter)
    for label, copies in copies_of.items():
        for unit, count in copies.items():
            labels_of[unit][label] += count
    left = {label: copies.total() for label, copies in copies_of.items()}
    wanted = {label: count_held_out(fraction, total) for label, total in left.items()}
    chosen: set[str] = set()
    for unit in sorted(labels_of):
        counts = labels_of[unit]
        useful = sum(min(count, wanted[label]) for label, count in counts.items())
        if 2 * useful > counts.total() and _leaves_some(counts, left):
            chosen.add(unit)
            for label, count in counts.items():
                left[label] -= count
                wanted[label] = max(0, wanted[label] - count)
    if not chosen:
        possible = [unit for unit in sorted(labels_of) if _leaves_some(labels_of[unit], left)]
        # sorted, so that of equal units the same one is taken on any machine
        chosen.update(sorted(possible, key=lambda unit: labels_of[unit].total())[:1])
    return chosen


def _leaves_some(counts: Counter[int], left: Mapping[int, int]) -> bool:
    """Tell whether each class of a unit still has pictures to train on without it."""
    return all(count < left[label] for label, count in counts.items())


def _never_held_out(alone: Sequence[str], kind: str) -> list[str]:
    """Write a finding about the classes of which nothing can be held out, if there are some;
    `kind`: what they have one of."""
    if not alone:
        return []
    return [f"classes with a single {kind} are not in val: {', '.join(sorted(alone)[:10])}"]


def far_from(
    fraction: float, held: Mapping[str, tuple[int, int]], *, grouped: bool = False
) -> list[str]:
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
        f"{'the pictures of a group' if grouped else 'copies of one picture'} stay on one side, so "
        f"val holds another share than {fraction:.2g} "
        f"of some classes: {', '.join(far[:SHOWN])}{more}"
    ]
