"""A folder of pictures: which files count, under which class, on which side; what is refused and
what is reported."""

import hashlib
import io
import os
import sys
import unicodedata
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from finetune.data import dataset, scanning
from finetune.data.dataset import Data, Picture, median_short_side, write_files_csv
from finetune.data.held_out import split
from finetune.data.scanning import scan
from finetune.recipe.facts import as_fraction
from finetune.sources.class_folders import read_folders
from tests.bad_pictures import BAD, jpeg
from tests.finetune.made_pictures import contents, png, rows, write_classes
from zoo.host import console
from zoo.host.errors import UserError

SPLIT = {"train/cat": 3, "train/dog": 3, "val/cat": 1, "val/dog": 1, "test/cat": 1, "test/dog": 1}


def made_data(pictures: int, *, of_split: str = "val") -> Data:
    """Data of two classes without files; the digests are those of the running number."""
    found = [
        Picture(
            f"{'ab'[i % 2]}/{i}.png",
            i % 2,
            of_split,
            hashlib.sha256(str(i).encode()).hexdigest(),
            8,
            6,
        )
        for i in range(pictures)
    ]
    return Data(Path("data"), ("a", "b"), tuple(found), (), ())


def sides(data: Data) -> dict[str, str]:
    """sha256 -> split."""
    return {p.sha256: p.split for p in data.pictures}


# --- which files, which class


def test_plain_class_folders_are_all_train_and_classes_are_sorted_by_code_point(
    tmp_path: Path,
) -> None:
    tree = read_folders(
        write_classes(tmp_path, {"ant": 2, "Zebra": 1, "äpfel": 1, "10": 1, "9": 1})
    )
    assert tree.classes == ("10", "9", "Zebra", "ant", "äpfel")
    assert tree.files == {
        "train": [
            ("10/000.png", 0),
            ("9/000.png", 1),
            ("Zebra/000.png", 2),
            ("ant/000.png", 3),
            ("ant/001.png", 3),
            ("äpfel/000.png", 4),
        ]
    }


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_split_folders(tmp_path: Path, name: str) -> None:
    tree = read_folders(
        write_classes(tmp_path, {"train/cat": 2, "train/dog": 1, f"{name}/cat": 1, "test/dog": 1})
    )
    assert {key: [path for path, _ in files] for key, files in tree.files.items()} == {
        "train": ["train/cat/000.png", "train/cat/001.png", "train/dog/000.png"],
        "val": [f"{name}/cat/000.png"],
        "test": ["test/dog/000.png"],
    }


def test_labels_go_by_name_where_a_split_lacks_a_class(tmp_path: Path) -> None:
    tree = read_folders(
        write_classes(tmp_path, {"train/a": 1, "train/b": 1, "train/c": 1, "val/c": 1, "test/b": 1})
    )
    assert tree.files["val"] == [("val/c/000.png", 2)]
    assert tree.files["test"] == [("test/b/000.png", 1)]


def test_files_of_nested_folders_belong_to_the_first_level_class(tmp_path: Path) -> None:
    tree = read_folders(write_classes(tmp_path, {"cat/dog/deep": 1, "dog/cat": 1, "dog": 1}))
    assert tree.files["train"] == [
        ("cat/dog/deep/000.png", 0),
        ("dog/000.png", 1),
        ("dog/cat/000.png", 1),
    ]


def test_hidden_files_and_those_of_other_programs_are_passed_over(tmp_path: Path) -> None:
    write_classes(
        tmp_path,
        {
            "cat": 1,
            "dog": 1,
            ".git": 1,
            ".ipynb_checkpoints": 1,
            "__MACOSX/cat": 1,
            "cat/.ipynb_checkpoints": 1,
            "cat/__MACOSX": 1,
        },
    )
    for name in (".DS_Store", "cat/.DS_Store", "cat/._000.png", "dog/Thumbs.db", "dog/desktop.ini"):
        (tmp_path / name).write_bytes(b"\0")
    tree = read_folders(tmp_path)
    assert tree.files == {"train": [("cat/000.png", 0), ("dog/000.png", 1)]}
    assert tree.ignored == 0


