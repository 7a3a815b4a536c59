"""CIFAR-10 and CIFAR-100 in the layouts in which they are published, with made pictures; and
pickles that would run something."""

import io
import os
import pickle
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from finetune.run_folder.named_folders import readable_folder
from finetune.sources.class_folders import read_folders
from finetune.stored import cifar, plain_pickle, rows
from tests.finetune.made_pictures import contents
from zoo.host.errors import UserError

CLASSES = ["apple", "aquarium_fish", "bee"]
COARSE = ["animal", "fruit"]
COARSE_OF = [1, 0, 0]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOOTUNE_HOME", str(tmp_path / "home"))


def pixels_of(part: int) -> np.ndarray:
    return np.random.default_rng(part).integers(0, 256, (6, 3072), dtype=np.uint8)


LABELS = [0, 1, 2, 2, 1, 0]


def text2(text: bytes) -> bytes:
    """A text of Python 2."""
    return b"T" + struct.pack("<I", len(text)) + text


def python2(value: Any) -> bytes:
    """The operations of a value as Python 2's pickle wrote them: its texts are bytes."""
    if isinstance(value, bytes):
        return text2(value)
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value)
    if isinstance(value, list):
        return b"](" + b"".join(map(python2, value)) + b"e"
    if isinstance(value, dict):
        return b"}(" + b"".join(python2(item) for pair in value.items() for item in pair) + b"u"
    assert isinstance(value, np.ndarray)
    shape = b"".join(map(python2, value.shape))
    kind = b"cnumpy\ndtype\n" + text2(b"u1") + b"K\0K\1\x87R(K\3" + text2(b"|")
    kind += b"NNN" + python2(-1) + python2(-1) + b"K\0tb"
    return (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85"
        + text2(b"b")
        + b"\x87R("
        + b"K\1("
        + shape
        + b"t"
        + kind
        + b"\x89"
        + text2(value.tobytes())
        + b"tb"
    )


def by_python2(value: Any) -> bytes:
    return b"\x80\2" + python2(value) + b"."


def by_python3(value: Any) -> bytes:
    return pickle.dumps(value, protocol=2)


def write_ten(folder: Path, dumps: Callable[[Any], bytes] = by_python2) -> Path:
    folder.mkdir(parents=True)
    (folder / "batches.meta").write_bytes(
        dumps({b"label_names": [name.encode() for name in CLASSES], b"num_vis": 3072})
    )
    for part, name in enumerate((*cifar.TEN_TRAIN, "test_batch")):
        batch = {b"batch_label": b"x", b"labels": LABELS, b"data": pixels_of(part)}
        (folder / name).write_bytes(dumps(batch | {b"filenames": [b"../x.png"] * 6}))
    return folder


def write_ten_binary(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "batches.meta.txt").write_text("\n".join([*CLASSES, "", ""]))
    for part, name in enumerate((*cifar.TEN_TRAIN, "test_batch")):
        records = np.column_stack([np.array(LABELS, np.uint8), pixels_of(part)])
        records.tofile(folder / f"{name}.bin")
    return folder


def write_hundred(folder: Path, dumps: Callable[[Any], bytes] = by_python2) -> Path:
    folder.mkdir(parents=True)
    names = {
        b"fine_label_names": [name.encode() for name in CLASSES],
        b"coarse_label_names": [name.encode() for name in COARSE],
    }
    (folder / "meta").write_bytes(dumps(names))
    for part, name in enumerate(("train", "test")):
        labels = {b"fine_labels": LABELS, b"coarse_labels": [COARSE_OF[i] for i in LABELS]}
        (folder / name).write_bytes(dumps(labels | {b"data": pixels_of(part)}))
    return folder


def write_hundred_binary(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "fine_label_names.txt").write_text("\n".join(CLASSES) + "\n")
    (folder / "coarse_label_names.txt").write_text("\n".join(COARSE) + "\n")
    for part, name in enumerate(("train", "test")):
        labels = np.array([[COARSE_OF[i], i] for i in LABELS], np.uint8)
        np.column_stack([labels, pixels_of(part)]).tofile(folder / f"{name}.bin")
    return folder


def packed(folder: Path) -> Path:
    path = folder.with_suffix(".tar.gz")
    with tarfile.open(path, "w:gz") as tar:
        tar.add(folder, folder.name)
    return path


def pictures(folder: Path) -> dict[str, bytes]:
    return {name: content for name, content in contents(folder).items() if content}


