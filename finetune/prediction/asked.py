"""Which pictures `--data` means when a finished run is to answer them, and their labels, where
there are some.

A label is the name of a class of the run: the folder of a picture (that below the folder of its
split), or a cell of a table. No picture is opened here.
"""

import hashlib
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from finetune.evaluation.predictions import NOWHERE
from finetune.prediction.contents import Contents
from finetune.prediction.request import Request
from finetune.run_folder.named_folders import readable_folder
from finetune.sources.folder_names import SPLIT_FOLDERS
from finetune.sources.imagenet_test_tar import is_test_tar, pictures_of_test_tar
from finetune.sources.label_table import is_label_table, pictures_of_table, table_root
from zoo.files import foreign_tables
from zoo.files.entries import all_above, walk
from zoo.files.passed_over import Unused
from zoo.files.same_paths import nfc
from zoo.host.errors import UserError
from zoo.host.text import one_line

TABLES = tuple(foreign_tables.SUFFIXES)
"""Suffixes of tables."""
SHOWN = 10
"""Names in a message."""


@dataclass(frozen=True)
class Asked:
    """Says which pictures are to be answered."""

    contents: Contents
    """Folder that the paths are relative to, or the tar that holds them."""
    paths: Sequence[str]
    """With `/`, in the order in which they are answered."""
    labels: Sequence[int]
    """Index of each picture's class among those of the run, NOWHERE without a label."""
    splits: Sequence[str]
    """Each picture's split, empty without one."""
    unused: tuple[Unused, ...] = ()
    """Every other entry of the folders or of the table, with the reason."""
    note: str = ""
    """A sentence for people."""
    whole_folder: bool = False
    """Every file below `root` is asked, so nothing else may be written there."""

    def __len__(self) -> int:
        return len(self.paths)

    def digest(self, run_sha256: str) -> str:
        """Compute what names these pictures, answered by that state of a run: paths, labels,
        splits, and size and time of each file."""
        digest = hashlib.sha256(run_sha256.encode())
        for path, label, split in zip(self.paths, self.labels, self.splits, strict=True):
            line = f"{path}\0{label}\0{split}\0{self.contents.state(path)}\n"
            digest.update(line.encode("utf-8", "surrogateescape"))
        return digest.hexdigest()


@dataclass(frozen=True)
class _Named:
    """Holds what a source says of its pictures."""

    contents: Contents
    class_of: Mapping[str, str]
    """Relative path -> name of the class, empty without one."""
    split_of: Mapping[str, str]
    """Relative path -> split, of the pictures that have one."""
    unused: Sequence[Unused] = ()
    note: str = ""
    whole_folder: bool = False


def asked_pictures(request: Request, classes: Sequence[str]) -> Asked:
    """List the pictures of a source; `classes` are those of the run.

    Raises `UserError` for a source that is missing or holds no file to answer, for class names that
    the run does not know, for a split that is not there, and for an option without effect.
    """
    named = _named(request, classes)
    label_of = {nfc(name): label for label, name in enumerate(classes)}
    paths = sorted(named.class_of, key=lambda path: (nfc(path), path))
    if request.split:
        paths = _of_split(request, paths, named.split_of)
    labels, unknown = [], set()
    for path in paths:
        name = nfc(named.class_of[path])
        labels.append(label_of.get(name, NOWHERE))
        if name and name not in label_of:
            unknown.add(name)
    if unknown and request.labels:
        _refuse_unknown(request, sorted(unknown), classes)
    if not request.labels:
        labels = [NOWHERE] * len(paths)
    splits = [named.split_of.get(path, "") for path in paths]
    unused, note = tuple(named.unused), named.note
    return Asked(named.contents, paths, labels, splits, unused, note, named.whole_folder)


def _named(request: Request, classes: Sequence[str]) -> _Named:
    """Tell what kind of source this is by looking."""
    first = request.data[0]
    table = len(request.data) == 1 and is_label_table(first)
    given = {"--columns": request.columns, "--root": request.root}
    for flag, value in given.items():
        if value and not table:
            raise UserError(
                f"{flag} {value} has no effect: {first} is no table ({', '.join(TABLES)}). Remove "
                f"{flag}."
            )
    if table:
        rows = pictures_of_table(first, request.options)
        root = table_root(first, request.options).resolve()
        return _Named(Contents(root), rows.label_of, rows.split_of, rows.unused)
    if len(request.data) == 1 and is_test_tar(first):
        members = pictures_of_test_tar(first)
        tar = Contents(first.resolve().parent, first.resolve(), members)
        return _Named(tar, dict.fromkeys(members, ""), {})
    if all(path.is_file() for path in request.data):
        return _of_files(request.data)
    if len(request.data) > 1:
        others = [str(path) for path in request.data if not path.is_file()]
        raise UserError(
            f"--data with several paths: expected picture files, but {', '.join(others[:SHOWN])} "
            "is none. Answer folders and tables one by one."
        )
    return _of_folder(readable_folder(str(first)), classes)


def _of_files(files: Sequence[Path]) -> _Named:
    """Take picture files that were named one by one."""
    # not resolved: a link is answered under its own name
    whole = [os.path.abspath(path) for path in files]
    root = Path(os.path.commonpath([os.path.dirname(path) for path in whole]))
    paths = [Path(os.path.relpath(path, root)).as_posix() for path in whole]
    return _Named(Contents(root), dict.fromkeys(paths, ""), {})


def _of_folder(folder: Path, classes: Sequence[str]) -> _Named:
    """Take every file below a folder, each once."""
    root = folder.resolve()
    found = walk(root, root, all_above(root.parent))
    if not found.files:
        raise UserError(
            f"{folder} holds no file that may be a picture: expected pictures, in folders or not."
        )
    known = set(map(nfc, classes))
    tops = {path.split("/")[0] for path in found.files if "/" in path}
    # a class may be called test
    splits = {top for top in tops if top.lower() in SPLIT_FOLDERS and nfc(top) not in known}
    class_of, split_of = {}, {}
    for path in found.files:
        parts = path.split("/")
        if parts[0] in splits:
            split_of[path] = SPLIT_FOLDERS[parts.pop(0).lower()]
        class_of[path] = parts[0] if len(parts) > 1 else ""
    named = {nfc(name) for name in class_of.values() if name}
    note = ""
    if named and not named & known:
        # pictures sorted by date or place, or of other classes: there is nothing to compare with
        note = (
            f"no folder of {folder} is called like a class of the run ({_some(named)}; expected "
            f"{_some(known)}), so the answers are not measured"
        )
        class_of = dict.fromkeys(class_of, "")
    return _Named(Contents(root), class_of, split_of, found.unused, note, whole_folder=True)


def _of_split(request: Request, paths: Sequence[str], split_of: Mapping[str, str]) -> list[str]:
    chosen = [path for path in paths if split_of.get(path) == request.split]
    if not chosen:
        there = sorted(set(split_of.values()))
        seen = ", ".join(there) if there else "no splits"
        raise UserError(
            f"--split {request.split}: {request.data[0]} has {seen}. Choose another, or remove "
            "--split to answer all pictures."
        )
    return chosen


def _refuse_unknown(request: Request, names: Sequence[str], classes: Sequence[str]) -> NoReturn:
    raise UserError(
        f"{request.data[0]} has {len(names)} classes that the run does not know: {_some(names)}. "
        f"Expected only {_some(classes)}. Rename or move them, or add --no-labels to answer "
        "without measuring."
    )


def _some(names: Collection[str]) -> str:
    shown = ", ".join(map(one_line, sorted(names)[:SHOWN]))
    return shown + (" ..." if len(names) > SHOWN else "")
