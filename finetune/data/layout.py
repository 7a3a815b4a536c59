"""How the folders at the top of a data folder are meant: as splits, as classes, or as neither.

A folder that can be read in two ways is never guessed at: the error shows both readings, and what
to do for each.
"""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path

from zoo.files.entries import level
from zoo.files.same_paths import nfc
from zoo.host.errors import UserError
from zoo.host.text import one_line, shell_path

SPLIT_FOLDERS = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
"""Name of a folder, in lower case -> the split that it is."""
MOST_SPLITS = 3
"""Of folders that are no folds."""
DEEPEST = 5
"""Folders inside each other through which classes are looked for."""
_WORDS = {
    "train": (
        "train",
        "training",
        "trainning",
        "trainval",
        "xtrain",
        "trn",
        "tr",
        "learn",
        "development",
    ),
    "val": (
        "val",
        "valid",
        "validation",
        "validate",
        "dev",
        "eval",
        "evaluation",
        "holdout",
        "heldout",
    ),
    "test": ("test", "testing", "xtest", "tst", "te", "ts"),
}
_AFTER = r"(?:s|sets?|splits?|dirs?|folders?|data|dataset|images?|imgs?|pics?|pictures?|photos?)?"
_LIKE = {split: re.compile(f"(?:{'|'.join(words)}){_AFTER}") for split, words in _WORDS.items()}
_EQUAL_PART = re.compile(
    r"(?:k?fold|split|subset|dataset|partition|part|batch|set)[ _-]?"
    r"(?:\d{1,3}|[a-z]|one|two|three|four|five)|(?:19|20)\d\d",
    re.IGNORECASE,
)
"""One of several equal parts: a fold, a batch, a year."""


def like_split(name: str) -> str | None:
    """The split that a folder's name reminds of (`training_set`: train), empty for one of several
    equal parts (`fold1`, `2019`), None for any other name."""
    if _EQUAL_PART.fullmatch(name):
        return ""
    return next((split for part in _parts(name) if (split := _of_word(part))), None)


def _parts(name: str) -> list[str]:
    """Parts of snake_case, kebab-case and CamelCase in lower case; digits end a part, as in
    val2017."""
    return [part.lower() for part in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)]


def _whole_split(name: str) -> str | None:
    """The split that a name means as a whole: train_images does, train_station does not."""
    return _of_word("".join(_parts(name)))


def _of_word(word: str) -> str | None:
    return next((split for split, pattern in _LIKE.items() if pattern.fullmatch(word)), None)


def subfolders(root: Path, folder: Path) -> list[str]:
    """Names of the folders in a folder, without those of the system."""
    return level(root, folder).folders


def with_classes(root: Path, folder: Path) -> tuple[Path, set[str]]:
    """The first folder, from `folder` on, that does not hold exactly one folder, and the folders
    that it holds, in NFC:
    archives often unpack as `training_set/training_set/cats`."""
    names = subfolders(root, folder)
    for _ in range(DEEPEST):
        if len(names) != 1:
            break
        folder = folder / names[0]
        names = subfolders(root, folder)
    return folder, set(map(nfc, names))


def refuse_splits_as_classes(root: Path, names: Sequence[str]) -> None:
    """`UserError` if these folders, about to be taken for classes, may be splits.

    That is so if all of them hold folders of the same names, whatever they are called; if some with
    names like splits do; or if their names are like those of at least two different splits,
    whatever they hold.
    """
    _refuse_same_in_all(root, names)
    like = {name: split for name in names if (split := like_split(name)) is not None}
    inner = {name: with_classes(root, root / name) for name in like}
    for one, two in combinations(like, 2):
        if classes := _same(inner[one][1], inner[two][1]):
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
    # beside other folders only a name counts that can hardly be a class: train_images, not training
    # or train_station
    sure = {name: split for name in like if len(_parts(name)) > 1 and (split := _whole_split(name))}
    if len(like) == len(names):
        sure = {name: split for name, split in like.items() if split}
    if len(set(sure.values())) > 1:
        raise UserError(
            f"{root} can be read in two ways: {_some(sure)} look like splits, but do not hold "
            "folders of the same names. If they are splits, give each of them one folder for each "
            "class, with the pictures of the class in it, and rename the splits to train, val and "
            f"test.{_if_classes(root, names)}"
        )


def _refuse_same_in_all(root: Path, names: Sequence[str]) -> None:
    """`UserError` if all these folders hold the same folders: two or more, or up to three folders
    of which one holds all that the others do. Each folder is listed only as long as that may still
    be so: mostly the first one alone."""
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
    """`UserError` if one of these folders holds two or more folders and no files, and each of the
    others some of the same: splits that lack classes, down to a single one."""
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


def _same(one: set[str], two: set[str]) -> set[str]:
    """The names that two folders share, if these are at least half of what the smaller one
    holds."""
    both = one & two
    return both if both and 2 * len(both) >= min(len(one), len(two)) else set()