def test_both_versions_and_the_archive_give_the_same_files(tmp_path: Path) -> None:
    plain = write_ten(tmp_path / "a" / "cifar-10-batches-py")
    expected = pictures(readable_folder(str(plain)))
    assert len(expected) == 36
    with Image.open(io.BytesIO(expected["train/aquarium_fish/00007.png"])) as picture:
        pixels_HWC = np.asarray(picture)
    assert (pixels_HWC == pixels_of(1)[1].reshape(3, 32, 32).transpose(1, 2, 0)).all()
    tree = read_folders(readable_folder(str(plain)))
    assert tree.classes == tuple(CLASSES)
    assert {split: len(files) for split, files in tree.files.items()} == {"train": 30, "test": 6}
    for other in (
        write_ten(tmp_path / "b" / "renamed", by_python3),
        write_ten_binary(tmp_path / "c" / "cifar-10-batches-bin"),
        packed(plain),
        # the folder that a library downloaded it into
        plain.parent,
    ):
        assert pictures(readable_folder(str(other))) == expected, other


def test_the_superclasses_of_cifar_100(tmp_path: Path) -> None:
    plain = write_hundred(tmp_path / "cifar-100-python")
    binary = write_hundred_binary(tmp_path / "cifar-100-binary")
    fine, coarse = rows.prepare(str(plain)), rows.prepare(str(plain), coarse=True)
    assert fine != coarse
    assert read_folders(fine).classes == tuple(CLASSES)
    assert read_folders(coarse).classes == tuple(COARSE)
    assert pictures(rows.prepare(str(binary))) == pictures(fine)
    for other in (binary, packed(plain)):
        assert pictures(rows.prepare(str(other), coarse=True)) == pictures(coarse)
    ten = write_ten(tmp_path / "cifar-10-batches-py")
    with pytest.raises(UserError, match="--labels coarse: expected CIFAR-100"):
        rows.prepare(str(ten), coarse=True)


class Canary:
    """Unpickled, it makes a file."""

    def __init__(self, place: Path):
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.place), "w")


CODE: dict[str, Callable[[Path], bytes]] = {
    **{
        f"protocol {protocol}": (
            lambda place, p=protocol: pickle.dumps({b"data": Canary(place)}, p)
        )
        for protocol in range(6)
    },
    "persistent": lambda place: b"\x80\2}(X\1\0\0\0aPx\nu.",
    "instance": lambda place: b"(ios\nsystem\n.",
    "a part of a known module": lambda place: b"\x80\2cnumpy\nload\n.",
    "a name in a name": lambda place: b"\x80\4\x8c\5numpy\x8c\x08ndarray.\x93.",
    "memory for a number": lambda place: b"\x80\2}r\xff\xff\xff\x7f.",
    "another encoding": lambda place: (
        b"\x80\2}(X\1\0\0\0ac_codecs\nencode\nX\1\0\0\0bX\3\0\0\0hex\x86Ru."
    ),
    "shape": lambda place: by_python2({b"data": pixels_of(0)}).replace(
        python2(3072), python2(2**31 - 1)
    ),
    "other values": lambda place: by_python3({b"data": pixels_of(0).astype(np.int8)}),
    "no dictionary": lambda place: by_python2([1]),
    "cut": lambda place: by_python2({b"data": pixels_of(0)})[:-100],
    "text": lambda place: b"no pickle",
    "empty": lambda place: b"",
}


@pytest.mark.parametrize("code", CODE)
def test_a_pickle_that_names_anything_else_is_refused_and_not_run(
    code: str, tmp_path: Path
) -> None:
    folder = write_hundred(tmp_path / "cifar")
    canary = tmp_path / "canary"
    (folder / "train").write_bytes(CODE[code](canary))
    with pytest.raises(UserError, match=r"Nothing in it was run|expected pictures of 3,072"):
        rows.prepare(str(folder))
    assert not canary.exists()
    # that the canary is one
    if code.startswith("protocol"):
        with open(folder / "train", "rb") as file:
            pickle.load(file)[b"data"].close()
        assert canary.exists()


def test_five_names_are_known() -> None:
    assert len({name for _, name in plain_pickle.STAND_INS}) == 4
    assert len(plain_pickle.STAND_INS) == 5


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("test", None, "lacks test"),
        ("meta", by_python2({b"fine_label_names": [b"../a", b"b", b"c"]}), "expected the names"),
        ("meta", by_python2({b"fine_label_names": [b"a", b"b"]}), "label 2, expected 0 to 1"),
        ("test", by_python2({b"data": pixels_of(0), b"fine_labels": [0]}), "as many labels"),
        ("test", by_python2({b"fine_labels": LABELS}), "under data"),
    ],
)
def test_other_files_than_published_are_refused(
    file: str, content: bytes | None, words: str, tmp_path: Path
) -> None:
    folder = write_hundred(tmp_path / "cifar")
    if content is None:
        os.unlink(folder / file)
    else:
        (folder / file).write_bytes(content)
    with pytest.raises(UserError, match=words):
        rows.prepare(str(folder))


def test_a_binary_file_has_whole_pictures(tmp_path: Path) -> None:
    folder = write_hundred_binary(tmp_path / "cifar")
    with open(folder / "test.bin", "ab") as file:
        file.write(b"x")
    with pytest.raises(UserError, match="whole number of pictures"):
        rows.prepare(str(folder))
