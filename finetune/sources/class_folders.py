"""Which files of a data folder belong to which class and split, by their names; no picture is
opened."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import repeat
from pathlib import Path
from typing import NoReturn

from finetune.sources import layout
from finetune.sources.folder_names import (
    SPLIT_FOLDERS,
    bare,
    by_bare_name,
    difference,
    like_split,
    told_apart,
)
from finetune.sources.listed_pictures import Listing
from zoo.files.entries import Found, Level, all_above, inside, level, list_entries, relative, walk
from zoo.files.passed_over import Unused
from zoo.files.same_paths import nfc
from zoo.host.errors import UserError
from zoo.host.text import one_line


def read_folders(root: Path, *, val: Path | None = None, least_classes: int = 2) -> Listing:
    """List a data folder: class folders, or class folders in `train/`, `val/` (valid, validation)
    and `test/`.

    `val` is a validation folder that stands elsewhere. Every file in a class folder is to be tried
    as a picture, whatever its suffix, unless a rule of zoo/files/passed_over.py skips it.

    Raises `UserError` for a folder that is missing, empty or cannot be listed, for fewer than
    `least_classes` classes, a class without files, class names that are not UTF-8, show nothing or
    look the same, a class of val or test that train lacks, links that lead nowhere in the place of
    a class, and folders that can be read in two ways.
    """
    if not os.path.isdir(root):
        entry = "a file" if os.path.exists(root) else "nothing"
        raise UserError(
            f"--data {root}: expected a folder of pictures, but there is {entry} at this path. "
            "--data digits is a built-in sample."
        )
    top = level(root, root)
    by_split = _split_folders(root, top)
    folders = by_split or {"train": root}
    if val is not None:
        _check_val(root, val, folders)
        folders["val"] = val
    unused, read = list(top.unused), ["."]
    if by_split:
        unused += _beside(root, top, [*folders.values()])
    if val is not None:
        on_the_way, unused = _around(root, val, unused)
        read += on_the_way
    levels = {}
    for split, folder in folders.items():
        levels[split] = top if folder == root else level(root, folder)
    classes = _class_names(root, folders["train"], levels["train"], least_classes)
    files: dict[str, list[tuple[str, int]]] = {}
    for split, folder in folders.items():
        if folder != root:
            unused += levels[split].unused
            read.append(relative(folder, root))
        files[split] = []
        for label, of_class in _read_split(root, folder, levels[split], classes):
            files[split] += zip(of_class.files, repeat(label))
            unused += of_class.unused
            read += of_class.folders
        # the file system's own order differs between machines
        files[split].sort()
    _check_filled(root, folders, files, classes, unused)
    findings = _findings(unused, top.folders)
    return Listing(root, classes, files, tuple(unused), frozenset(read), tuple(findings))


def _split_folders(root: Path, top: Level) -> dict[str, Path]:
    """Find the folders of the splits, split -> folder; empty for plain class folders."""
    splits = [name for name in top.folders if name.lower() in SPLIT_FOLDERS]
    by_split = {SPLIT_FOLDERS[name.lower()]: root / name for name in splits}
    beside = [name for name in top.folders if name not in splits]
    names = ", ".join(splits)
    if len(by_split) != len(splits):
        raise UserError(
            f"{root} has {names}: keep one folder for each of train, val (valid, validation) and "
            "test."
        )
    if not by_split:
        layout.refuse_broken(root, top.broken)
        layout.refuse_splits_as_classes(root, beside)
        return {}
    layout.refuse_broken(root, [name for name in top.broken if name.lower() in SPLIT_FOLDERS])
    if "train" not in by_split:
        like = [name for name in beside if like_split(name) == "train"]
        advice = f"Rename {like[0]} to train, if it is that. " if like else ""
        raise UserError(
            f"{root} has {names} but no train folder. {advice}(Classes cannot be called train, "
            "val, valid, validation or test, unless the class folders stand in train/.)"
        )
    layout.refuse_likeness_beside(root, by_split, beside)
    return by_split


def _check_val(root: Path, val: Path, folders: Mapping[str, Path]) -> None:
    if "val" in folders:
        raise UserError(
            f"--val {val}: {root} already has {folders['val'].name}; remove one of the two."
        )
    if not os.path.isdir(val):
        raise UserError(
            f"--val {val}: expected a fraction between 0 and 1, such as 0.2, or an existing folder."
        )
    train = folders["train"].resolve()
    if val.resolve() == train:
        raise UserError(
            f"--val {val}: these are the pictures to train on; expected others, or a fraction such "
            "as 0.2."
        )
    if train in val.resolve().parents:
        raise UserError(
            f"--val {val} stands among the class folders of {folders['train']}: move it elsewhere."
        )


def _beside(root: Path, top: Level, splits: Iterable[Path]) -> list[Unused]:
    """List what stands beside the folders of the splits, files apart."""
    # a link to a split is not that split itself
    used = {path.parent.resolve() / path.name for path in splits}
    unused = []
    for name in top.folders:
        if root.resolve() / name not in used:
            unused.append(Unused(name, "beside", "a folder beside train, val and test"))
    for name in top.broken:
        unused.append(Unused(name, "beside", "a link that leads nowhere"))
    return unused


def _around(root: Path, val: Path, unused: Sequence[Unused]) -> tuple[list[str], list[Unused]]:
    """Say what a validation folder that stands in the data folder changes: the folders on the way
    to it, which are read, and all that is not used, without these and with what stands beside the
    way."""
    way = relative(val, root).split("/")
    if way[0] == "..":
        return [], list(unused)
    folders = ["/".join(way[:depth]) for depth in range(1, len(way))]
    left = [entry for entry in unused if entry.path not in (*folders, "/".join(way))]
    for folder, name in zip(folders, way[1:], strict=True):
        for entry in list_entries(root / folder):
            if entry.name != name:
                path = inside(folder, entry.name)
                left.append(Unused(path, "beside", "it stands beside the validation folder"))
    return folders, left


def _class_names(root: Path, train: Path, found: Level, least: int) -> tuple[str, ...]:
    names = found.folders
    layout.refuse_broken(train, found.broken)
    if len(names) < least:
        raise UserError(_too_few_classes(root, train, names))
    # for what it refuses
    by_bare_name(train, names)
    for name in names:
        if (octets := os.fsencode(name)).decode("utf-8", "replace").encode() != octets:
            raise UserError(
                f"{train}: the class name {octets!r} is not UTF-8 (it was unpacked or copied from "
                "a system with another encoding). Rename the folder; its name becomes part of the "
                "model."
            )
    return tuple(sorted(names))


def _too_few_classes(root: Path, train: Path, names: Sequence[str]) -> str:
    """Write the error for a train folder with one class folder, or with none."""
    content, hint = "no class folder", ""
    if names:
        content = f"one class folder ({names[0]})"
    elif train.name.lower() == "train":
        hint = " (A class cannot be called train.)"
    deeper = layout.too_high(root, train)
    if not deeper and not names and train == root:
        deeper = layout.too_low(root)
    return (
        f"{train} has {content}: expected at least two folders, each named after a class and "
        f"holding its pictures.{hint}{deeper}"
    )


def _read_split(
    root: Path, folder: Path, found: Level, classes: tuple[str, ...]
) -> list[tuple[int, Found]]:
    """Walk the class folders of one split: (label, what its folder holds) of each class of one
    split. Classes are compared in NFC."""
    layout.refuse_broken(folder, found.broken)
    label_of = {nfc(name): label for label, name in enumerate(classes)}
    # for what it refuses
    by_bare_name(folder, found.folders)
    unknown = [name for name in found.folders if nfc(name) not in label_of]
    if unknown:
        _refuse_unknown(root, folder, unknown, classes)
    above = all_above(root, folder)
    split = []
    for name in found.folders:
        split.append((label_of[nfc(name)], walk(root, folder / name, above)))
    return split


def _refuse_unknown(
    root: Path, folder: Path, unknown: Sequence[str], classes: tuple[str, ...]
) -> NoReturn:
    """`UserError` for class folders of val or test that train lacks."""
    twin = by_bare_name(folder, classes).get(bare(unknown[0]))
    if twin is not None:
        own, of_train = told_apart(unknown[0], twin)
        raise UserError(
            f"{folder} has the class {own}, and train has {of_train}: the names differ only in "
            f"{difference(unknown[0], twin)}. Give both the same name."
        )
    more = " ..." if len(classes) > 10 else ""
    raise UserError(
        f"{folder} has the class {', '.join(map(repr, unknown[:5]))}, which train lacks: "
        f"expected only {', '.join(classes[:10])}{more}. Rename "
        f"or remove the folder.{layout.classes_below(root, folder, unknown, classes)}"
    )


def _check_filled(
    root: Path,
    folders: Mapping[str, Path],
    files: Mapping[str, list[tuple[str, int]]],
    classes: tuple[str, ...],
    unused: Iterable[Unused],
) -> None:
    """`UserError` if a class has no file in train, or a split has none at all."""
    filled = {label for _, label in files["train"]}
    empty = [folders["train"] / name for label, name in enumerate(classes) if label not in filled]
    if empty:
        raise UserError(
            f"no picture in {', '.join(map(str, empty[:5]))}: expected at least one in each class "
            f"folder{_why_empty(relative(empty[0], root), unused)}. Add pictures, or remove the "
            f"folder.{layout.too_high(root, folders['train'])}"
        )
    if hollow := [str(folders[split]) for split in files if not files[split]]:
        raise UserError(
            f"{', '.join(hollow)}: expected pictures in class "
            "folders, seen none. Add them, or remove the folder."
        )


def _why_empty(path: str, unused: Iterable[Unused]) -> str:
    """Give the reason of the first entry in this class folder that is not used, in parentheses."""
    for entry in unused:
        if entry.path == path or entry.path.startswith(f"{path}/"):
            return f" ({one_line(entry.path)}: {entry.reason})"
    return ""


def _findings(unused: Iterable[Unused], top: Iterable[str]) -> list[str]:
    """Write sentences about what is not used; they name only folders beside the splits, which a
    push cuts."""
    kinds = Counter(entry.kind for entry in unused)
    findings = []
    if kinds["harmless"] or kinds["outside"]:
        findings.append(
            f"{kinds['harmless'] + kinds['outside']} files ignored: {kinds['harmless']} of notes "
            f"or labels by their suffix, {kinds['outside']} outside the class folders"
        )
    if kinds["repeated"]:
        findings.append(
            f"{kinds['repeated']} links to folders not followed: those folders are read already"
        )
    if names := sorted({entry.path for entry in unused if entry.kind == "beside"} & set(top)):
        findings.append(f"folders beside train, val and test are ignored: {', '.join(names[:10])}")
    return findings