def _two_readings(
    root: Path, names: Sequence[str], inner: Mapping[str, tuple[Path, set[str]]], shared: set[str]
) -> str:
    """The error for folders that hold the same folders: those of `inner`, name -> what
    `with_classes` gives.

    `names`: all folders that would be the classes.
    """
    shown = _some(sorted(shared))
    kinds = {_whole_split(name) for name in shared}
    if kinds == {"train"} or len(kinds - {None}) > 1:
        holder = next(path for path, held in inner.values() if shared <= held)
        return (
            f"{root} can be read in two ways: each of {_some(inner)} holds the folders {shown}, "
            "which look like splits. If they are, use one of the outer folders, such as --data "
            f"{shell_path(holder)}.{_if_classes(root, names)} All that is in them is then for "
            f"training; to keep {shown} apart, sort the pictures into train/CLASS and test/CLASS."
        )
    like = {name: like_split(name) for name in inner}
    fullest = max(like, key=lambda name: len(inner[name][1]))
    train = _first_like("train", like) or fullest
    held = next(
        name
        for name in (_first_like("val", like), _first_like("test", like), *like)
        if name and name != train
    )
    renamed = all(inner[name][0] == root / name for name in like)
    rename = "rename the splits to train, val and test, or " if renamed else ""
    unknown = (
        "one of the folders to train on and another to validate, such as "
        if None in like.values()
        else ""
    )
    return (
        f"{root} can be read in two ways: {_some(like)} hold folders of the same names ({shown}), "
        f"as splits do. If {shown} are the classes, {rename}use {unknown}--data "
        f"{shell_path(inner[train][0])} --val "
        f"{shell_path(inner[held][0])}.{_if_classes(root, names)}"
    )


def _first_like(split: str, like: Mapping[str, str | None]) -> str | None:
    return next((name for name in like if like[name] == split), None)


def _if_classes(root: Path, names: Iterable[str]) -> str:
    return f" If {_some(names)} are the classes, move these folders into {root / 'train'}."


def refuse_likeness_beside(root: Path, by_split: dict[str, Path], beside: Sequence[str]) -> None:
    """`UserError` if a folder beside the splits looks like one that is missing, and holds the same
    classes."""
    classes = set(map(nfc, subfolders(root, by_split["train"])))
    for name in beside:
        split = like_split(name)
        if (
            split
            and split not in by_split
            and (both := _same(classes, with_classes(root, root / name)[1]))
        ):
            raise UserError(
                f"{root} can be read in two ways: {name} stands beside {_some(by_split.values())}, "
                f"looks like a split, and holds the same folders ({_some(sorted(both))}). If it is "
                f"the {split} split, rename it to {split}. If it is none, put a dot before its "
                "name, or move it elsewhere."
            )


def too_high(root: Path, folder: Path) -> str:
    """A sentence with the path to use, if the classes or splits stand deeper in `folder`; else
    empty."""
    outer = [name for name in subfolders(root, folder) if subfolders(root, folder / name)]
    if len(outer) != 1:
        return ""
    inner = folder / outer[0]
    for _ in range(DEEPEST):
        below = subfolders(root, inner)
        if len(below) > 1 or any(name.lower() in SPLIT_FOLDERS for name in below):
            advice = (
                f"use --data {shell_path(inner)}"
                if folder == root
                else f"move them up into {folder}"
            )
            return (
                f" {inner} holds the folders {_some(below)}: if these are the classes or "
                f"splits, {advice}."
            )
        if not below:
            return ""
        inner = inner / below[0]
    return ""


def classes_below(root: Path, folder: Path, names: Sequence[str], classes: Sequence[str]) -> str:
    """A sentence with the path to use, if one of the folders `names` in the folder of a split holds
    the classes."""
    known = set(map(nfc, classes))
    holders = [
        name for name in names if _same(known, set(map(nfc, subfolders(root, folder / name))))
    ]
    if not holders:
        return ""
    inner = folder / next((name for name in holders if like_split(name) == "val"), holders[0])
    advice = (
        f"move them up into {folder}" if folder.parent == root else f"use --val {shell_path(inner)}"
    )
    return f" {inner} holds folders of the names expected: if it is meant, {advice}."


def too_low(root: Path) -> str:
    """A sentence with the path to use, if `root` is itself a class folder: it holds files and no
    folders."""
    files = [found for found in level(root, root).unused if found.kind == "outside"]
    parent = root.resolve().parent
    return (
        f" Its {len(files):,} files stand directly in it: if it is one class, use --data "
        f"{shell_path(parent)}."
        if files
        else ""
    )


def refuse_broken(folder: Path, broken: Sequence[str]) -> None:
    """`UserError` for links that lead nowhere, where a class folder would stand: a class must not
    vanish unseen."""
    if broken:
        shown = "; ".join(
            f"{folder / name} is a link to {_target(folder / name)}, which cannot be reached"
            for name in broken[:5]
        )
        more = f", and {len(broken) - 5:,} more" if len(broken) > 5 else ""
        raise UserError(
            f"{one_line(shown)}{more}. Expected class folders: mount or restore what the link "
            "leads to, or remove the link."
        )


def _target(link: Path) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return "something else"


def _some(names: object) -> str:
    """Up to five names, each on one line."""
    listed = [one_line(getattr(name, "name", name)) for name in names]  # type: ignore[attr-defined]
    return ", ".join(listed[:5]) + (" ..." if len(listed) > 5 else "")
