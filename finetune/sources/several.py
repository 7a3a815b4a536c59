"""Several sources as one: classes are joined by their names."""

import os
import posixpath
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

from finetune.sources.folder_names import by_bare_name
from finetune.sources.listed_pictures import Listing
from zoo.contract.splits import SPLITS
from zoo.files.entries import relative
from zoo.files.passed_over import Unused
from zoo.files.same_paths import nfc
from zoo.host.errors import UserError
from zoo.host.text import one_line


def joined_listings(listings: Sequence[Listing]) -> Listing:
    """Join listings in the order in which they were named; paths are relative to the folder that
    holds all of them.

    A picture that two tables name is there once, with the label of the later one. Raises
    `UserError` for a folder that was named twice or stands in another one, for class names of two
    sources that look the same, and for a picture in two groups.
    """
    roots = [listing.root.resolve() for listing in listings]
    # two tables may lie in one folder, and name different pictures of it
    of_folders = [root for root, listing in zip(roots, listings, strict=True) if listing.folders]
    for first, second in combinations(of_folders, 2):
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
    place_of: dict[str, tuple[str, int]] = {}
    later: dict[str, int] = {}
    twice = 0
    unused, folders, findings, groups = list[Unused](), set[str](), list[str](), dict[str, str]()
    for number, (listing, own) in enumerate(zip(listings, roots, strict=True)):
        before = relative(own, root)
        for split, entries in listing.files.items():
            for path, label in entries:
                moved = _below(before, path)
                here = split
                if moved in place_of:
                    # as with copies: the latest label, and the split that measures
                    here = max(split, place_of[moved][0], key=SPLITS.index)
                    unused.append(Unused(moved, "repeated", "two --data name it"))
                    twice += 1
                place_of[moved] = here, number_of[nfc(listing.classes[label])]
                if number:
                    later[moved] = number
        unused += [entry._replace(path=_below(before, entry.path)) for entry in listing.unused]
        folders |= {relative(own / folder, root) for folder in listing.folders}
        # by its place in the command, because findings are published and names of folders are not
        findings += [f"--data {number + 1}: {finding}" for finding in listing.findings]
        _add_groups(groups, {_below(before, path): of for path, of in listing.groups.items()})
    if twice:
        findings.append(f"{twice} pictures are named by two --data: the later label counts")
    files: dict[str, list[tuple[str, int]]] = {}
    for path, (split, label) in sorted(place_of.items()):
        files.setdefault(split, []).append((path, label))
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


def _below(folder: str, path: str) -> str:
    """Give a path relative to the outer folder; a table may name pictures beside its own."""
    return posixpath.normpath(f"{folder}/{path}")


def _add_groups(groups: dict[str, str], more: Mapping[str, str]) -> None:
    """Add the groups of one source; `UserError` for a picture that has another one already."""
    for path, group in more.items():
        if groups.setdefault(path, group) != group:
            raise UserError(
                f"{one_line(path)} has the group {groups[path][:100]!r} in one --data and "
                f"{group[:100]!r} in another: expected one group for each picture."
            )
