"""The tars of ILSVRC2012, in miniature: unpacked without hands, stopped and gone on, and never
trusted."""

import gzip
import io
import resource
import shutil
import struct
import tarfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest

from finetune.recipe.run import Run
from finetune.run_folder.claim import claim
from finetune.sources import imagenet_tars
from finetune.sources.class_folders import read_folders
from finetune.sources.imagenet_tars import DEVKIT, META, TRAIN, TRUTH, VAL, prepared
from tests.finetune.made_ilsvrc import WNIDS, jpeg, meta_mat, truth, write_ilsvrc, write_tar
from tests.finetune.made_pictures import contents
from zoo.contract import rundir
from zoo.host.errors import UserError


@pytest.fixture
def tars(tmp_path: Path) -> Path:
    return write_ilsvrc(tmp_path / "ilsvrc")


def test_classes_and_ground_truth_become_folders(tars: Path) -> None:
    before = contents(tars)
    target = prepared(tars)
    assert target == tars.with_name("ilsvrc-folders")
    assert contents(tars) == before
    expected = {
        f"train/{wnid}/{wnid}_{i}.JPEG": jpeg(label, i)
        for label, wnid in enumerate(WNIDS, 1)
        for i in range(6)
    }
    expected |= {
        f"val/{WNIDS[label - 1]}/ILSVRC2012_val_{i:08}.JPEG": jpeg(label, 1000 + i)
        for i, label in enumerate(truth(3), 1)
    }
    assert {
        name: content for name, content in contents(target).items() if name.endswith(".JPEG")
    } == expected
    assert rundir.read_json(target / "PREPARED.json")["pictures"] == len(expected) == 54
    tree = read_folders(target)
    assert tree.classes == tuple(sorted(WNIDS))
    assert {split: len(files) for split, files in tree.files.items()} == {"train": 36, "val": 18}
    assert not [name for name in contents(target) if imagenet_tars.UNFINISHED in name]


def test_the_devkit_of_a_mirror_is_called_gz(tars: Path) -> None:
    (tars / DEVKIT).rename(tars / "ILSVRC2012_devkit_t12.gz")
    assert len(read_folders(prepared(tars)).classes) == len(WNIDS)