def test_other_suffixes_are_counted_in_a_finding_and_any_case_of_a_picture_suffix_is_read(
    tmp_path: Path,
) -> None:
    write_classes(tmp_path, SPLIT)
    for name in ("readme.txt", "train/labels.csv", "train/cat/notes.txt", "test/dog/deep.json"):
        (tmp_path / name).write_bytes(b"text")
    (tmp_path / "train/cat/LOUD.JPG").write_bytes(jpeg())
    (tmp_path / "train/cat/no suffix").write_bytes(png(77))
    data = scan(read_folders(tmp_path))
    assert {"train/cat/LOUD.JPG", "train/cat/no suffix"} < {p.path for p in data.pictures}
    assert len(data.pictures) == sum(SPLIT.values()) + 2
    assert [f for f in data.findings if f.startswith("4 files ignored")] == list(data.findings)


@pytest.mark.parametrize("layout", ["", "train/"])
def test_links_back_up_are_visited_once(tmp_path: Path, layout: str) -> None:
    write_classes(
        tmp_path, {f"{layout}cat": 2, f"{layout}dog": 2, **({"val/dog": 2} if layout else {})}
    )
    before = read_folders(tmp_path)
    for name, target in (
        ("up", tmp_path / layout),
        ("self", tmp_path / layout / "cat"),
        ("root", tmp_path),
    ):
        (tmp_path / layout / "cat" / name).symlink_to(target)
    assert read_folders(tmp_path).files == before.files


def test_a_linked_class_folder_is_read(tmp_path: Path) -> None:
    write_classes(tmp_path / "data", {"cat": 1})
    write_classes(tmp_path / "elsewhere", {"dog": 2})
    (tmp_path / "data" / "dog").symlink_to(tmp_path / "elsewhere" / "dog")
    assert read_folders(tmp_path / "data").files["train"] == [
        ("cat/000.png", 0),
        ("dog/000.png", 1),
        ("dog/001.png", 1),
    ]


# --- what is refused


