"""Data folders with everything that a file system can hold, and the law that the walk is held to.

Of every folder that is read, each entry is used, or left out with a reason, or a folder that is
read as well. What the product says is compared with what `os.walk` and `os.listdir` see, which know
none of its rules.
"""

import os
import shutil
import stat
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from time import perf_counter

from hypothesis import strategies as st

from finetune.data.dataset import Data
from finetune.data.held_out import split
from finetune.data.scanning import scan
from finetune.sources.class_folders import read_folders
from finetune.sources.listed_pictures import Listing
from tests.bad_pictures import BAD, ODD
from tests.finetune.made_pictures import png
from zoo.files.passed_over import KINDS
from zoo.host.errors import UserError

NAMES = (
    "cat",
    "Cat",
    "dog",
    "1.png",
    "1.PNG",
    "2.jpg",
    "a.mpo",
    "b.jfif",
    "c.pjpeg",
    "d.apng",
    "no suffix",
    "IMG_1.HEIC",
    "notes.txt",
    "labels.csv",
    "x.json",
    "x.xml",
    "Thumbs.db",
    ".DS_Store",
    "._1.png",
    ".hidden",
    "desktop.ini",
    "1.jpg:Zone.Identifier",
    "video.mp4",
    "archive.zip",
    "@eaDir",
    "#recycle",
    "lost+found",
    "$RECYCLE.BIN",
    "System Volume Information",
    "__MACOSX",
    ".git",
    "caf\u00e9",
    "cafe\u0301",
    "CAF\u00c9",
    "two\nlines",
    " ",
    "-",
    "\u202egnp.exe",
    "$HOME",
    "[bold]",
    "a" * 255,
    "\u00e9" * 127,
    os.fsdecode(b"caf\xe9"),
    os.fsdecode(b"\xff\xfe.png"),
    "train",
    "val",
    "Test",
    "training_set",
    "fold1",
    "con",
    "a'b\"c`d",
    "%s{0}",
    "\x1b[2J",
    "cat ",
    "dog.",
    "cat\u200b",
    "Mr.M",
    "readme",
    "test_images",
)
picture = cache(png)
IN_MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
"""Where trees are made and removed faster than on a disk."""
CONTENTS = (
    *map(picture, range(4)),
    b"",
    b"text",
    b"<html>404",
    ODD["two-pictures.mpo"][0](),
    BAD["half.png"][0](),
    b"version https://git-lfs.github.com/spec/v1\n",
)
LINKS = (
    "nowhere",
    ".",
    "..",
    "../..",
    "self",
    "/",
    "/dev/zero",
    "/dev/full",
    "../cat",
    "../dog/more",
    "1.png",
    "../../outside",
)
KINDS_OF_ENTRY = (
    *["picture"] * 6,
    *["file"] * 5,
    *["folder"] * 5,
    *["link"] * 4,
    "fifo",
    "socket",
    "closed folder",
    "closed file",
    "hard link",
)


@dataclass(frozen=True)
class Entry:
    """What is made in one folder of the tree; final."""

    folder: int
    """Index into the folders that were made before, modulo their number."""
    name: str
    kind: str
    content: int
    """Index into CONTENTS or LINKS, modulo their number."""


def entries() -> st.SearchStrategy[list[Entry]]:
    """Up to 14 entries. Folders come into being one after the other, so that trees get deep as well
    as wide."""
    return st.lists(
        st.builds(
            Entry,
            st.integers(0, 30),
            st.sampled_from(NAMES),
            st.sampled_from(KINDS_OF_ENTRY),
            st.integers(0, 59),
        ),
        max_size=14,
    )


@dataclass
class Figures:
    """What many trees gave."""

    trees: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    """Beginnings of the errors for people -> number."""
    entries: int = 0
    used: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    """Kind -> number."""
    slowest_s: float = 0.0


@contextmanager
def made(shape: str, wanted: list[Entry]) -> Iterator[Path]:
    """A data folder of two classes, plain or in splits, with these entries in it; removed
    afterwards."""
    place = Path(tempfile.mkdtemp(prefix="odd-", dir=IN_MEMORY))
    place.chmod(0o755)
    closed: list[Path] = []
    try:
        yield _make(place, shape, wanted, closed)
    finally:
        for path in closed:
            path.chmod(0o755)
        shutil.rmtree(place)