def test_a_run_takes_the_folder_of_the_tars(
    tars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    taken = claim(Run(data="ilsvrc"), {})
    assert taken.order.data == (tmp_path / "ilsvrc-folders").resolve()
    assert taken.folder == Path("runs/ilsvrc-efficientnet_lite0")
    taken.lock.release()


@pytest.mark.parametrize("written", [0, 4, 10, 40, 53])
def test_stopped_it_goes_on(tars: Path, monkeypatch: pytest.MonkeyPatch, written: int) -> None:
    copied: list[str] = []

    def copy(source: IO[bytes], out: IO[bytes]) -> None:
        if len(copied) == written:
            out.write(source.read(50))
            raise KeyboardInterrupt
        copied.append(Path(out.name).name)
        out.write(source.read())

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfileobj", copy)
        with pytest.raises(KeyboardInterrupt):
            prepared(tars)
        assert not (tars.with_name("ilsvrc-folders") / "PREPARED.json").exists()
        written = 1000
        target = prepared(tars)
    assert len(copied) == len(set(copied)) == 54  # none was written twice
    assert all(
        content
        in (jpeg(label, i) for label in range(1, 7) for i in (*range(6), *range(1001, 1019)))
        for name, content in contents(target).items()
        if name.endswith(".JPEG")
    )
    stamps = {path: path.stat().st_mtime_ns for path in target.rglob("*")}
    prepared(tars)
    assert stamps == {path: path.stat().st_mtime_ns for path in target.rglob("*")}


def with_member(path: Path, member: tarfile.TarInfo, content: bytes = b"") -> None:
    """Append a member to a tar."""
    member.size = len(content)
    with tarfile.open(path, "a") as tar:
        tar.addfile(member, io.BytesIO(content))


def link(name: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, "/etc/passwd"
    return member


def cut(path: Path, share: float) -> None:
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


def sparse(name: str, size: int) -> bytes:
    """A tar of a file that is one hole: 1.5 kB that would take any space."""
    member = tarfile.TarInfo(name)
    member.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    header[386:410] = b"%011o\0" % 0 + b"%011o\0" % 0
    header[483:495] = b"%011o\0" % size
    header[148:156] = b"        "
    header[148:156] = b"%06o\0 " % sum(header[:512])
    return bytes(header) + b"\0" * 1024


def packed(path: Path, name: str, size: int) -> None:
    """A gzipped tar of zeros."""
    with tarfile.open(path, "w:gz", compresslevel=1) as tar, open("/dev/zero", "rb") as zeros:
        member = tarfile.TarInfo(name)
        member.size = size
        tar.addfile(member, zeros)


def long_name(path: Path, kind: int) -> None:
    """A tar whose first header says that a name of many megabytes follows."""
    with tarfile.open(path, "w", format=kind) as tar:
        tar.addfile(tarfile.TarInfo("n" * 3_000_000))


def element(kind: int, content: bytes) -> bytes:
    """A part of a .mat file; all but compressed ones (15) end at multiples of 8."""
    filling = b"" if kind == 15 else b"\0" * (-len(content) % 8)
    return struct.pack("<II", kind, len(content)) + content + filling


def matrix(
    kind: int, dims: tuple[int, ...], content: bytes = b"", name: bytes = b"synsets"
) -> bytes:
    """A variable of a .mat file."""
    return element(
        14,
        element(6, struct.pack("<II", kind, 0))
        + element(5, struct.pack(f"<{len(dims)}i", *dims))
        + element(1, name)
        + content,
    )


def mat(*variables: bytes) -> bytes:
    return b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\1IM" + b"".join(variables)


def with_meta(tars: Path, meta: bytes) -> None:
    write_tar(tars / DEVKIT, {META: meta, TRUTH: b"1\n"}, mode="w:gz")


def deep_cells(times: int) -> bytes:
    content = b""
    for _ in range(times):
        content = matrix(1, (1, 1), content or element(14, b""), b"")
    return matrix(1, (1, 1), content)


HOSTILE: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "no val": (lambda tars: (tars / VAL).unlink(), ["lacks ILSVRC2012_img_val.tar"]),
    "link": (
        lambda tars: with_member(tars / VAL, link("ILSVRC2012_val_00000009.JPEG")),
        ["not a regular file"],
    ),
    "hard link": (
        lambda tars: with_member(tars / VAL, link("ILSVRC2012_val_00000009.JPEG", tarfile.LNKTYPE)),
        ["not a regular file"],
    ),
    "device": (
        lambda tars: with_member(tars / TRAIN, link("n01440764.tar", tarfile.CHRTYPE)),
        ["not a regular file"],
    ),
    "path": (
        lambda tars: with_member(
            tars / VAL, tarfile.TarInfo("../ILSVRC2012_val_00000001.JPEG"), b"x"
        ),
        ["'../ILSVRC2012_val_00000001.JPEG'", "expected names like"],
    ),
    "absolute": (
        lambda tars: with_member(tars / TRAIN, tarfile.TarInfo("/n01440764.tar"), b"x"),
        ["'/n01440764.tar'"],
    ),
    "path inside": (
        lambda tars: write_tar(
            tars / TRAIN, {"n01440764.tar": write_tar(None, {"../../x.JPEG": b"x"})}
        ),
        ["n01440764.tar", "'../../x.JPEG'"],
    ),
    "other class": (
        lambda tars: with_member(tars / TRAIN, tarfile.TarInfo("n09999999.tar"), b"x"),
        ["n09999999", "devkit does not list"],
    ),
    "not a tar": (
        lambda tars: write_tar(tars / TRAIN, {"n01440764.tar": b"x" * 2000}),
        ["cannot be read"],
    ),
    "few": (
        lambda tars: write_tar(
            tars / TRAIN, {"n01440764.tar": write_tar(None, {"n01440764_1.JPEG": b"x"})}
        ),
        ["holds 1 pictures, expected 6"],
    ),
    "cut train": (lambda tars: cut(tars / TRAIN, 0.5), ["img_train.tar"]),
    "cut val": (lambda tars: cut(tars / VAL, 0.6), ["img_val.tar"]),
    "cut devkit": (lambda tars: cut(tars / DEVKIT, 0.5), ["devkit_t12.tar.gz", "cannot be read"]),
    "too many": (
        lambda tars: with_member(tars / VAL, tarfile.TarInfo("ILSVRC2012_val_00000019.JPEG"), b"x"),
        ["the ground truth has 18 lines"],
    ),
    "no truth": (
        lambda tars: write_tar(tars / DEVKIT, {META: meta_mat(6)}, mode="w:gz"),
        [f"lacks {TRUTH}"],
    ),
    "sparse": (
        lambda tars: (tars / VAL).write_bytes(sparse("ILSVRC2012_val_00000001.JPEG", 10**9)),
        ["not a regular file"],
    ),
    "sparse inside": (
        lambda tars: write_tar(tars / TRAIN, {"n01440764.tar": sparse("n01440764_1.JPEG", 10**9)}),
        ["not a regular file"],
    ),
    "gzipped val": (
        lambda tars: (tars / VAL).write_bytes(gzip.compress((tars / VAL).read_bytes())),
        ["img_val.tar", "cannot be read"],
    ),
    "gzipped inside": (
        lambda tars: write_tar(
            tars / TRAIN,
            {"n01440764.tar": gzip.compress(write_tar(None, {"n01440764_1.JPEG": b"x"}))},
        ),
        ["cannot be read"],
    ),
    "long name": (
        lambda tars: long_name(tars / VAL, tarfile.GNU_FORMAT),
        ["headers of more than 65,536 bytes"],
    ),
    "long attributes": (
        lambda tars: long_name(tars / VAL, tarfile.PAX_FORMAT),
        ["headers of more than 65,536 bytes"],
    ),
    "name with escapes": (
        lambda tars: with_member(tars / VAL, tarfile.TarInfo("\x1b[2J"), b"x"),
        [r"'\x1b[2J'"],
    ),
    "devkit bomb": (
        lambda tars: packed(tars / DEVKIT, META, 100_000_000),
        ["unpacks to more than 67,108,864"],
    ),
    "large meta": (
        lambda tars: packed(tars / DEVKIT, META, 20_000_000),
        ["no regular file of at most 16,777,216"],
    ),
    "large truth": (
        lambda tars: write_tar(tars / DEVKIT, {META: b"x", TRUTH: b"1\n" * 1_000_000}, mode="w:gz"),
        ["no regular file of at most 1,048,576"],
    ),
    "meta of zeros": (lambda tars: with_meta(tars, bytes(1000)), ["no MATLAB file"]),
    "meta of an old version": (
        lambda tars: with_meta(tars, struct.pack("<5i", 0, 10**6, 10**6, 0, 1) + bytes(200)),
        ["no MATLAB file"],
    ),
    "meta with a bomb": (
        lambda tars: with_meta(tars, mat(element(15, zlib.compress(bytes(60_000_000))))),
        ["unpack to more than"],
    ),
    "meta with two bombs": (
        lambda tars: with_meta(
            tars,
            mat(
                *[
                    element(
                        15, zlib.compress(matrix(4, (1, 12_000_000), element(1, bytes(12_000_000))))
                    )
                ]
                * 2
            ),
        ),
        ["unpack to more than"],
    ),
    "meta that claims cells": (
        lambda tars: with_meta(tars, mat(matrix(1, (2**30, 2)))),
        ["larger than its bytes"],
    ),
    "meta that claims rows": (
        lambda tars: with_meta(tars, mat(matrix(2, (2**30, 2)))),
        ["larger than its bytes"],
    ),
    "meta that claims nothing": (
        lambda tars: with_meta(tars, mat(matrix(6, (0, 2**31 - 1)))),
        ["larger than its bytes"],
    ),
    "meta with a negative size": (
        lambda tars: with_meta(tars, mat(matrix(6, (-1, -1)))),
        ["larger than its bytes"],
    ),
    "meta that is deep": (lambda tars: with_meta(tars, mat(deep_cells(500))), ["nested too deep"]),
    "meta with a function": (
        lambda tars: with_meta(tars, mat(matrix(16, (1, 1)))),
        ["an array of class 16"],
    ),
    "meta of numbers": (
        lambda tars: with_meta(tars, mat(matrix(6, (1, 2), element(9, bytes(16))))),
        ["expected meta.mat"],
    ),
    "meta that is cut": (lambda tars: with_meta(tars, meta_mat(6)[:-100]), ["expected meta.mat"]),
    "truth of words": (
        lambda tars: write_tar(tars / DEVKIT, {META: meta_mat(6), TRUTH: b"one\n"}, mode="w:gz"),
        ["expected meta.mat and the ground truth"],
    ),
    "unknown class": (
        lambda tars: write_tar(tars / DEVKIT, {META: meta_mat(6), TRUTH: b"1\n7\n"}, mode="w:gz"),
        ["names class 7"],
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_is_not_the_original_is_refused_and_writes_nothing_outside(
    tars: Path, case: str
) -> None:
    break_it, words = HOSTILE[case]
    break_it(tars)
    before_mb, before_s = (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000,
        time.process_time(),
    )
    with pytest.raises(UserError) as caught:
        prepared(tars)
    assert time.process_time() - before_s < 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000 - before_mb < 300
    assert not [word for word in words if word not in str(caught.value)], caught.value
    target = tars.with_name("ilsvrc-folders")
    assert not (target / "PREPARED.json").exists()
    assert {path.name for path in tars.parent.iterdir()} <= {"ilsvrc", "ilsvrc-folders"}
    written = [path.relative_to(target).as_posix() for path in target.rglob("*.JPEG")]
    assert not [name for name in written if name.startswith("x") or "/x" in name]
    assert all(path.is_file() and not path.is_symlink() for path in target.rglob("*.JPEG"))


def test_too_little_space_is_told_before_anything_is_unpacked(
    tars: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=r"needs 0 GB more, and 0 GB are free"):
        prepared(tars)
    assert not list(tars.with_name("ilsvrc-folders").rglob("*.JPEG"))


def test_a_folder_that_cannot_be_the_runs_is_refused_before_anything_is_unpacked(
    tars: Path, tmp_path: Path
) -> None:
    """Unpacking takes hours."""
    out = tmp_path / "other"
    out.mkdir()
    (out / "thesis.tex").write_text("")
    with pytest.raises(UserError, match=f"--out {out} holds something else"):
        claim(Run(data=str(tars), base="resnet18", out=out), {"from_scratch": True})
    assert not tars.with_name(tars.name + "-folders").exists()
    claimed = claim(
        Run(data=str(tars), base="resnet18", out=tmp_path / "run"), {"from_scratch": True}
    )
    claimed.lock.release()
    assert claimed.order.data == tars.with_name(tars.name + "-folders").resolve()
    assert (claimed.order.data / "train").is_dir()