def test_a_path_that_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"missing: expected a folder .*, but there is nothing .* --data digits"
    ):
        read_folders(tmp_path / "missing")
    (tmp_path / "file.zip").write_bytes(b"PK")
    with pytest.raises(
        UserError, match=r"--data \S+file\.zip: expected a folder .* a file .*--data digits"
    ):
        read_folders(tmp_path / "file.zip")


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({}, "has no class folder: expected at least two folders, each named after a class"),
        ({"cat": 3}, r"has one class folder \(cat\): expected at least two"),
        ({"train": 3}, "train has no class folder: expected at least two"),
        ({"cat": 3, "dog": 0}, "no picture in .*/dog: .*Add pictures, or remove the folder"),
        ({"train/cat": 3, "train/dog": 0, "val/dog": 2}, "no picture in .*/train/dog: "),
        (
            SPLIT | {"val/dgo": 1},
            "/val has the class 'dgo', which train lacks: expected only cat, dog. Rename or remove",
        ),
        (SPLIT | {"test/bird": 1}, "/test has the class 'bird', which train lacks"),
        (
            {"Cat": 1, "cat": 1, "dog": 1},
            "the class names 'Cat' and 'cat' differ only in case .*Merge or rename",
        ),
        (
            {"train/a": 1, "train/b": 1, "val/a": 1, "valid/a": 1},
            "has train, val, valid: keep one folder for each",
        ),
        ({"val/a": 1, "test/b": 1}, "has test, val but no train folder.*cannot be called train"),
        ({"train": 2, "plane": 2}, "train has no class folder.*A class cannot be called train"),
        ({"test/a": 1, "test/b": 1}, "has test but no train folder"),
    ],
)
def test_bad_layouts_are_named(tmp_path: Path, counts: dict[str, int], message: str) -> None:
    write_classes(tmp_path, counts)
    with pytest.raises(UserError, match=message) as caught:
        read_folders(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_class_names_that_differ_in_unicode_form_only(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    write_classes(tmp_path, {composed: 1, decomposed: 1})
    if len(list(tmp_path.iterdir())) == 1:
        pytest.skip("this file system takes both forms for one name")
    with pytest.raises(UserError, match="differ only in case or Unicode form"):
        read_folders(tmp_path)


# --- pictures that cannot be used


def test_an_unreadable_picture_is_left_out_by_name_and_not_replaced(tmp_path: Path) -> None:
    write_classes(tmp_path, {"cat": 50, "dog": 50})
    (tmp_path / "cat" / "025.png").write_bytes(BAD["half.jpg"][0]())
    data = scan(read_folders(tmp_path))
    [(path, reason)] = data.left_out
    assert path == "cat/025.png"
    assert "truncated" in reason
    assert {p.path for p in data.pictures} == {
        f"{c}/{i:03}.png" for c in ("cat", "dog") for i in range(50)
    } - {path}
    assert data.findings == (f"1 of 100 pictures left out: cat/025.png ({reason})",)


def test_more_than_one_percent_stops_with_names_and_reasons(tmp_path: Path) -> None:
    write_classes(tmp_path, {"cat": 60, "dog": 60})
    (tmp_path / "cat" / "html.jpg").write_bytes(BAD["html.jpg"][0]())
    (tmp_path / "dog" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(tmp_path / "dog" / "pipe.png")
    with pytest.raises(
        UserError, match=r"^3 of 123 .*expected at most 1%.*--bad-limit 0\.03"
    ) as caught:
        scan(read_folders(tmp_path))
    lines = str(caught.value).splitlines()[1:]
    assert [line.split(":")[0].strip() for line in lines] == [
        "cat/html.jpg",
        "dog/gone.png",
        "dog/pipe.png",
    ]
    assert "HTML" in lines[0]
    assert "No such file" in lines[1]
    assert "not a regular file" in lines[2]


def test_the_same_bytes_under_two_classes_are_left_out(tmp_path: Path) -> None:
    write_classes(tmp_path, {"cat": 100, "dog": 100})
    (tmp_path / "dog" / "twin.png").write_bytes((tmp_path / "cat" / "007.png").read_bytes())
    data = scan(read_folders(tmp_path))
    assert dict(data.left_out) == dict.fromkeys(
        ["cat/007.png", "dog/twin.png"], "the same bytes stand under cat, dog"
    )
    assert len(data.pictures) == 199
    assert not {p.path for p in data.pictures} & {"cat/007.png", "dog/twin.png"}


def test_bytes_in_two_splits_stay_in_the_later_one(tmp_path: Path) -> None:
    write_classes(tmp_path, SPLIT)
    for original, copy in (
        ("test/cat/000.png", "train/cat/leak.png"),
        ("val/dog/000.png", "train/dog/leak.png"),
        ("test/dog/000.png", "val/dog/leak.png"),
    ):
        (tmp_path / copy).write_bytes((tmp_path / original).read_bytes())
    data = scan(read_folders(tmp_path))
    assert {p.path for p in data.pictures} == {
        f"{folder}/{i:03}.png" for folder, n in SPLIT.items() for i in range(n)
    }
    assert data.findings == (
        "2 pictures of train left out of it: the same bytes stand in val or test",
        "1 pictures of val left out of it: the same bytes stand in test",
    )


def test_a_class_that_loses_all_its_training_pictures_to_test(tmp_path: Path) -> None:
    write_classes(tmp_path, {"train/cat": 2, "train/dog": 0, "test/cat": 1, "test/dog": 1})
    (tmp_path / "train/dog/leak.png").write_bytes((tmp_path / "test/dog/000.png").read_bytes())
    with pytest.raises(UserError, match=r"class 'dog' .*: 1 pictures of train .*Add pictures"):
        scan(read_folders(tmp_path))


def test_duplicates_within_a_split_are_kept_and_counted(tmp_path: Path) -> None:
    write_classes(tmp_path, {"cat": 3, "dog": 3})
    for name in ("a.png", "b.png"):
        (tmp_path / "cat" / name).write_bytes((tmp_path / "cat" / "000.png").read_bytes())
    data = scan(read_folders(tmp_path))
    assert len(data.pictures) == 8
    assert data.findings == ("2 exact duplicates within a split",)


def test_a_finding_with_a_name_that_is_not_utf8_can_be_printed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(
        sys, "stdout", io.TextIOWrapper(written, encoding="utf-8", write_through=True)
    )
    console.warn("left out: cat/\udcff[b].png")
    assert written.getvalue() == b"warning: left out: cat/\\udcff[b].png\n"


def test_scanning_leaves_the_data_as_it_was_and_reads_digest_and_size(tmp_path: Path) -> None:
    write_classes(tmp_path, SPLIT, size=(9, 5))
    before = contents(tmp_path)
    data = split(scan(read_folders(tmp_path)), "0.2")
    assert contents(tmp_path) == before
    assert [(p.sha256, p.width, p.height) for p in data.pictures] == [
        (hashlib.sha256(before[p.path]).hexdigest(), 9, 5) for p in data.pictures
    ]


def test_several_processes_give_the_same_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_classes(tmp_path, {"cat": 60, "dog": 60})
    (tmp_path / "dog" / "003.png").write_bytes(b"")
    tree = read_folders(tmp_path)
    one = scan(tree)
    assert one.left_out == (("dog/003.png", "the file is empty"),)
    started: list[int] = []
    pool = ProcessPoolExecutor

    def counting_pool(processes: int, **how: Any) -> ProcessPoolExecutor:
        started.append(processes)
        return pool(processes, **how)

    monkeypatch.setattr(scanning, "PROCESSES_FROM", 10)
    monkeypatch.setattr(scanning, "ProcessPoolExecutor", counting_pool)
    assert scan(tree, processes=2) == one
    assert started == [2]


# --- val


def test_split_cuts_the_fraction_of_each_class_by_sha256(tmp_path: Path) -> None:
    write_classes(tmp_path, {"train/a": 40, "train/b": 10, "test/a": 5})
    scanned = scan(read_folders(tmp_path))
    data = split(scanned, "0.3")
    assert data.counts() == {
        "train": {"a": 28, "b": 7},
        "val": {"a": 12, "b": 3},
        "test": {"a": 5, "b": 0},
    }
    for label in (0, 1):
        of_class = [p for p in data.pictures if p.label == label and p.split != "test"]
        assert max(p.sha256 for p in of_class if p.split == "val") < min(
            p.sha256 for p in of_class if p.split == "train"
        )
    assert [p._replace(split="") for p in data.pictures] == [
        p._replace(split="") for p in scanned.pictures
    ]
    assert data.val_rule == "0.3 of train, per class, by sha256"


def test_the_same_bytes_land_on_the_same_side_under_any_name_and_order(tmp_path: Path) -> None:
    write_classes(tmp_path / "one", {"a": 12, "b": 9})
    for i, path in enumerate(sorted((tmp_path / "one").rglob("*.png"), reverse=True)):
        copy = tmp_path / "two" / path.parent.name / f"IMG {i * 7919 % 1000}.PNG"
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    one, two = (split(scan(read_folders(tmp_path / name)), "0.25") for name in ("one", "two"))
    assert sides(one) == sides(two)
    assert Counter(sides(one).values()) == {"train": 16, "val": 5}


def test_identical_bytes_stay_together(tmp_path: Path) -> None:
    write_classes(tmp_path, {"a": 10, "b": 10})
    for path in list(tmp_path.rglob("*.png")):
        for copy in range(2):
            path.with_stem(f"{path.stem} copy {copy}").write_bytes(path.read_bytes())
    data = split(scan(read_folders(tmp_path)), "0.5")
    of_bytes = Counter((p.sha256, p.split) for p in data.pictures)
    assert set(of_bytes.values()) == {3}
    assert data.counts() == {"train": {"a": 15, "b": 15}, "val": {"a": 15, "b": 15}}


def test_small_classes(tmp_path: Path) -> None:
    write_classes(tmp_path, {"one": 1, "same": 1, "two": 2, "three": 3})
    (tmp_path / "same" / "copy.png").write_bytes((tmp_path / "same" / "000.png").read_bytes())
    data = split(scan(read_folders(tmp_path)), "0.9")
    assert data.counts() == {
        "train": {"one": 1, "same": 2, "three": 1, "two": 1},
        "val": {"one": 0, "same": 0, "three": 2, "two": 1},
    }
    assert "classes with a single picture are not in val: one, same" in data.findings
    little = split(scan(read_folders(tmp_path)), "0.01")
    assert little.counts()["val"] == {"one": 0, "same": 0, "three": 1, "two": 1}


def test_nothing_to_hold_out(tmp_path: Path) -> None:
    write_classes(tmp_path, {"cat": 1, "dog": 1})
    with pytest.raises(UserError, match=r"held out .*: add pictures"):
        split(scan(read_folders(tmp_path)), "0.2")


def test_a_val_folder_of_the_data_is_kept_as_it_is(tmp_path: Path) -> None:
    scanned = scan(read_folders(write_classes(tmp_path, SPLIT)))
    data = split(scanned, "0.9")
    assert data == scanned
    assert data.val_rule == "the data has a val folder"


def test_val_from_another_folder(tmp_path: Path) -> None:
    root = write_classes(tmp_path / "data", {"cat": 2, "dog": 2})
    val = write_classes(tmp_path / "held out", {"dog": 2}, first=100)
    data = split(scan(read_folders(root, val=val)), "0.2")
    assert [p.path for p in data.of("val")] == [
        "../held out/dog/000.png",
        "../held out/dog/001.png",
    ]
    assert {p.label for p in data.of("val")} == {1}
    assert all((data.root / p.path).is_file() for p in data.pictures)
    assert len(data.of("train")) == 4
    write_classes(val, {"cow": 1}, first=200)
    with pytest.raises(UserError, match=r"held out .*'cow', .*expected only .*Rename or remove"):
        read_folders(root, val=val)


def test_a_val_path_that_cannot_be_used(tmp_path: Path) -> None:
    plain = write_classes(tmp_path / "plain", {"cat": 1, "dog": 1})
    with pytest.raises(
        UserError, match=r"--val .*nowhere: expected a fraction .*, or an existing folder"
    ):
        read_folders(plain, val=tmp_path / "nowhere")
    both = write_classes(tmp_path / "both", SPLIT)
    with pytest.raises(UserError, match=r"--val .*plain: .*both .* val; remove one"):
        read_folders(both, val=plain)


def test_as_fraction() -> None:
    assert as_fraction("0.25") == 0.25
    assert as_fraction("1e-1") == 0.1
    assert as_fraction("more/pictures") is None
    for text in ("0", "1", "1.5", "-0.2", "nan", "inf"):
        with pytest.raises(UserError, match=f"--val {text}: expected a fraction between 0 and 1"):
            as_fraction(text)


# --- select and calibrate, digest, files.csv


def test_val_is_halved_only_if_both_halves_are_large_enough(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = made_data(500)
    select, calibrate = data.of("select"), data.of("calibrate")
    assert min(len(select), len(calibrate)) >= 200
    assert sorted(select + calibrate) == sorted(data.of("val"))
    assert not set(select) & set(calibrate)
    small = made_data(399)
    assert small.of("select") == small.of("calibrate") == small.of("val")
    smaller_half = min(len(select), len(calibrate))
    monkeypatch.setattr(dataset, "HALF_AT_LEAST", smaller_half)
    assert data.of("select") == select
    monkeypatch.setattr(dataset, "HALF_AT_LEAST", smaller_half + 1)
    assert data.of("select") == data.of("calibrate") == data.of("val")


def test_halves_do_not_depend_on_names() -> None:
    data = made_data(450)
    renamed = replace(
        data, pictures=tuple(p._replace(path=p.path[::-1]) for p in reversed(data.pictures))
    )
    assert {p.sha256 for p in data.of("select")} == {p.sha256 for p in renamed.of("select")}


def test_digest_changes_with_what_a_run_sees_and_with_nothing_else(tmp_path: Path) -> None:
    root = write_classes(tmp_path / "a", SPLIT)
    digest = scan(read_folders(root)).digest()
    for name, content in reversed(contents(root).items()):
        if content:
            (tmp_path / "b" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "b" / name).write_bytes(content)
    (tmp_path / "b" / "notes.txt").write_text("not a picture")
    assert scan(read_folders(tmp_path / "b")).digest() == digest
    data = made_data(4)
    assert (
        len(
            {
                replace(data, classes=names).digest()
                for names in (("a", "b"), ("a", "c"), ("b", "a"))
            }
        )
        == 3
    )
    seen = {digest}
    os.replace(root / "train/cat/002.png", root / "train/dog/new.png")
    seen.add(scan(read_folders(root)).digest())
    os.replace(root / "train/dog/new.png", root / "val/dog/new.png")
    seen.add(scan(read_folders(root)).digest())
    (root / "val/dog/new.png").write_bytes(png(12345))
    seen.add(scan(read_folders(root)).digest())
    os.replace(root / "val/dog/new.png", root / "val/dog/newer.png")
    seen.add(scan(read_folders(root)).digest())
    assert len(seen) == 5


def test_files_csv_lists_every_picture(tmp_path: Path) -> None:
    names = [",", 'say "hi"', "two\nlines", "ÿ"]
    root = write_classes(tmp_path / "data", {name: 4 for name in names})
    (root / "," / os.fsdecode(b"\xfe\n,.png")).write_bytes(png(999))
    data = split(scan(read_folders(root)), "0.25")
    write_files_csv(tmp_path / "files.csv", data)
    assert rows(tmp_path / "files.csv") == [
        {
            "path": p.path,
            "label": data.classes[p.label],
            "split": p.split,
            "sha256": hashlib.sha256((root / p.path).read_bytes()).hexdigest(),
            "width": str(p.width),
            "height": str(p.height),
        }
        for p in data.pictures
    ]
    assert set(data.classes) == set(names)
    assert (tmp_path / "files.csv").read_bytes().startswith(b"path,label,split,sha256,width,height")


def test_median_short_side(tmp_path: Path) -> None:
    for i, size in enumerate(((30, 10), (12, 40), (50, 50))):
        write_classes(tmp_path, {"ab"[i % 2] + f"/{i}": 1}, size=size)
    data = scan(read_folders(tmp_path))
    assert median_short_side(data.pictures) == 12
    assert median_short_side([p for p in data.pictures if p.label == 0]) == 30


def test_split_folders_in_another_case_count_and_folders_beside_them_are_named(
    tmp_path: Path,
) -> None:
    write_classes(tmp_path, {"Train/a": 3, "Train/b": 3, "Val/a": 1, "Val/b": 1, "extra/c": 1})
    data = scan(read_folders(tmp_path))
    assert {p.split for p in data.pictures} == {"train", "val"}
    assert [
        finding
        for finding in data.findings
        if "beside train, val and test" in finding and "extra" in finding
    ]


def test_a_validation_folder_among_the_classes_is_refused(tmp_path: Path) -> None:
    write_classes(tmp_path, {"a": 2, "b": 2, "held/a": 1})
    with pytest.raises(UserError, match="held stands among the class folders"):
        read_folders(tmp_path, val=tmp_path / "held")


@pytest.mark.parametrize("split_name", ["val", "test"])
def test_an_empty_split_folder_is_an_error(tmp_path: Path, split_name: str) -> None:
    write_classes(tmp_path, {"train/a": 2, "train/b": 2})
    (tmp_path / split_name).mkdir()
    with pytest.raises(
        UserError, match=f"{split_name}: expected pictures in class folders, seen none"
    ):
        read_folders(tmp_path)


def test_a_validation_folder_that_test_repeats_is_an_error(tmp_path: Path) -> None:
    write_classes(tmp_path, {"train/a": 2, "train/b": 2})
    write_classes(tmp_path, {"test/a": 1, "test/b": 1}, first=50)
    write_classes(tmp_path / "held", {"a": 1, "b": 1}, first=50)
    data = scan(read_folders(tmp_path, val=tmp_path / "held"))
    with pytest.raises(UserError, match="validation folder has no usable picture"):
        split(data, str(tmp_path / "held"))


def test_dark_pictures_of_16_bits_are_a_finding(tmp_path: Path) -> None:
    """Microscopes write 12 bits into samples of 16: decoded as what they are called, they are
    nearly black."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(3):
            values = (
                np.random.default_rng(number + 3 * (name == "b"))
                .integers(0, 4096, (12, 12))
                .astype(np.uint16)
            )
            Image.fromarray(values).save(tmp_path / name / f"{number}.png")
    [finding] = scan(read_folders(tmp_path)).findings
    assert finding.startswith(
        "6 of 6 pictures of 16 bits are nearly black as decoded: their values end at 4,095"
    )
