"""Pictures that stand in the data more than once, byte for byte.

A conflict stands under two classes, so that its label is unknown: every copy of it is left out. A
leak stands in two splits, and would make a measurement look better than it is: it stays where it is
measured; so does a group of pictures. Copies within one class and one split are kept, and counted.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from finetune.data.left_out import by_pair
from finetune.data.picture_columns import Picture
from zoo.contract.splits import SPLITS
from zoo.files.passed_over import Unused


def take_corrections(
    pictures: Sequence[Picture], later: Mapping[str, int]
) -> tuple[list[Picture], int]:
    """Give every copy of a picture the label that the latest source has for its bytes, and count
    the pictures that had another one. `later`: path -> number of its source, as `Listing` has it.

    So a correction outweighs the old label, and the picture stays in the split where it stood.
    """
    newest: dict[str, tuple[int, int]] = {}
    if later:
        for p in pictures:
            of_this = (later.get(p.path, 0), p.label)
            newest[p.sha256] = max(newest.get(p.sha256, of_this), of_this)
    corrected, changed = list(pictures), 0
    for place, p in enumerate(pictures):
        number, label = newest.get(p.sha256, (0, p.label))
        # two labels in one source are a conflict, whatever an earlier source says
        if label != p.label and later.get(p.path, 0) < number:
            corrected[place] = p._replace(label=label)
            changed += 1
    return corrected, changed


def remove_conflicts(
    pictures: Sequence[Picture], classes: Sequence[str]
) -> tuple[list[Picture], list[Unused], str]:
    """Return the pictures under one class only, those under two, and which classes these are."""
    labels: dict[str, set[int]] = defaultdict(set)
    for p in pictures:
        labels[p.sha256].add(p.label)
    # every copy of a conflict leaves: nobody can tell which label is the right one
    kept, conflicts, groups = [], [], []
    for p in pictures:
        if len(labels[p.sha256]) == 1:
            kept.append(p)
            continue
        group = tuple(sorted(classes[label] for label in labels[p.sha256]))
        reason = f"the same bytes stand under {', '.join(group)}"
        conflicts.append(Unused(p.path, "conflict", reason))
        groups.append(group)
    return kept, conflicts, by_pair(groups)


def join_groups(pictures: Sequence[Picture]) -> list[Picture]:
    """Make one group of groups that share a picture, called like the first of them in the order of
    their names; a copy of a picture of a group belongs to that group."""
    if not any(p.group for p in pictures):
        return list(pictures)
    above: dict[str, str] = {}

    def top(name: str) -> str:
        while (parent := above.get(name, name)) != name:
            # halving the way keeps it short
            above[name] = above.get(parent, parent)
            name = above[name]
        return name

    first: dict[str, str] = {}
    for p in pictures:
        if p.group:
            one, other = sorted((top(first.setdefault(p.sha256, p.group)), top(p.group)))
            above[other] = one
    return [p._replace(group=top(first[p.sha256])) if p.sha256 in first else p for p in pictures]


def remove_leaks(pictures: Sequence[Picture]) -> tuple[list[Picture], list[Unused]]:
    """Keep bytes or groups that stand in two splits only in the later one of train, val, test.
    Returns the pictures that stay, and those that leave."""
    home: dict[str, str] = {}
    for p in pictures:
        # SPLITS is in the order train, val, test: what measures keeps the picture
        home[p.unit] = max(home.get(p.unit, p.split), p.split, key=SPLITS.index)
    kept, leaks = [], []
    for p in pictures:
        if p.split == home[p.unit]:
            kept.append(p)
        else:
            shared = f"pictures of its group ({p.group})" if p.group else "the same bytes"
            leaks.append(Unused(p.path, "leak", f"{shared} stand in {home[p.unit]}"))
    return kept, leaks


def leak_findings(pictures: Sequence[Picture], kept: Sequence[Picture]) -> list[str]:
    """Write sentences about the leaks that were taken out of `pictures`, and about the copies in
    what is `kept`."""
    before, after = _per_split(pictures), _per_split(kept)
    findings, grouped = [], any(p.group for p in kept)
    for split, later in (("train", "val or test"), ("val", "test")):
        if left := before[split] - after[split]:
            findings.append(
                f"{left} pictures of {split} left out of it: the same bytes"
                f"{' or the same group' if grouped else ''} stand in {later}"
            )
    if twins := len(kept) - len({p.sha256 for p in kept}):
        findings.append(f"{twins} exact duplicates within a split")
    return findings


def _per_split(pictures: Iterable[Picture]) -> Counter[str]:
    return Counter(picture.split for picture in pictures)
