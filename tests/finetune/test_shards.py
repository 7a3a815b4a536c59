"""Shards of webdataset, written as that library writes them."""

import io
import json
import tarfile
from pathlib import Path

import pytest

from finetune.run_folder.named_folders import readable_folder
from finetune.sources.class_folders import read_folders
from finetune.stored import rows, shards
from tests.finetune.made_pictures import contents, png
from zoo.host.errors import UserError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOOTUNE_HOME", str(tmp_path / "home"))


def write_shard(path: Path, files: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def samples(first: int, count: int, ending: str = "cls") -> dict[str, bytes]:
    files = {}
    for i in range(first, first + count):
        label = str(i % 2).encode()
        if ending == "json":
            label = json.dumps({"label": i % 2, "width": 8}).encode()
        files |= {f"{i:06}.png": png(i), f"{i:06}.{ending}": label}
    return files


def pictures(folder: Path) -> dict[str, bytes]:
    return {name: content for name, content in contents(folder).items() if content}


@pytest.mark.parametrize("ending", ["cls", "json", "txt"])
def test_folder_pattern_and_names_of_classes(ending: str, tmp_path: Path) -> None:
    for shard in range(3):
        write_shard(tmp_path / f"shard-{shard:04}.tar", samples(4 * shard, 4, ending))
    expected = {f"{i % 2}/{i:08}.png": png(i) for i in range(12)}
    pattern = str(tmp_path / "shard-{0000..0002}.tar")
    assert pictures(readable_folder(pattern)) == expected
    assert pictures(readable_folder(str(tmp_path))) == expected
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    folder = readable_folder(pattern)
    assert read_folders(folder).classes == ("cat", "dog")
    # one shard alone, which is a tar as well
    assert len(pictures(readable_folder(str(tmp_path / "shard-0001.tar")))) == 4


def test_shards_are_as_the_library_writes_and_splits_them(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    for split, first in (("train", 0), ("val", 10)):
        with webdataset.TarWriter(str(tmp_path / f"pets-{split}-0000.tar")) as writer:
            for i in range(4):
                writer.write({"__key__": f"{i:04}", "png": png(first + i), "cls": i % 2})
    tree = read_folders(readable_folder(str(tmp_path)))
    assert {split: len(files) for split, files in tree.files.items()} == {"train": 4, "val": 4}


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"a.png": png(0), "a.cls": b"0", "b.png": png(1)}, "has no label"),
        ({"a.png": png(0), "a.cls": b"0", "b.cls": b"1"}, "one picture a sample, seen 0"),
        ({"a.png": png(0), "a.jpg": png(1), "a.cls": b"0"}, "one picture a sample, seen 2"),
        ({"a.png": png(0), "a.cls": b"../../x"}, "a name that a folder can have"),
        ({"a.png": png(0), "a.json": b"[1"}, "expected a label in .json"),
        ({"a.png": png(0), "a.cls": bytes(2 << 20)}, "has more than 1,048,576 bytes"),
        (
            {
                f"{i}.{end}": png(i) if end == "png" else b"%d" % i
                for i in range(30)
                for end in ("png", "txt")
            },
            "as captions are",
        ),
    ],
)
def test_other_samples_are_refused(files: dict[str, bytes], words: str, tmp_path: Path) -> None:
    write_shard(tmp_path / "shards" / "0.tar", files)
    with pytest.raises(UserError, match=words):
        rows.prepare(str(tmp_path / "shards"))
    assert not list((tmp_path / "home").rglob("*.tmp"))


def test_a_link_in_a_shard_is_refused(tmp_path: Path) -> None:
    write_shard(tmp_path / "0.tar", samples(0, 2))
    with tarfile.open(tmp_path / "0.tar", "a") as tar:
        info = tarfile.TarInfo("z.png")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(info)
    with pytest.raises(UserError, match="not a regular file"):
        rows.prepare(str(tmp_path / "0.tar"))


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    write_shard(tmp_path / "0.tar", samples(0, 2))
    with pytest.raises(UserError, match=r"1 missing, such as .*1\.tar"):
        readable_folder(str(tmp_path / "{0..1}.tar"))


def test_a_tar_of_class_folders_is_none(tmp_path: Path) -> None:
    write_shard(tmp_path / "0.tar", {"cat/1.png": png(0), "cat/1.json": b"{}", "dog/1.png": png(1)})
    assert not shards.is_shards(str(tmp_path / "0.tar"))
    assert read_folders(readable_folder(str(tmp_path / "0.tar"))).classes == ("cat", "dog")
