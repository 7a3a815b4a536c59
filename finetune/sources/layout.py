"""How the folders at the top of a data folder are meant: as splits, as classes, or as neither.

A folder that can be read in two ways is never guessed at: the error shows both readings, and what
to do for each.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path

from finetune.sources.folder_names import SPLIT_FOLDERS, like_split, parts, whole_split
from zoo.files.entries import level
from zoo.files.same_paths import nfc
from zoo.host.errors import UserError
from zoo.host.text import one_line, shell_path

MOST_SPLITS = 3
"""Of folders that are no folds."""
DEEPEST = 5
"""Folders inside each other through which classes are looked for."""


def subfolders(root: Path, folder: Path) -> list[str]:
    """List the names of the folders in a folder, without those of the system."""
    return level(root, folder).folders


def with_classes(root: Path, folder: Path) -> tuple[Path, set[str]]:
    """Find the first folder, from `folder` on, that does not hold exactly one folder, and the
    folders that it holds, in NFC: archives often unpack as `training_set/training_set/cats`."""
    names = subfolders(root, folder)
    for _ in range(DEEPEST):
        if len(names) != 1:
            break
        folder = folder / names[0]
        names = subfolders(root, folder)
    return folder, set(map(nfc, names))


def refuse_splits_as_classes(root: Path, names: Sequence[str]) -> None:
    """Raise `UserError` if these folders, about to be taken for classes, may be splits.

    That is so if all of them hold folders of the same names, whatever they are called; if some with
    names like splits do; or if their names are like those of at least two different splits,
    whatever they hold.
    """
    _refuse_same_in_all(root, names)
    like = {}
    for name in names:
        if (split := like_split(name)) is not None:
            like[name] = split
    inner = {name: with_classes(root, root / name) for name in like}
    for first, second in combinations(like, 2):
        if classes := _same(inner[first][1], inner[second][1]):
            raise UserError(_two_readings(root, names, inner, classes))
    full = [name for name in like if len(inner[name][1]) > 1]
    flat = [name for name in like if like[name] and not inner[name][1]]
    if len(full) == 1 and like[full[0]] == "train" and flat:
        path, classes = inner[full[0]]
        shown = _some(sorted(classes))
        raise UserError(
            f"{root} can be read in two ways: {_some(like)} look like splits, and only {full[0]} "
            f"holds folders ({shown}). If {shown} are the classes, use --data {shell_path(path)}; "
            f"pictures of {_some(flat)} need folders of the same names.{_if_classes(root, names)}"
        )
    sure = _surely_splits(like, names)
    if len(set(sure.values())) > 1:
        raise UserError(
            f"{root} can be read in two ways: {_some(sure)} look like splits, but do not hold "
            "folders of the same names. If they are splits, give each of them one folder for each "
            "class, with the pictures of the class in it, and rename the splits to train, val and "
            f"test.{_if_classes(root, names)}"
        )


def _surely_splits(like: Mapping[str, str], names: Sequence[str]) -> dict[str, str]:
    """Pick, as name -> split, the folders whose names can hardly be those of classes; `like`:
    what `like_split` says of those among `names` that remind of a split."""
    sure = {}
    for name in like:
        split: str | None = like[name]
        # beside other folders train_images counts, but not training or train_station
        if len(like) < len(names):
            split = whole_split(name) if len(parts(name)) > 1 else None
        if split:
            sure[name] = split
    return sure


def _refuse_same_in_all(root: Path, names: Sequence[str]) -> None:
    """Raise `UserError` if all these folders hold the same folders: two or more, or up to three
    folders of which one holds all that the others do. Each folder is listed only as long as that
    may still be so: mostly the first one alone."""
    inner: dict[str, tuple[Path, set[str]]] = {}
    for name in names:
        inner[name] = with_classes(root, root / name)
        shared = set.intersection(*(held for _, held in inner.values()))
        if len(names) > MOST_SPLITS and len(shared) < 2:
            return
    if len(inner) < 2:
        return
    # a split may lack a class
    if len(shared) > 1 and 2 * len(shared) >= max(len(held) for _, held in inner.values()):
        raise UserError(_two_readings(root, names, inner, shared))
    if len(names) <= MOST_SPLITS:
        _refuse_part_of_one(root, names)


def _refuse_part_of_one(root: Path, names: Sequence[str]) -> None:
    """Raise `UserError` if one of these folders holds two or more folders and no files, and each of
    the others some of the same: splits that lack classes, down to a single one."""
    held: dict[str, set[str]] = {}
    for name in names:
        found = level(root, root / name)
        if any(entry.kind == "outside" for entry in found.unused):
            return
        held[name] = set(map(nfc, found.folders))
    fullest = max(held, key=lambda name: len(held[name]))
    if len(held[fullest]) > 1 and all(own and own <= held[fullest] for own in held.values()):
        inner = {name: (root / name, own) for name, own in held.items()}
        shared = set.union(*(own for name, own in held.items() if name != fullest))
        raise UserError(_two_readings(root, names, inner, shared))


def _same(first: set[str], second: set[str]) -> set[str]:
    """Return the names that two folders share, if these are at least half of what the smaller one
    holds."""
    both = first & second
    if 2 * len(both) < min(len(first), len(second)):
        return set()
    return both


def _two_readings(
    root: Path, names: Sequence[str], inner: Mapping[str, tuple[Path, set[str]]], shared: set[str]
) -> str:
    """Write the error for folders that hold the same folders: those of `inner`, name -> what
    `with_classes` gives.

    `names`: all folders that would be the classes.
    """
    shown = _some(sorted(shared))
    kinds = set(map(whole_split, shared))
    if kinds == {"train"} or len(kinds - {None}) > 1:
        holder = next(path for path, held in inner.values() if shared <= held)
        return (
            f"{root} can be read in two ways: each of {_some(inner)} holds the folders {shown}, "
            "which look like splits. If they are, use one of the outer folders, such as --data "
            f"{shell_path(holder)}.{_if_classes(root, names)} All that is in them is then for "
            f"training; to keep {shown} apart, sort the pictures into train/CLASS and test/CLASS."
        )
    train, held = _train_and_val(inner)
    rename = unknown = ""
    if all(path == root / name for name, (path, _) in inner.items()):
        rename = "rename the splits to train, val and test, or "
    if None in map(like_split, inner):
        unknown = "one of the folders to train on and another to validate, such as "
    return (
        f"{root} can be read in two ways: {_some(inner)} hold folders of the same names ({shown}), "
        f"as splits do. If {shown} are the classes, {rename}use {unknown}--data "
        f"{shell_path(inner[train][0])} --val "
        f"{shell_path(inner[held][0])}.{_if_classes(root, names)}"
    )


def _train_and_val(inner: Mapping[str, tuple[Path, set[str]]]) -> tuple[str, str]:
    """Choose which two of these folders to propose as train and val, by their names; without such
    names, the one with the most folders as train, and the first of the others as val."""
    first_like: dict[str | None, str] = {}
    for name in inner:
        first_like.setdefault(like_split(name), name)
    fullest = max(inner, key=lambda name: len(inner[name][1]))
    train = first_like.get("train") or fullest
    others = [first_like.get("val"), first_like.get("test"), *inner]
    return train, next(name for name in others if name and name != train)


def _if_classes(root: Path, names: Iterable[str]) -> str:
    return f" If {_some(names)} are the classes, move these folders into {root / 'train'}."


def refuse_likeness_beside(root: Path, by_split: dict[str, Path], beside: Sequence[str]) -> None:
    """Raise `UserError` if a folder beside the splits looks like one that is missing, and holds the
    same classes."""
    classes = set(map(nfc, subfolders(root, by_split["train"])))
    for name in beside:
        split = like_split(name)
        if not split or split in by_split:
            continue
        if both := _same(classes, with_classes(root, root / name)[1]):
            raise UserError(
                f"{root} can be read in two ways: {name} stands beside {_some(by_split.values())}, "
                f"looks like a split, and holds the same folders ({_some(sorted(both))}). If it is "
                f"the {split} split, rename it to {split}. If it is none, put a dot before its "
                "name, or move it elsewhere."
            )


def too_high(root: Path, folder: Path) -> str:
    """Write a hint with the path to use, if the classes or splits stand deeper in `folder`; else
    empty."""
    outer = [name for name in subfolders(root, folder) if subfolders(root, folder / name)]
    if len(outer) != 1:
        return ""
    inner = folder / outer[0]
    for _ in range(DEEPEST):
        below = subfolders(root, inner)
        if len(below) > 1 or (below and below[0].lower() in SPLIT_FOLDERS):
            advice = f"move them up into {folder}"
            if folder == root:
                advice = f"use --data {shell_path(inner)}"
            return (
                f" {inner} holds the folders {_some(below)}: if these are the classes or "
                f"splits, {advice}."
            )
        if not below:
            return ""
        inner = inner / below[0]
    return ""


def classes_below(root: Path, folder: Path, names: Sequence[str], classes: Sequence[str]) -> str:
    """Write a hint with the path to use, if one of the folders `names` in the folder of a split
    holds the classes."""
    known = set(map(nfc, classes))
    holders = []
    for name in names:
        if _same(known, set(map(nfc, subfolders(root, folder / name)))):
            holders.append(name)
    if not holders:
        return ""
    # a folder called like a val before any other
    meant = min(holders, key=lambda name: like_split(name) != "val")
    advice = f"use --val {shell_path(folder / meant)}"
    if folder.parent == root:
        advice = f"move them up into {folder}"
    return f" {folder / meant} holds folders of the names expected: if it is meant, {advice}."


def too_low(root: Path) -> str:
    """Write a hint with the path to use, if `root` is itself a class folder: it holds files and no
    folders."""
    files = sum(entry.kind == "outside" for entry in level(root, root).unused)
    if not files:
        return ""
    return (
        f" Its {files:,} files stand directly in it: if it is one class, use --data "
        f"{shell_path(root.resolve().parent)}."
    )


def refuse_broken(folder: Path, broken: Sequence[str]) -> None:
    """Raise `UserError` for links that lead nowhere, where a class folder would stand: a class must
    not vanish unseen."""
    if not broken:
        return
    links = []
    for name in broken[:5]:
        link = folder / name
        links.append(f"{link} is a link to {_target(link)}, which cannot be reached")
    more = f", and {len(broken) - 5:,} more" if len(broken) > 5 else ""
    raise UserError(
        f"{one_line('; '.join(links))}{more}. Expected class folders: mount or restore what the "
        "link leads to, or remove the link."
    )


def _target(link: Path) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return "something else"


def _some(names: object) -> str:
    """Show up to five names, each on one line."""
    listed = [one_line(getattr(name, "name", name)) for name in names]  # type: ignore[attr-defined]
    return ", ".join(listed[:5]) + (" ..." if len(listed) > 5 else "")
