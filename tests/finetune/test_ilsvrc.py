"""The tars of ILSVRC2012, in miniature: unpacked without hands, stopped and gone on, and never trusted."""

import io
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest

from finetune import ilsvrc
from finetune.folder import claim
from finetune.ilsvrc import DEVKIT, META, TRAIN, TRUTH, VAL, prepared
from finetune.run import Run
from finetune.tree import read_tree
from tests.finetune.made_ilsvrc import WNIDS, jpeg, meta_mat, truth, write_ilsvrc, write_tar
from tests.finetune.made_pictures import contents
from zoo import rundir
from zoo.errors import UserError


@pytest.fixture
def tars(tmp_path: Path) -> Path:
    return write_ilsvrc(tmp_path / "ilsvrc")


def test_classes_and_ground_truth_become_folders(tars: Path) -> None:
    before = contents(tars)
    target = prepared(tars)
    assert target == tars.with_name("ilsvrc-folders")
    assert contents(tars) == before
    expected = {f"train/{wnid}/{wnid}_{i}.JPEG": jpeg(label, i) for label, wnid in enumerate(WNIDS, 1)
                for i in range(6)}
    expected |= {f"val/{WNIDS[label - 1]}/ILSVRC2012_val_{i:08}.JPEG": jpeg(label, 1000 + i)
                 for i, label in enumerate(truth(3), 1)}
    assert {name: content for name, content in contents(target).items() if name.endswith(".JPEG")} == expected
    assert rundir.read_json(target / "PREPARED.json")["pictures"] == len(expected) == 54
    tree = read_tree(target)
    assert tree.classes == tuple(sorted(WNIDS))
    assert {split: len(files) for split, files in tree.files.items()} == {"train": 36, "val": 18}
    assert not [name for name in contents(target) if ilsvrc.UNFINISHED in name]


def test_a_run_takes_the_folder_of_the_tars(tars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert all(content in (jpeg(label, i) for label in range(1, 7) for i in (*range(6), *range(1001, 1019)))
               for name, content in contents(target).items() if name.endswith(".JPEG"))
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
    path.write_bytes(path.read_bytes()[:int(share * path.stat().st_size)])


HOSTILE: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "no val": (lambda tars: (tars / VAL).unlink(), ["lacks ILSVRC2012_img_val.tar"]),
    "link": (lambda tars: with_member(tars / VAL, link("ILSVRC2012_val_00000009.JPEG")), ["not a regular file"]),
    "hard link": (lambda tars: with_member(tars / VAL, link("ILSVRC2012_val_00000009.JPEG", tarfile.LNKTYPE)),
                  ["not a regular file"]),
    "device": (lambda tars: with_member(tars / TRAIN, link("n01440764.tar", tarfile.CHRTYPE)), ["not a regular file"]),
    "path": (lambda tars: with_member(tars / VAL, tarfile.TarInfo("../ILSVRC2012_val_00000001.JPEG"), b"x"),
             ["'../ILSVRC2012_val_00000001.JPEG'", "expected names like"]),
    "absolute": (lambda tars: with_member(tars / TRAIN, tarfile.TarInfo("/n01440764.tar"), b"x"),
                 ["'/n01440764.tar'"]),
    "path inside": (lambda tars: write_tar(tars / TRAIN, {"n01440764.tar": write_tar(None, {"../../x.JPEG": b"x"})}),
                    ["n01440764.tar", "'../../x.JPEG'"]),
    "other class": (lambda tars: with_member(tars / TRAIN, tarfile.TarInfo("n09999999.tar"), b"x"),
                    ["n09999999", "devkit does not list"]),
    "not a tar": (lambda tars: write_tar(tars / TRAIN, {"n01440764.tar": b"x" * 2000}), ["cannot be read"]),
    "few": (lambda tars: write_tar(tars / TRAIN, {"n01440764.tar": write_tar(None, {"n01440764_1.JPEG": b"x"})}),
            ["holds 1 pictures, expected 6"]),
    "cut train": (lambda tars: cut(tars / TRAIN, 0.5), ["img_train.tar"]),
    "cut val": (lambda tars: cut(tars / VAL, 0.6), ["img_val.tar"]),
    "cut devkit": (lambda tars: cut(tars / DEVKIT, 0.5), ["devkit_t12.tar.gz", "cannot be read"]),
    "too many": (lambda tars: with_member(tars / VAL, tarfile.TarInfo("ILSVRC2012_val_00000019.JPEG"), b"x"),
                 ["the ground truth has 18 lines"]),
    "no truth": (lambda tars: write_tar(tars / DEVKIT, {META: meta_mat(6)}, mode="w:gz"), [f"lacks {TRUTH}"]),
    "unknown class": (lambda tars: write_tar(tars / DEVKIT, {META: meta_mat(6), TRUTH: b"1\n7\n"}, mode="w:gz"),
                      ["names class 7"]),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_is_not_the_original_is_refused_and_writes_nothing_outside(tars: Path, case: str) -> None:
    break_it, words = HOSTILE[case]
    break_it(tars)
    with pytest.raises(UserError) as caught:
        prepared(tars)
    assert not [word for word in words if word not in str(caught.value)], caught.value
    target = tars.with_name("ilsvrc-folders")
    assert not (target / "PREPARED.json").exists()
    assert {path.name for path in tars.parent.iterdir()} <= {"ilsvrc", "ilsvrc-folders"}
    written = [path.relative_to(target).as_posix() for path in target.rglob("*.JPEG")]
    assert not [name for name in written if name.startswith("x") or "/x" in name]
    assert all(path.is_file() and not path.is_symlink() for path in target.rglob("*.JPEG"))


def test_too_little_space_is_told_before_anything_is_unpacked(tars: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=r"needs 0 GB more, and 0 GB are free"):
        prepared(tars)
    assert not list(tars.with_name("ilsvrc-folders").rglob("*.JPEG"))
