"""A folder of pictures -> classes, splits and findings. Labels are decided by class *name*, in every split.

    read_tree   which files belong to which class and split (names only)
    scan        reads every file once: sha256 and a full decode, so that training never meets a picture it cannot read
    split       cuts val from train where it is missing, and halves val into select and calibrate

Nothing here writes to the data folder.
"""

import csv
import hashlib
import multiprocessing
import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from finetune import progress
from zoo.errors import BadImage, UserError
from zoo.preprocess import decode

SPLIT_FOLDERS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
NOT_CLASSES = {"__MACOSX"}
PICTURE_SUFFIXES = {"", ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".heic",
                    ".heif", ".avif"}
LEFT_OUT_LIMIT = 0.01
"""Share of the pictures that may be left out (unreadable, or the same bytes under two classes) before the run stops."""
PROCESSES_FROM = 5_000
"""Files from which several processes read faster than one."""
HALF_AT_LEAST = 200
"""Val is halved into select and calibrate only if each half keeps this many pictures."""


class Picture(NamedTuple):
    """One picture of the data."""

    path: str
    """Relative to the data folder, with `/`."""
    label: int
    """Index into the class names."""
    split: str
    """train, val or test."""
    sha256: str
    """Digest of the file's bytes."""
    width: int
    """Upright, in pixels."""
    height: int


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


@dataclass(frozen=True)
class Data:
    """All pictures of a run, with what was found on the way."""

    root: Path
    classes: tuple[str, ...]
    pictures: tuple[Picture, ...]
    findings: tuple[str, ...]
    """Sentences for people: duplicates, leaks, pictures left out."""
    left_out: tuple[tuple[str, str], ...]
    """(relative path, reason) of each picture that is in no split."""
    val_rule: str = "the data has a val folder"
    """How val came about."""

    def of(self, split: str) -> list[Picture]:
        """The pictures of train, val, test, or of val's parts select and calibrate, in a fixed order."""
        if split not in ("select", "calibrate"):
            return [p for p in self.pictures if p.split == split]
        val = self.of("val")
        halves: dict[str, list[Picture]] = {"select": [], "calibrate": []}
        for p in val:
            halves["select" if int(p.sha256[-1], 16) % 2 else "calibrate"].append(p)
        return halves[split] if self.halved(val) else val

    @staticmethod
    def halved(val: Sequence[Picture]) -> bool:
        """Whether val is large enough to be halved: each half keeps at least HALF_AT_LEAST pictures."""
        odd = sum(int(p.sha256[-1], 16) % 2 for p in val)
        return min(odd, len(val) - odd) >= HALF_AT_LEAST

    def digest(self) -> str:
        """sha256 over every picture's path, class, split and bytes: two runs with the same digest saw the same data."""
        lines = (f"{p.path}\t{self.classes[p.label]}\t{p.split}\t{p.sha256}\n" for p in self.pictures)
        return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()

    def counts(self) -> dict[str, dict[str, int]]:
        """Split -> class name -> number of pictures."""
        counts = Counter((p.split, p.label) for p in self.pictures)
        return {split: {name: counts[split, label] for label, name in enumerate(self.classes)}
                for split in ("train", "val", "test") if any(key[0] == split for key in counts)}


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


def scan(tree: Tree, *, processes: int = 1) -> Data:
    """Read and decode every file once; set aside what cannot be used, and say so.

    Left out, up to LEFT_OUT_LIMIT of all pictures (more raises `UserError`): pictures that cannot be decoded, and equal
    bytes under two class names. Bytes that stand in two splits stay in test (else val) and leave the other one.
    """
    jobs = [(path, label, split) for split, files in tree.files.items() for path, label in files]
    paths = [tree.root / path for path, _, _ in jobs]
    with progress.bar("reading pictures", len(jobs)) as advance:
        pictures, left_out = [], []
        for job, seen in zip(jobs, _read_all(paths, processes), strict=True):
            if isinstance(seen, str):
                left_out.append((job[0], seen))
            else:
                pictures.append(Picture(*job, *seen))
            advance(1)
    labels = defaultdict(set)
    for p in pictures:
        labels[p.sha256].add(p.label)
    left_out += [(p.path, f"the same bytes stand under {', '.join(sorted(tree.classes[c] for c in labels[p.sha256]))}")
                 for p in pictures if len(labels[p.sha256]) > 1]
    pictures = [p for p in pictures if len(labels[p.sha256]) == 1]
    _check_left_out(left_out, len(jobs))
    pictures, findings = _remove_leaks(pictures, tree.classes)
    if left_out:
        findings.append(f"{len(left_out)} of {len(jobs)} pictures left out: "
                        + "; ".join(f"{path} ({reason})" for path, reason in left_out[:5])
                        + (" ..." if len(left_out) > 5 else ""))
    if tree.ignored:
        findings.append(f"{tree.ignored} files ignored: not pictures by their suffix, or outside the class folders")
    if tree.beside:
        findings.append(f"folders beside train, val and test are ignored: {', '.join(tree.beside[:10])}")
    return Data(tree.root, tree.classes, tuple(pictures), tuple(findings), tuple(left_out))


