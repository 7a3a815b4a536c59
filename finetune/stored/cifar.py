"""CIFAR-10 and CIFAR-100 as they are published (cs.toronto.edu/~kriz/cifar.html) -> class folders.

Both come as pickles of Python 2 (`cifar-10-batches-py`, `cifar-100-python`) and in a binary version
(`cifar-10-batches-bin`, `cifar-100-binary`); their archives are unpacked by archives.py. Every
picture is written as PNG into `train/CLASS` or `test/CLASS`, under its number in the split, so that
both versions give the same files.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from finetune.stored import kept_folder, plain_pickle
from zoo.host import console
from zoo.host.errors import UserError
from zoo.host.text import one_line

SIDE_PX = 32
PICTURE_BYTES = 3 * SIDE_PX * SIDE_PX
TEN_TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))
CLASS_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_ -]{0,60}")
MOST_BINARY_BYTES = 1 << 28
BLOCK_BYTES = 4096
"""What a small file takes on the disk."""


@dataclass(frozen=True)
class Layout:
    """One of the four versions."""

    folder: str
    """Its name as it is published."""
    names: tuple[str, str]
    """The files that name the classes: by their labels, and by the coarse ones; the same for
    CIFAR-10."""
    train: tuple[str, ...]
    test: tuple[str, ...]
    labels: tuple[str, str] = ("", "")
    """Keys of a pickle: labels, and coarse labels."""
    label_names: tuple[str, str] = ("", "")
    """Keys of the pickle that names the classes."""
    label_bytes: tuple[int, int] = (0, 0)
    """Position of both labels in a record of the binary version, before the picture."""

    @property
    def is_binary(self) -> bool:
        """Tell whether it is no pickle."""
        return not self.labels[0]

    @property
    def has_coarse(self) -> bool:
        """Tell whether the classes are grouped."""
        return self.labels[0] != self.labels[1] or self.label_bytes[0] != self.label_bytes[1]


LAYOUTS = (
    Layout(
        "cifar-10-batches-py",
        ("batches.meta", "batches.meta"),
        TEN_TRAIN,
        ("test_batch",),
        labels=("labels", "labels"),
        label_names=("label_names", "label_names"),
    ),
    Layout(
        "cifar-100-python",
        ("meta", "meta"),
        ("train",),
        ("test",),
        labels=("fine_labels", "coarse_labels"),
        label_names=("fine_label_names", "coarse_label_names"),
    ),
    Layout(
        "cifar-10-batches-bin",
        ("batches.meta.txt", "batches.meta.txt"),
        tuple(f"{name}.bin" for name in TEN_TRAIN),
        ("test_batch.bin",),
    ),
    Layout(
        "cifar-100-binary",
        ("fine_label_names.txt", "coarse_label_names.txt"),
        ("train.bin",),
        ("test.bin",),
        label_bytes=(1, 0),
    ),
)


class Part(NamedTuple):
    """The pictures of one file."""

    pixels_NCHW: np.ndarray
    """uint8."""
    labels: np.ndarray


def is_cifar(name: str) -> bool:
    """Tell whether a folder, or the only such folder in it, holds one of the versions; the file
    that names the classes and the first one of pictures are enough."""
    return _found(Path(name)) is not None


def _found(folder: Path) -> tuple[Path, Layout] | None:
    found = []
    for layout in LAYOUTS:
        for place in (folder, folder / layout.folder):
            needed = (*layout.names, layout.train[0])
            if all(os.path.isfile(place / name) for name in needed):
                found.append((place, layout))
    # of two data sets in one folder nobody can say which is meant
    return found[0] if len(found) == 1 else None


def source_facts(name: str) -> object:
    """What tells this copy from others: its files, with their sizes and times."""
    found = _found(Path(name))
    assert found is not None, "is_cifar"
    return kept_folder.file_facts(found[0])


def write_source(name: str, folder: Path, coarse: bool = False) -> Path:
    """Write the pictures into `folder`, which does not exist yet.

    `coarse`: by the 20 superclasses of CIFAR-100. `UserError` if a file is missing or is not what
    was published.
    """
    found = _found(Path(name))
    assert found is not None, "is_cifar"
    place, layout = found
    if coarse and not layout.has_coarse:
        raise UserError(
            f"--labels coarse: expected CIFAR-100, which has 20 superclasses; {place} is CIFAR-10. "
            "Remove the flag."
        )
    if missing := [part for part in (*layout.train, *layout.test) if not (place / part).is_file()]:
        raise UserError(
            f"{place} lacks {', '.join(missing)}: expected all files of {layout.folder} as they "
            "are published. Unpack it again."
        )
    classes = _classes(place, layout, coarse)
    size = sum((place / part).stat().st_size for part in (*layout.train, *layout.test))
    kept_folder.check_free(folder.parent, size * BLOCK_BYTES // PICTURE_BYTES)
    with console.bar(f"writing {layout.folder}", size // PICTURE_BYTES) as advance:
        for split, files in (("train", layout.train), ("test", layout.test)):
            parts = (_part(place / file, layout, coarse) for file in files)
            _write_split(folder / split, parts, classes, place, advance)
    return folder


def _write_split(
    split: Path, parts: Iterator[Part], classes: list[str], place: Path, advance: console.Advance
) -> None:
    folders = [kept_folder.class_folder(split, name, place) for name in classes]
    number = 0
    for part in parts:
        if part.labels.size and not 0 <= part.labels.min() <= part.labels.max() < len(classes):
            raise UserError(
                f"{place} has the label {part.labels.max()}, expected 0 to {len(classes) - 1} as "
                "there are names of classes. Download it again."
            )
        for pixels_CHW, label in zip(part.pixels_NCHW, part.labels, strict=True):
            picture = Image.fromarray(np.ascontiguousarray(pixels_CHW.transpose(1, 2, 0)))
            picture.save(folders[label] / f"{number:05}.png", compress_level=1)
            number += 1
            advance(1)


def _classes(place: Path, layout: Layout, coarse: bool) -> list[str]:
    """Read the names of the classes, in order of their labels."""
    path = place / layout.names[coarse]
    if layout.is_binary:
        if path.stat().st_size > 1 << 16:
            raise UserError(f"{path}: expected a name of a class in each line, seen a large file.")
        names = path.read_text(encoding="utf-8", errors="replace").split("\n")
        names = [name.strip() for name in names if name.strip()]
    else:
        names = plain_pickle.read(path).get(layout.label_names[coarse], [])
    are_names = (
        isinstance(names, list) and len(names) > 1 and len(set(map(str, names))) == len(names)
    )
    if not are_names or not all(CLASS_NAME.fullmatch(str(name)) for name in names):
        raise UserError(
            f"{path}: expected the names of the classes of {layout.folder}, seen "
            f"{one_line(names)[:100]}. Download it again."
        )
    return list(map(str, names))


def _part(path: Path, layout: Layout, coarse: bool) -> Part:
    """Read the pictures of one file; `UserError` unless each has a label and 3 x 32 x 32 bytes."""
    if layout.is_binary:
        return _binary_part(path, layout, coarse)
    content = plain_pickle.read(path)
    pixels, labels = content.get("data"), content.get(layout.labels[coarse])
    fits = isinstance(pixels, np.ndarray) and isinstance(labels, list)
    if not fits or pixels.shape != (len(labels), PICTURE_BYTES):  # type: ignore[union-attr, arg-type]
        raise UserError(
            f"{path}: expected pictures of {PICTURE_BYTES:,} bytes under data, and as many labels "
            f"under {layout.labels[coarse]}. Download it again."
        )
    if not all(type(label) is int for label in labels):  # type: ignore[union-attr]
        raise UserError(f"{path}: expected numbers as labels. Download it again.")
    return Part(pixels.reshape(-1, 3, SIDE_PX, SIDE_PX), np.asarray(labels, dtype=np.int64))  # type: ignore[union-attr]


def _binary_part(path: Path, layout: Layout, coarse: bool) -> Part:
    before = max(layout.label_bytes) + 1
    size = path.stat().st_size
    if size > MOST_BINARY_BYTES or size % (before + PICTURE_BYTES):
        raise UserError(
            f"{path} has {size:,} bytes: expected a whole number of pictures of "
            f"{before + PICTURE_BYTES:,} bytes. Download it again."
        )
    # CIFAR-100 has the coarse label first, then the fine one
    records = np.fromfile(path, np.uint8).reshape(-1, before + PICTURE_BYTES)
    pixels = records[:, before:].reshape(-1, 3, SIDE_PX, SIDE_PX)
    return Part(pixels, records[:, layout.label_bytes[coarse]].astype(np.int64))