def _make(place: Path, shape: str, wanted: list[Entry], closed: list[Path]) -> Path:
    root, outside = place / "data", place / "outside"
    tops = {"plain": [root], "splits": [root / "train", root / "val"]}[shape]
    outside.mkdir()
    (outside / "3.png").write_bytes(picture(300))
    folders = [*(top / name for top in tops for name in ("cat", "dog"))]
    for number, folder in enumerate(folders):
        folder.mkdir(parents=True)
        for copy in range(2):
            (folder / f"good {copy}.png").write_bytes(picture(100 + 10 * number + copy))
    folders += [root, *tops]  # fewer entries stand there than in the classes
    for number, entry in enumerate(wanted):
        path = folders[entry.folder % len(folders)] / entry.name
        if not os.path.lexists(path):
            _make_entry(path, entry, number, folders, closed)
    for path in reversed(closed):
        path.chmod(0)
    return root


def _make_entry(
    path: Path, entry: Entry, number: int, folders: list[Path], closed: list[Path]
) -> None:
    if entry.kind in ("folder", "closed folder"):
        path.mkdir()
        folders.append(path)
        if entry.content % 4:
            (path / "inside.png").write_bytes(picture(1000 + number))
    elif entry.kind == "link":
        path.symlink_to(
            LINKS[entry.content % len(LINKS)]
            if entry.content % 3
            else folders[entry.content % len(folders)]
        )
    elif entry.kind == "fifo":
        os.mkfifo(path)
    elif entry.kind == "socket":
        os.mknod(path, stat.S_IFSOCK | 0o600)
    elif entry.kind == "hard link":
        os.link(folders[0] / "good 0.png", path)
    else:
        path.write_bytes(
            picture(2000 + number)
            if entry.kind == "picture"
            else CONTENTS[entry.content % len(CONTENTS)]
        )
    if entry.kind.startswith("closed") and path.name not in ("cat", "dog"):
        closed.append(path)


@contextmanager
def nobody() -> Iterator[None]:
    """Inside, this process may not read what is closed, which root may."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def check(shape: str, wanted: list[Entry], figures: Figures) -> None:
    """The law, on one tree: it is refused by a sentence, or every entry is accounted for."""
    with made(shape, wanted) as root:
        figures.trees += 1
        began = perf_counter()
        try:
            with nobody():
                tree = read_folders(root)
                data = split(scan(tree, bad_limit=1.0), "0.5")
        except UserError as error:
            figures.refused[_beginning(str(error), root)] += 1
            return
        finally:
            figures.slowest_s = max(figures.slowest_s, perf_counter() - began)
        assert_conserved(root, tree, data)
        figures.entries += len(tree.folders) + len(data.pictures) + len(data.unused)
        figures.used += len(data.pictures)
        figures.left_out.update(entry.kind for entry in data.unused)


def assert_conserved(root: Path, tree: Listing, data: Data, *, val: str = "") -> None:
    """Used + left out + folders that were read = every entry, each of them once; `val`: a folder
    elsewhere."""
    used = [p.path for p in data.pictures]
    left_out = [entry.path for entry in data.unused]
    count = Counter([*used, *left_out, *(path for path in tree.folders if path not in (".", val))])
    assert set(count.values()) <= {1}
    listed = {
        name if folder == "." else f"{folder}/{name}"
        for folder in tree.folders
        for name in os.listdir(root / folder)
    }
    assert set(count) == listed
    whole = set(left_out)  # a folder that is left out stands for all that is in it
    for above, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(above, name).relative_to(root).as_posix()
            parents = {parent.as_posix() for parent in Path(path).parents}
            assert (path in count) != bool(parents & whole), path
    assert not [
        entry.path
        for entry in data.unused
        if entry.kind == "harmless" and _hides_a_picture(root, entry.path)
    ]
    assert {entry.kind for entry in data.unused} <= set(KINDS)
    assert all(entry.reason for entry in data.unused)
    assert set(data.left_out) <= {(entry.path, entry.reason) for entry in data.unused}


def _hides_a_picture(root: Path, path: str) -> bool:
    """Whether a file of a class folder that could be read is a PNG."""
    file = root / path
    if "/".join(path.split("/")[:-1]) in ("", "train", "val", "../held") or not file.is_file():
        return False
    return bool(file.stat().st_mode & 0o444) and file.read_bytes().startswith(b"\x89PNG")


def _beginning(error: str, root: Path) -> str:
    """An error without names, to be counted."""
    words = error.replace(str(root), "DATA").split()
    return " ".join(word for word in words if word.isascii() and word.strip(",.:").isalpha())[:60]
