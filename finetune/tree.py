"""Which files of a data folder belong to which class and split, by their names; no file is opened."""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from zoo.errors import UserError

SPLIT_FOLDERS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
NOT_CLASSES = {"__MACOSX"}
PICTURE_SUFFIXES = {"", ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".heic",
                    ".heif", ".avif"}


@dataclass(frozen=True)
class Tree:
    """Which files belong to which class and split; no file has been opened."""

    root: Path
    classes: tuple[str, ...]
    """Sorted by code point; the position is the label."""
    files: dict[str, list[tuple[str, int]]]
    """Split -> (relative path, label); only the splits that the folder has."""
    ignored: int
    """Files that are not pictures by their suffix, or that stand outside the class folders."""
    beside: tuple[str, ...] = ()
    """Folders beside train, val and test."""


def read_tree(root: Path, *, val: Path | None = None) -> Tree:
    """List a data folder: class folders, or class folders in `train/`, `val/` (valid, validation) and `test/`.

    `val` is a validation folder that stands elsewhere.

    Raises `UserError` for a folder that is missing or empty, for fewer than two classes, a class without pictures,
    class names that differ only in case or Unicode form, and a class of val or test that train lacks.
    """
    if not root.is_dir():
        raise UserError(f"--data {root}: expected a folder of pictures, but there is "
                        f"{'a file' if root.exists() else 'nothing'} at this path. --data digits is a built-in sample.")
    by_split, beside = _split_folders(root)
    folders = by_split or {"train": root}
    if val is not None:
        if "val" in folders:
            raise UserError(f"--val {val}: {root} already has {folders['val'].name}; remove one of the two.")
        if not val.is_dir():
            raise UserError(f"--val {val}: expected a fraction between 0 and 1, such as 0.2, or an existing folder.")
        if val.resolve().parent == folders["train"].resolve():
            raise UserError(f"--val {val} stands among the class folders of {folders['train']}: move it elsewhere.")
        folders["val"] = val
    classes = _class_names(folders["train"])
    ignored, files = 0, {}
    for split, folder in folders.items():
        files[split], skipped = _list_split(root, folder, classes)
        ignored += skipped
    if by_split:
        ignored += sum(1 for entry in os.scandir(root) if entry.is_file() and not entry.name.startswith("."))
    counts = Counter(label for _, label in files["train"])
    if empty := [name for label, name in enumerate(classes) if not counts[label]]:
        raise UserError(f"no picture in {', '.join(str(folders['train'] / name) for name in empty[:5])}: expected at "
                        "least one in each class folder. Add pictures, or remove the folder.")
    if hollow := [split for split in files if not files[split]]:
        raise UserError(f"{', '.join(str(folders[split]) for split in hollow)}: expected pictures in class folders, "
                        "seen none. Add them, or remove the folder.")
    return Tree(root, classes, files, ignored, tuple(beside))


def _split_folders(root: Path) -> tuple[dict[str, Path], list[str]]:
    """split -> folder, empty for plain class folders; and the folders that stand beside the splits."""
    splits = [d for d in _folders(root) if d.name.lower() in SPLIT_FOLDERS]
    by_split = {SPLIT_FOLDERS[d.name.lower()]: d for d in splits}
    names = ", ".join(d.name for d in splits)
    if len(by_split) != len(splits):
        raise UserError(f"{root} has {names}: keep one folder for each of train, val (valid, validation) and test.")
    if by_split and "train" not in by_split:
        raise UserError(f"{root} has {names} but no train folder. (Classes cannot be called train, val, valid, "
                        "validation or test, unless the class folders stand in train/.)")
    return by_split, [d.name for d in _folders(root) if by_split and d not in splits]


def _folders(folder: Path) -> list[Path]:
    return sorted(d for d in folder.iterdir()
                  if d.is_dir() and not d.name.startswith(".") and d.name not in NOT_CLASSES)


def _class_names(train: Path) -> tuple[str, ...]:
    names = sorted(d.name for d in _folders(train))
    if len(names) < 2:
        seen = f"one class folder ({names[0]})" if names else "no class folder"
        hint = " (A class cannot be called train.)" if train.name.lower() == "train" and not names else ""
        raise UserError(f"{train} has {seen}: expected at least two folders, each named after a class and holding its "
                        f"pictures.{hint}")
    folded: dict[str, str] = {}
    for name in names:
        twin = folded.setdefault(unicodedata.normalize("NFC", name).casefold(), name)
        if twin != name:
            raise UserError(f"{train}: the class names {twin!r} and {name!r} differ only in case or Unicode form. "
                            "Merge or rename one of them.")
    return tuple(names)


def _list_split(root: Path, folder: Path, classes: tuple[str, ...]) -> tuple[list[tuple[str, int]], int]:
    """(relative path, label) of each picture of one split, and how many other files there are."""
    label_of = {name: label for label, name in enumerate(classes)}
    found = _folders(folder)
    if unknown := [d.name for d in found if d.name not in label_of]:
        raise UserError(f"{folder} has the class {', '.join(map(repr, unknown[:5]))}, which train lacks: expected only "
                        f"{', '.join(classes[:10])}{' ...' if len(classes) > 10 else ''}. Rename or remove the folder.")
    ignored = sum(1 for entry in os.scandir(folder) if entry.is_file() and not entry.name.startswith("."))
    files, seen = [], {(above.stat().st_dev, above.stat().st_ino) for above in (root, folder)}
    for class_folder in found:
        for path in _walk(class_folder, seen):
            if path.suffix.lower() in PICTURE_SUFFIXES:
                files.append((Path(os.path.relpath(path, root)).as_posix(), label_of[class_folder.name]))
            elif path.name not in ("Thumbs.db", "desktop.ini"):
                ignored += 1
    return sorted(files), ignored


def _walk(folder: Path, seen: set[tuple[int, int]]) -> Iterator[Path]:
    """Files below `folder`, hidden ones left out; each folder is visited once, however many links lead to it."""
    stat = folder.stat()
    if (stat.st_dev, stat.st_ino) in seen:
        return
    seen.add((stat.st_dev, stat.st_ino))
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") or entry.name in NOT_CLASSES:
                continue
            if entry.is_dir():
                yield from _walk(Path(entry.path), seen)
            else:
                yield Path(entry.path)
