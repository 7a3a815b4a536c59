"""Several sources as one: classes are joined by their names."""

import os
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

from finetune.sources.folder_names import by_bare_name
from finetune.sources.listed_pictures import Listing
from zoo.files.entries import relative
from zoo.files.passed_over import Unused
from zoo.files.same_paths import nfc
from zoo.host.errors import UserError


def joined_listings(listings: Sequence[Listing]) -> Listing:
    """Join listings in the order in which they were named; paths are relative to the folder that
    holds all of them.

    Raises `UserError` for a folder that was named twice or stands in another one, and for class
    names of two sources that look the same.
    """
    roots = [listing.root.resolve() for listing in listings]
    for first, second in combinations(roots, 2):
        if first == second or first in second.parents or second in first.parents:
            raise UserError(
                f"--data {first} --data {second}: expected folders apart from each other, because "
                "the pictures of one would count twice. Name the outer one only, or move one."
            )
    root = Path(os.path.commonpath(roots))
    # the same name in another Unicode form is the same class, spelt as it was first
    spelt: dict[str, str] = {}
    for listing in listings:
        for name in listing.classes:
            spelt.setdefault(nfc(name), name)
    classes = tuple(sorted(spelt.values()))
    # for what it refuses
    by_bare_name(root, classes)
    number_of = {nfc(name): number for number, name in enumerate(classes)}
    files: dict[str, list[tuple[str, int]]] = {}
    later: dict[str, int] = {}
    unused, folders, findings, groups = list[Unused](), set[str](), list[str](), dict[str, str]()
    for number, (listing, own) in enumerate(zip(listings, roots, strict=True)):
        before = relative(own, root)
        for split, entries in listing.files.items():
            moved = [
                (f"{before}/{path}", number_of[nfc(listing.classes[label])])
                for path, label in entries
            ]
            files.setdefault(split, []).extend(moved)
            if number:
                later.update((path, number) for path, _ in moved)
        unused += [entry._replace(path=f"{before}/{entry.path}") for entry in listing.unused]
        folders |= {relative(own / folder, root) for folder in listing.folders}
        findings += [f"{before}: {finding}" for finding in listing.findings]
        groups |= {f"{before}/{path}": group for path, group in listing.groups.items()}
    for entries in files.values():
        entries.sort()
    return Listing(
        root,
        classes,
        files,
        tuple(unused),
        frozenset(folders),
        tuple(findings),
        groups,
        later,
    )
