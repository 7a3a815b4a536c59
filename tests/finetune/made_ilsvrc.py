"""ILSVRC2012 in miniature: the three tars with the nesting, names and devkit layout of the
originals."""

import io
import tarfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

from finetune.sources.imagenet_tars import DEVKIT, META, TRAIN, TRUTH, VAL

WNIDS = ("n02119789", "n01440764", "n03000684", "n02102040", "n03417042", "n01491361")
"""Class 1, 2, ... of the devkit: its order is not that of the names. Six, so that top-5 can be
wrong."""


@cache
def jpeg(label: int, number: int, side: int = 40) -> bytes:
    """A picture whose hue and stripes tell the class; no two are equal."""
    random = np.random.default_rng([label, number])
    pixels = random.integers(0, 90, (side, side + 8, 3))
    pixels[..., label % 3] += 150
    pixels[:: label + 2] = pixels[:: label + 2] // 2
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def write_tar(path: Path | None, contents: Mapping[str, bytes], *, mode: str = "w") -> bytes:
    """A tar of regular files, written to `path` if it is given; its bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:  # type: ignore[call-overload]
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    if path is not None:
        path.write_bytes(buffer.getvalue())
    return buffer.getvalue()


def meta_mat(train: int) -> bytes:
    """meta.mat: the classes with `train` pictures each, and a hypernym that is none of them."""
    fields = (
        "ILSVRC2012_ID",
        "WNID",
        "words",
        "gloss",
        "num_children",
        "children",
        "wordnet_height",
        "num_train_images",
    )
    rows = [
        (i, wnid, f"thing {i}", "a thing", 0, np.zeros(0), 0, train)
        for i, wnid in enumerate(WNIDS, 1)
    ]
    rows.append((1001, "n00001740", "entity", "all things", 2, np.array([1, 2]), 1, 0))
    synsets = np.empty((len(rows), 1), dtype=[(name, object) for name in fields])
    synsets[:, 0] = rows
    buffer = io.BytesIO()
    savemat(buffer, {"synsets": synsets})
    return buffer.getvalue()


def truth(val: int) -> list[int]:
    """Class of each validation picture: 1, 2, ..., 6, 1, ..."""
    return [1 + i % len(WNIDS) for i in range(val * len(WNIDS))]


def write_ilsvrc(folder: Path, *, train: int = 6, val: int = 3) -> Path:
    """Write the tars, with `train` and `val` pictures of each class. Gives `folder`."""
    folder.mkdir(parents=True)
    inner = {
        f"{wnid}.tar": write_tar(None, {f"{wnid}_{i}.JPEG": jpeg(label, i) for i in range(train)})
        for label, wnid in enumerate(WNIDS, 1)
    }
    write_tar(folder / TRAIN, inner)
    write_tar(
        folder / VAL,
        {
            f"ILSVRC2012_val_{i:08}.JPEG": jpeg(label, 1000 + i)
            for i, label in enumerate(truth(val), 1)
        },
    )
    lines = "".join(f"{label}\n" for label in truth(val)).encode()
    write_tar(folder / DEVKIT, {META: meta_mat(train), TRUTH: lines}, mode="w:gz")
    return folder
