"""A later start reads only what changed, and never takes a changed file for a known one."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from finetune.data import readings, scanning
from finetune.data.dataset import Data
from finetune.sources.class_folders import read_folders
from tests.finetune.made_pictures import png, write_classes


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twenty pictures that were written long enough ago."""
    monkeypatch.setenv("ZOOTUNE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(readings, "SETTLED_S", 0.0)
    return write_classes(tmp_path / "data", {"cat": 10, "dog": 10})


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were read, in order."""
    names: list[str] = []
    real = scanning.read_picture

    def noted(path: Path) -> object:
        names.append(path.name)
        return real(path)

    monkeypatch.setattr(scanning, "read_picture", noted)
    return names


def scanned(folder: Path) -> Data:
    # the clock of the file system may be a little ahead
    time.sleep(0.02)
    return scanning.scan(read_folders(folder), bad_limit=1.0)


def test_a_second_start_reads_nothing_and_gives_the_same(folder: Path, read: list[str]) -> None:
    first = scanned(folder)
    assert len(read) == 20
    assert scanned(folder) == first
    assert len(read) == 20


def same_size(path: Path) -> None:
    """Other bytes of the same size, with the time of change set back by hand."""
    before = os.stat(path)
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def exchanged(path: Path) -> None:
    other = path.with_name("other.tmp")
    other.write_bytes(png(999))
    os.replace(other, path)


@pytest.mark.parametrize("change", [same_size, exchanged, lambda path: path.write_bytes(png(999))])
def test_a_changed_file_is_read_again(
    folder: Path, read: list[str], change: Callable[[Path], None]
) -> None:
    first = scanned(folder)
    read.clear()
    change(folder / "cat" / "003.png")
    again = scanned(folder)
    assert read == ["003.png"]
    assert again.digest() != first.digest()


def test_a_new_file_is_read_and_a_gone_one_is_gone(folder: Path, read: list[str]) -> None:
    scanned(folder)
    read.clear()
    (folder / "dog" / "new.png").write_bytes(png(77))
    (folder / "dog" / "001.png").unlink()
    data = scanned(folder)
    assert read == ["new.png"]
    assert len(data.pictures) == 20
    assert "dog/001.png" not in {p.path for p in data.pictures}


def test_a_file_that_cannot_be_read_is_tried_at_every_start(folder: Path, read: list[str]) -> None:
    (folder / "cat" / "bad.png").write_bytes(b"no picture")
    scanned(folder)
    read.clear()
    data = scanned(folder)
    assert read == ["bad.png"]
    assert [path for path, _ in data.left_out] == ["cat/bad.png"]


def test_a_file_that_may_still_be_changing_is_not_trusted(
    folder: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readings, "SETTLED_S", 60.0)
    scanned(folder)
    scanned(folder)
    assert len(read) == 40


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY\x01\x00", b"x" * 100, None])
def test_damaged_readings_are_read_anew(
    folder: Path, read: list[str], content: bytes | None
) -> None:
    first = scanned(folder)
    (kept,) = (folder.parent / "home" / "readings").iterdir()
    if content is None:
        np.save(kept, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    else:
        kept.write_bytes(content)
    assert scanned(folder) == first
    assert len(read) == 40


def test_a_cache_that_cannot_be_written_only_costs_time(
    folder: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOOTUNE_HOME", str(folder / "cat" / "003.png"))
    assert scanned(folder) == scanned(folder)
    assert len(read) == 40


def test_readings_of_another_decoder_are_not_used(
    folder: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    scanned(folder)
    monkeypatch.setattr(readings, "VERSION", 0)
    scanned(folder)
    assert len(read) == 40
