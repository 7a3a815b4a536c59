"""Archives as `--data`: unpacked once, read as the folder that was packed, and refused unwritten
when they attack."""

import bz2
import gzip
import io
import lzma
import os
import stat
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from finetune.recipe.run import Run
from finetune.run_folder.claim import claim
from finetune.run_folder.named_folders import data_folder, readable_folder
from finetune.sources.class_folders import read_folders
from finetune.sources.data_source import DataSource
from finetune.stored import archive_entries, archives, kept_folder, rows
from tests.finetune.made_pictures import contents, png, write_classes
from zoo.host.errors import UserError

PICTURES = {
    f"pets/{name}/{i}.png": png(10 * i + len(name)) for name in ("cat", "dogs") for i in (1, 2)
}
PACKED = {".tar": bytes, ".tar.gz": gzip.compress, ".tar.bz2": bz2.compress, ".txz": lzma.compress}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZOOTUNE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def tar_of(files: dict[str, bytes], *changed: tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for info in changed:
            tar.addfile(info)
    return buffer.getvalue()


def zip_of(files: dict[str, bytes], *changed: zipfile.ZipInfo, method: int = 0) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        for info in changed:
            archive.writestr(info, b"target")
    return buffer.getvalue()


@pytest.mark.parametrize("suffix", [".zip", *PACKED])
def test_an_archive_is_read_as_the_folder_that_was_packed(suffix: str, tmp_path: Path) -> None:
    beside = {"__MACOSX/pets/._1.png": b"\0\5\x16\7", "README.txt": b"pets"}
    files = PICTURES | beside
    path = tmp_path / f"pets{suffix}"
    path.write_bytes(PACKED[suffix](tar_of(files)) if suffix in PACKED else zip_of(files))
    folder = data_folder(str(path))
    assert not folder.exists()
    assert readable_folder(str(path)) == folder
    written = {f"pets/{name}": data for name, data in contents(folder).items() if data}
    assert written == PICTURES
    tree = read_folders(folder)
    assert tree.classes == ("cat", "dogs")
    assert len(tree.files["train"]) == 4
    changed = folder.stat().st_mtime_ns
    assert readable_folder(str(path)) == folder
    assert folder.stat().st_mtime_ns == changed
    # another archive under the same name is another source
    os.utime(path, ns=(1, 1))
    assert data_folder(str(path)) != folder


def info_of(name: str, **fields: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def zip_link(mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("pets/cat/link")
    info.create_system, info.external_attr = 3, (mode | 0o777) << 16
    return info


def encrypted() -> bytes:
    packed = bytearray(zip_of({"pets/cat/secret.png": b"secret"}))
    for start, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        packed[packed.index(start) + at] |= 1
    return bytes(packed)


def moved_directory(by: int) -> bytes:
    """A zip whose entries would stand before its beginning."""
    packed = bytearray(zip_of(PICTURES))
    at = packed.rindex(b"PK\5\6") + 16
    packed[at : at + 4] = (int.from_bytes(packed[at : at + 4], "little") + by).to_bytes(4, "little")
    return bytes(packed)


def not_utf_8(packed: bytes) -> bytes:
    return packed.replace(b"caQe", b"ca\xe9e")


NAMES = {
    "../outside.png": "leads out",
    "pets/../../outside.png": "leads out",
    "/tmp/absolute.png": "absolute",
    "C:/windows.png": "drive",
    "pets/C:x.png": "drive",
    "..\\outside.png": "backslash",
    "\\\\server\\share.png": "absolute",
    "pets/" + "a" * 256: "longer",
    "a/" * 600 + "b": "longer",
    "pets/CAT/1.png": "the same on some file systems",
    "pets/cat": "the same on some file systems",
    "pets/cat/1.png/inner.png": "the same on some file systems",
}
ATTACKS: dict[str, tuple[Callable[[], bytes], str]] = {
    **{
        f"{kind} {name[:20]!r}": (lambda name=name, pack=pack: pack(PICTURES | {name: b"x"}), words)
        for name, words in NAMES.items()
        for kind, pack in (("zip", zip_of), ("tar", tar_of))
    },
    **{
        f"tar type {kind!r}": (
            lambda kind=kind: tar_of(
                PICTURES, info_of("pets/cat/link", type=kind, linkname="/etc/passwd")
            ),
            "a link, a device, a pipe",
        )
        for kind in (
            tarfile.SYMTYPE,
            tarfile.LNKTYPE,
            tarfile.CHRTYPE,
            tarfile.BLKTYPE,
            tarfile.FIFOTYPE,
            tarfile.GNUTYPE_SPARSE,
        )
    },
    **{
        f"zip mode {mode:o}": (
            lambda mode=mode: zip_of(PICTURES, zip_link(mode)),
            "a link, a device or a pipe",
        )
        for mode in (stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK)
    },
    "zip bomb": (
        lambda: zip_of({"pets/cat/1.png": bytes(2_000_000)}, method=zipfile.ZIP_DEFLATED),
        "more than 100 bytes",
    ),
    "tar bomb": (
        lambda: gzip.compress(tar_of({"pets/cat/1.png": bytes(2_000_000)})),
        "more than 100 bytes",
    ),
    "xz bomb": (
        lambda: lzma.compress(tar_of({"pets/cat/1.png": bytes(1_000_000)})),
        "more than 100 bytes",
    ),
    "encrypted": (encrypted, "encrypted"),
    "zip not UTF-8": (lambda: not_utf_8(zip_of({"pets/caQe/1.png": b"x"})), "not UTF-8"),
    "tar not UTF-8": (lambda: not_utf_8(tar_of({"pets/ca\udce9e/1.png": b"x"})), "not UTF-8"),
    "zip name with a zero": (
        lambda: zip_of({"pets/cat/1.pngQ": b"x"}).replace(b"pngQ", b"png\0"),
        "zero byte",
    ),
    "zip name of nothing": (
        lambda: zip_of({"Q": b"x"}).replace(b"Q", b"\0"),
        "zero byte|cannot be read to its end",
    ),
    "zip entry before the start": (lambda: moved_directory(50), "cannot be read to its end"),
    "cut zip": (lambda: zip_of(PICTURES)[:-30], "cannot be read to its end"),
    "cut tar": (lambda: tar_of(PICTURES)[:2000], "cannot be read|was cut off"),
    "cut tar.gz": (lambda: gzip.compress(tar_of(PICTURES))[:-40], "cannot be read to its end"),
    "cut bz2": (lambda: bz2.compress(tar_of(PICTURES))[:-40], "cannot be read to its end"),
    "tar with rubbish": (
        lambda: tar_of(PICTURES)[:1024] + b"rubbish" * 1000,
        "cannot be read|was cut off",
    ),
    "gzip of no tar": (lambda: gzip.compress(b"label,path\n" * 500), "cannot be read to its end"),
    "zip of nothing": (lambda: zip_of({}), "holds no file"),
    "wrong checksum": (
        lambda: zip_of({"pets/cat/1.png": b"content"}).replace(b"content", b"changed"),
        "cannot be read to its end",
    ),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_is_refused_and_nothing_is_written(
    attack: str, tmp_path: Path, home: Path
) -> None:
    make, words = ATTACKS[attack]
    path = tmp_path / "attack"
    path.write_bytes(make())
    before = {entry for entry in tmp_path.rglob("*") if home not in entry.parents} | {home}
    start = time.process_time()
    with pytest.raises(UserError, match=words):
        rows.prepare(str(path))
    assert time.process_time() - start < 10
    assert {entry for entry in tmp_path.rglob("*") if home not in entry.parents} == before
    assert [entry.name for entry in home.rglob("*") if entry.suffix != ".lock"] == ["data"]


@pytest.mark.parametrize("pack", [zip_of, tar_of])
def test_too_many_entries_are_refused(
    pack: Callable[..., bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert archive_entries.MOST_ENTRIES == 100_000
    path = tmp_path / "pets"
    path.write_bytes(pack(PICTURES))
    monkeypatch.setattr(archive_entries, "MOST_ENTRIES", 3)
    with pytest.raises(UserError, match="more than 3 entries"):
        rows.prepare(str(path))
    # of a zip, before zipfile makes an object of each
    monkeypatch.setattr(archive_entries, "MOST_ENTRIES", 4)
    monkeypatch.setattr(archives, "MOST_ENTRIES", 3)
    if pack is zip_of:
        with pytest.raises(UserError, match="Nothing was unpacked"):
            rows.prepare(str(path))


def test_a_killed_one_begins_again(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "pets.zip"
    path.write_bytes(zip_of(PICTURES))
    write_file, written = archives._write_file, []

    def killed(place: Path, content: io.BytesIO) -> None:
        write_file(place, content)
        written.append(place)
        if len(written) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(archives, "_write_file", killed)
    with pytest.raises(KeyboardInterrupt):
        rows.prepare(str(path))
    monkeypatch.setattr(archives, "_write_file", write_file)
    assert not rows.stored_in(str(path)).exists()
    folder = rows.prepare(str(path))
    assert len(read_folders(folder).files["train"]) == 4
    assert not list(home.rglob("*.tmp"))


def test_what_does_not_fit_on_the_disk_is_refused_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "pets.zip"
    path.write_bytes(zip_of(PICTURES))
    monkeypatch.setattr(
        kept_folder.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 10})
    )
    with pytest.raises(UserError, match="ZOOTUNE_HOME to a folder on a larger disk"):
        rows.prepare(str(path))


@pytest.mark.parametrize(
    ("files", "top"),
    [
        (["a/x/1.png", "a/y/1.png", "a/labels.csv"], "a/"),
        (["a/b/x/1.png", "a/b/y/1.png", ".DS_Store", "LICENSE"], "a/b/"),
        (["x/1.png", "labels.csv"], ""),
        (["x/1.png", "y/1.png"], ""),
        (["1.png", "2.png"], ""),
    ],
)
def test_the_folder_that_holds_all_is_entered(files: list[str], top: str) -> None:
    assert archive_entries.single_folder(files) == top


def test_splits_in_an_archive_stay(tmp_path: Path) -> None:
    write_classes(tmp_path / "set", {"train/a": 2, "train/b": 2, "test/a": 1, "test/b": 1})
    path = tmp_path / "set.tgz"
    with tarfile.open(path, "w:gz") as tar:
        tar.add(tmp_path / "set", "set")
    assert set(read_folders(readable_folder(str(path))).files) == {"train", "test"}


def test_a_table_of_labels_beside_its_pictures(tmp_path: Path) -> None:
    files = {f"set/images/{i}.png": png(i) for i in range(4)}
    lines = ["image,label", *(f"images/{i}.png,{('cat', 'dog')[i % 2]}" for i in range(4))]
    path = tmp_path / "set.zip"
    path.write_bytes(zip_of(files | {"set/labels.csv": "\n".join(lines).encode()}))
    listing = DataSource(readable_folder(str(path))).listing()
    assert listing.classes == ("cat", "dog")
    assert listing.files["train"][1] == ("images/1.png", 1)


def test_a_run_takes_what_was_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("pets.zip").write_bytes(zip_of(PICTURES))
    taken = claim(Run(data="pets.zip"), {})
    taken.lock.release()
    assert taken.order.data == data_folder("pets.zip").resolve()
    assert read_folders(taken.order.data).classes == ("cat", "dogs")
    assert taken.folder == Path("runs/pets.zip-efficientnet_lite0")


def test_labels_coarse_is_for_one_source(tmp_path: Path, home: Path) -> None:
    path = tmp_path / "pets.zip"
    path.write_bytes(zip_of(PICTURES))
    with pytest.raises(UserError, match="--labels coarse: expected CIFAR-100"):
        rows.prepare(str(path), coarse=True)
    assert not list(home.rglob("*.tmp"))