def _read_all(paths: Sequence[Path], processes: int) -> Iterator[tuple[str, int, int] | str]:
    """`_read` of each path, in order; in several processes where starting them pays (decoding holds the GIL)."""
    if processes == 1 or len(paths) < PROCESSES_FROM:
        yield from map(_read, paths)
        return
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(_read, paths, chunksize=250)


def _read(path: Path) -> tuple[str, int, int] | str:
    """(sha256, width, height) of a picture, or the reason why it cannot be read."""
    try:
        content = path.read_bytes() if path.is_file() else b""
        picture = decode(content if content else path, name=str(path))
    except BadImage as error:
        return error.reason
    except OSError as error:
        return error.strerror or str(error)
    return hashlib.sha256(content).hexdigest(), picture.width, picture.height


def _check_left_out(left_out: Sequence[tuple[str, str]], total: int) -> None:
    if len(left_out) > LEFT_OUT_LIMIT * total:
        shown = "\n".join(f"  {path}: {reason}" for path, reason in left_out[:10])
        raise UserError(f"{len(left_out)} of {total} pictures cannot be used, expected at most {LEFT_OUT_LIMIT:.0%}. "
                        f"Repair or remove them:\n{shown}" + ("\n  ..." if len(left_out) > 10 else ""))


def _remove_leaks(pictures: list[Picture], classes: tuple[str, ...]) -> tuple[list[Picture], list[str]]:
    """Bytes in two splits stay in the later one of train, val, test."""
    rank = {"train": 0, "val": 1, "test": 2}
    home: dict[str, int] = {}
    for p in pictures:
        home[p.sha256] = max(home.get(p.sha256, 0), rank[p.split])
    kept = [p for p in pictures if rank[p.split] == home[p.sha256]]
    findings = [f"{n} pictures of {split} left out of it: the same bytes stand in {' or '.join(later)}"
                for split, later in (("train", ("val", "test")), ("val", ("test",)))
                if (n := sum(p.split == split for p in pictures) - sum(p.split == split for p in kept))]
    counts = Counter(p.label for p in kept if p.split == "train")
    if empty := [name for label, name in enumerate(classes) if not counts[label]]:
        raise UserError(f"class {', '.join(map(repr, empty[:5]))} has no usable training picture: "
                        f"{'; '.join(findings) or 'they were left out'}. Add pictures of it to train.")
    twins = len(kept) - len({p.sha256 for p in kept})
    return kept, findings + ([f"{twins} exact duplicates within a split"] if twins else [])


def split(data: Data, val: str) -> Data:
    """Cut the fraction `val` (as in '0.2') from train; data that already has a val is returned as it is.

    Per class, in order of sha256, identical bytes together: the same picture lands on the same side on any machine.
    """
    if any(p.split == "val" for p in data.pictures):
        return data
    fraction = as_fraction(val)
    if fraction is None:
        raise UserError("the validation folder has no usable picture: every one stands in test too, or was left out.")
    groups: dict[int, dict[str, int]] = defaultdict(Counter)
    for p in data.pictures:
        if p.split == "train":
            groups[p.label][p.sha256] += 1
    chosen = set()
    for counts in groups.values():
        wanted, taken = max(1, round(fraction * counts.total())), 0  # type: ignore[attr-defined]
        for sha in sorted(counts)[: len(counts) - 1]:  # one group at least stays in train
            if taken >= wanted:
                break
            chosen.add(sha)
            taken += counts[sha]
    pictures = tuple(p._replace(split="val") if p.split == "train" and p.sha256 in chosen else p for p in data.pictures)
    alone = [data.classes[label] for label, counts in groups.items() if len(counts) == 1]
    findings = data.findings + ((f"classes with a single picture are not in val: {', '.join(sorted(alone)[:10])}",)
                                if alone else ())
    if not any(p.split == "val" for p in pictures):
        raise UserError("no class has two different pictures, so nothing can be held out for validation: add pictures.")
    rule = f"{fraction:.2g} of train, per class, by sha256"
    return replace(data, pictures=pictures, findings=findings, val_rule=rule)


def as_fraction(val: str) -> float | None:
    """The fraction that `--val` gives, None if it is a path; `UserError` outside (0, 1)."""
    try:
        fraction = float(val)
    except ValueError:
        return None
    if not 0 < fraction < 1:
        raise UserError(f"--val {val}: expected a fraction between 0 and 1, such as 0.2, or a folder.")
    return fraction


def write_files_csv(path: Path, data: Data) -> None:
    """`files.csv`: relative path, label (class name), split, sha256 of each picture."""
    with open(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "split", "sha256"])
        writer.writerows([p.path, data.classes[p.label], p.split, p.sha256] for p in data.pictures)


def median_short_side(pictures: Sequence[Picture]) -> int:
    """Median of the shorter side, in pixels."""
    return int(np.median([min(p.width, p.height) for p in pictures]))

