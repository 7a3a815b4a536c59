"""A table of labels as a source: the same pictures as in class folders, and what is refused."""

import datetime
import json
import math
import os
import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from finetune.data import held_out
from finetune.data.dataset import Data
from finetune.data.scanning import scan
from finetune.recipe.run import Run
from finetune.recipe.source_options import SourceOptions
from finetune.run_folder.order import Order
from finetune.sources.class_folders import read_folders
from finetune.sources.data_source import DataSource
from finetune.sources.label_table import read_label_table
from tests.finetune.made_pictures import png, write_classes
from zoo.host.errors import UserError

Row = dict[str, str]
NO_OPTION = SourceOptions()
CELLS_WITH_NAN = (("a", "1.5"), ("b", "2.5"), ("c", "NaN"))
"""Name and label as JSON."""


def write_csv(path: Path, rows: Sequence[Row], *, delimiter: str = ",", mark: str = "") -> None:
    lines = [delimiter.join(rows[0])] + [delimiter.join(row.values()) for row in rows]
    path.write_text(mark + "\r\n".join(lines) + "\r\n", encoding="utf-8")


def write_tsv(path: Path, rows: Sequence[Row]) -> None:
    write_csv(path, rows, delimiter="\t")


def write_json_lines(path: Path, rows: Sequence[Row]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_parquet(path: Path, rows: Sequence[Row]) -> None:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path)


WRITERS: dict[str, Callable[[Path, Sequence[Row]], None]] = {
    "labels.csv": write_csv,
    "excel.csv": lambda path, rows: write_csv(path, rows, delimiter=";", mark="\ufeff"),
    "labels.tsv": write_tsv,
    "labels.jsonl": write_json_lines,
    "labels.PARQUET": write_parquet,
}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three classes of ten pictures each, in splits."""
    counts = {f"{split}/{name}": 5 for split in ("train", "test") for name in ("cat", "dog", "01")}
    return write_classes(tmp_path / "pictures", counts)


def rows_of(folder: Path) -> list[Row]:
    rows = []
    for path in sorted(folder.rglob("*.png")):
        split, label, _ = path.relative_to(folder).parts
        rows.append({"file": path.relative_to(folder).as_posix(), "class": label, "split": split})
    return rows


def refusal(table: Path, options: SourceOptions = NO_OPTION) -> str:
    with pytest.raises(UserError) as caught:
        read_label_table(table, options)
    return str(caught.value)


@pytest.mark.parametrize("name", WRITERS)
def test_a_table_gives_the_same_data_as_class_folders(pictures: Path, name: str) -> None:
    rows = rows_of(pictures)
    random.Random(0).shuffle(rows)
    WRITERS[name](pictures / name, rows)
    of_folders = scan(read_folders(pictures))
    of_table = scan(DataSource(pictures / name).listing())
    # the order of the pictures decides the batches, so equal data trains equal weights
    assert of_table.pictures == of_folders.pictures
    assert of_table.classes == of_folders.classes == ("01", "cat", "dog")
    assert of_table.digest() == of_folders.digest()


@pytest.mark.parametrize("name", ["labels.csv", "labels.jsonl", "labels.parquet"])
def test_labels_are_text(tmp_path: Path, name: str) -> None:
    labels = ["1", "01", "1.0", "true"]
    if name == "labels.jsonl":
        texts = ['"1"', '"01"', "1.0", "true"]
        lines = [f'{{"path": "{i}.png", "label": {text}}}\n' for i, text in enumerate(texts)]
        (tmp_path / name).write_text("".join(lines))
    else:
        rows = [{"path": f"{i}.png", "label": label} for i, label in enumerate(labels)]
        WRITERS["labels.csv" if name.endswith("csv") else "labels.PARQUET"](tmp_path / name, rows)
    (tmp_path / "0.png").write_bytes(png(1))
    assert read_label_table(tmp_path / name, NO_OPTION).classes == tuple(sorted(labels))


def test_numbers_of_parquet_are_classes_by_their_digits(tmp_path: Path) -> None:
    content = {"image_path": ["0.png", "1.png"], "target": [10, 9], "embedding": [[1.0], [2.0]]}
    pyarrow.parquet.write_table(pyarrow.table(content), tmp_path / "t.parquet")
    (tmp_path / "0.png").write_bytes(png(1))
    assert read_label_table(tmp_path / "t.parquet", NO_OPTION).classes == ("10", "9")


def test_columns_that_no_rule_finds_are_named(pictures: Path) -> None:
    rows = [
        {"photo": row["file"], "species": row["class"], "part": row["split"]}
        for row in rows_of(pictures)
    ]
    table = pictures / "t.csv"
    write_csv(table, rows)
    assert "--columns path=COLUMN" in refusal(table)
    listing = read_label_table(table, SourceOptions("path=photo, label=species,split=part"))
    assert {split: len(files) for split, files in listing.files.items()} == {
        "train": 15,
        "test": 15,
    }
    without = read_label_table(table, SourceOptions("path=photo,label=species"))
    assert {split: len(files) for split, files in without.files.items()} == {"train": 30}


def test_what_may_be_meant_in_two_ways_is_asked(pictures: Path) -> None:
    rows = [row | {"label": "x"} for row in rows_of(pictures)]
    write_csv(pictures / "t.csv", rows)
    assert "class, label could each be it" in refusal(pictures / "t.csv")


def test_what_the_paths_are_relative_to(pictures: Path, tmp_path: Path) -> None:
    table = tmp_path / "elsewhere" / "t.csv"
    table.parent.mkdir()
    write_csv(table, rows_of(pictures))
    assert "none of its first 20 pictures is in" in refusal(table)
    expected = scan(read_folders(pictures)).pictures
    assert scan(read_label_table(table, SourceOptions(root=str(pictures)))).pictures == expected
    # whole paths, and the separator of Windows
    write_csv(table, [row | {"file": str(pictures / row["file"])} for row in rows_of(pictures)])
    found = scan(read_label_table(table, NO_OPTION))
    assert [p.sha256 for p in found.pictures] == [p.sha256 for p in expected]
    assert found.pictures[0].path.startswith("../pictures/")
    rows = [row | {"file": row["file"].replace("/", "\\")} for row in rows_of(pictures)]
    write_csv(pictures / "t.csv", rows)
    assert scan(DataSource(pictures / "t.csv").listing()).pictures == expected


def test_pictures_beside_the_table_are_proposed(pictures: Path) -> None:
    write_csv(pictures.parent / "t.csv", rows_of(pictures))
    assert f"add --root {pictures}" in refusal(pictures.parent / "t.csv")


def test_a_table_without_suffixes_is_told_so(pictures: Path) -> None:
    rows = [row | {"file": row["file"].removesuffix(".png")} for row in rows_of(pictures)]
    write_csv(pictures / "t.csv", rows)
    assert "The table omits the suffix (.png)" in refusal(pictures / "t.csv")


def test_every_row_is_used_or_named(pictures: Path) -> None:
    rows = rows_of(pictures)
    odd = [
        {"file": "", "class": "cat", "split": ""},
        {"file": "train/cat/000.png", "class": "cat", "split": "train"},
        {"file": "new.png", "class": " ", "split": ""},
        {"file": "gone.png", "class": "cat", "split": ""},
    ]
    write_csv(pictures / "t.csv", rows + odd)
    data = scan(DataSource(pictures / "t.csv").listing(), bad_limit=0.5)
    assert len(data.pictures) == len(rows)
    assert Counter(entry.kind for entry in data.unused) == {
        "unlabelled": 2,
        "repeated": 1,
        "unreadable": 1,
    }
    assert {entry.path for entry in data.unused} == {
        "row 31",
        "train/cat/000.png",
        "new.png",
        "gone.png",
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path,label\na.png,cat\nb.png\n", "line 3: expected 2 cells"),
        ("path,label\na.png,cat\n", "expected at least two classes"),
        ("path,label\n", "at least two classes"),
        ("", "a head line that names its columns"),
        ("a.png,cat\nb.png,dog\n", "--columns path=COLUMN"),
        ("path,label\na.png,cat\nb.png,Cat\n", "differ only in"),
        ("path,label\na.png,cat\na.png,dog\n", "A picture has one label"),
        ("path,label,split\na.png,cat,train\nb.png,dog,2\n", "seen '2'"),
        ("path,label,split\na.png,cat,train\nb.png,dog,test\n", "no training picture of dog"),
        ("path,label\nhttps://x.org/a.png,cat\nb.png,dog\n", "Download the pictures first"),
        ("path,label\na.png,ca\x07t\nb.png,dog\n", "can be shown"),
        ("path,label\na\0.png,cat\n", "zero byte"),
        ("path,path,label\na.png,b.png,cat\n", "different names of columns"),
        ('path,label\n"a.png,cat\n', "line 2"),
        ("path,label\n../..,cat\nb.png,dog\n", "expected the path of a picture"),
        ("path,label,group\na.png,cat,1\na.png,cat,2\n", "A picture has one group"),
        (f"path,label\na.png,cat\nb.png,{'d' * 256}\n", "at most 255 bytes"),
    ],
)
def test_a_table_that_says_something_else_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "a.png").write_bytes(png(1))
    (tmp_path / "t.csv").write_text(text)
    assert words in refusal(tmp_path / "t.csv")


def test_a_text_that_is_not_utf_8_is_named_by_its_line(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"path,label\na.png,cat\nb.png,Vogel-K\xe4fig\n")
    assert "UTF-8" in refusal(tmp_path / "t.csv")


@pytest.mark.parametrize(
    "line", ["[1]", "{", '{"path": "a", "label": ["cat", "dog"]}', '{"path": "a", "tag": 1}']
)
def test_json_lines_of_another_form_are_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "t.jsonl").write_text('{"path": "a.png", "label": "cat"}\n' + line + "\n")
    assert "line 2" in refusal(tmp_path / "t.jsonl") or "row 2" in refusal(tmp_path / "t.jsonl")


def test_nan_is_a_missing_value(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(1))
    lines = [f'{{"path": "{name}.png", "label": {label}}}\n' for name, label in CELLS_WITH_NAN]
    (tmp_path / "t.jsonl").write_text("".join(lines))
    content = {"path": ["a.png", "b.png", "c.png"], "label": [1.5, 2.5, math.nan]}
    pyarrow.parquet.write_table(pyarrow.table(content), tmp_path / "t.parquet")
    for name in ("t.jsonl", "t.parquet"):
        listing = read_label_table(tmp_path / name, NO_OPTION)
        assert listing.classes == ("1.5", "2.5")
        assert [entry.path for entry in listing.unused] == ["c.png"]


@pytest.mark.parametrize("role", ["group", "split", "label"])
def test_a_column_that_parquet_holds_otherwise_is_not_taken_for_empty(
    tmp_path: Path, role: str
) -> None:
    (tmp_path / "a.png").write_bytes(png(1))
    content: dict[str, list[Any]] = {"path": ["a.png", "b.png"], "label": ["cat", "dog"]}
    content[role] = [datetime.date(2020, 1, 1)] * 2
    pyarrow.parquet.write_table(pyarrow.table(content), tmp_path / "t.parquet")
    assert "holds date32[day]" in refusal(tmp_path / "t.parquet")


def test_half_a_character_is_refused(tmp_path: Path) -> None:
    text = '{"path": "a.png", "label": "cat", "group": "\\ud800"}\n'
    (tmp_path / "t.jsonl").write_text(text)
    assert "half a character" in refusal(tmp_path / "t.jsonl")


def test_absolute_paths_count_from_the_folder_that_a_link_leads_to(
    pictures: Path, tmp_path: Path
) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "short").symlink_to(tmp_path / "deep" / "er")
    rows = [row | {"file": str(pictures / row["file"])} for row in rows_of(pictures)]
    write_csv(tmp_path / "short" / "t.csv", rows)
    listing = read_label_table(tmp_path / "short" / "t.csv", NO_OPTION)
    assert all((listing.root / path).is_file() for path, _ in listing.files["train"])


def test_a_table_of_an_archive_names_no_other_pictures(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOOTUNE_HOME", str(tmp_path / "home"))
    table = tmp_path / "home" / "data" / "a.zip-0" / "t.csv"
    table.parent.mkdir(parents=True)
    write_csv(table, [row | {"file": str(pictures / row["file"])} for row in rows_of(pictures)])
    assert "came in an archive" in refusal(table)
    assert "came in an archive" in refusal(table, SourceOptions(root=str(tmp_path / "home")))


def test_a_damaged_parquet_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(b"PAR1 and no more")
    assert "cannot be read as Parquet" in refusal(tmp_path / "t.parquet")


@pytest.mark.parametrize(
    "columns", ["path", "path=", "=file", "image=file", "path=a,path=b", "path=a,,label=b,x"]
)
def test_columns_of_another_form_are_refused(columns: str) -> None:
    with pytest.raises(UserError, match="expected ROLE=COLUMN"):
        Run(data="t.csv", columns=columns)


def test_a_column_has_one_role() -> None:
    with pytest.raises(UserError, match="a column of its own"):
        Run(data="t.csv", columns="path=a,label=a")


def test_options_of_tables_have_no_effect_on_folders(pictures: Path) -> None:
    for options in (SourceOptions("path=a"), SourceOptions(root=str(pictures))):
        with pytest.raises(UserError, match="has no effect"):
            DataSource(pictures, options=options).listing()
    write_csv(pictures / "t.csv", rows_of(pictures))
    with pytest.raises(UserError, match="expected a fraction such as"):
        DataSource(pictures / "t.csv", pictures).listing()


# --- groups


def units_by_split(data: Data) -> dict[str, set[str]]:
    units: dict[str, set[str]] = {}
    for p in data.pictures:
        units.setdefault(p.split, set()).add(p.unit)
    return units


def assert_no_unit_is_cut(data: Data) -> None:
    units = units_by_split(data)
    for first in units:
        for second in units:
            assert first == second or not units[first] & units[second]


@pytest.mark.parametrize("seed", range(20))
def test_a_group_is_never_on_two_sides(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    write_classes(tmp_path, {"a": 60, "b": 40})
    rows = []
    for path in sorted(tmp_path.rglob("*.png")):
        # some alone, some groups of several classes, some over given splits
        group = chance.choice(["", *(f"patient {i}" for i in range(chance.choice([3, 8, 30])))])
        split = chance.choice(["", "", "", "test"])
        rows.append(
            {
                "path": path.relative_to(tmp_path).as_posix(),
                "label": path.parent.name,
                "split": split,
                "group": group,
            }
        )
    # the same bytes in two groups of one class: these are one group then
    (tmp_path / "a" / "copy.png").write_bytes((tmp_path / "a" / "000.png").read_bytes())
    rows.append({"path": "a/copy.png", "label": "a", "split": "", "group": "patient 1"})
    write_csv(tmp_path / "t.csv", rows)
    scanned = scan(DataSource(tmp_path / "t.csv").listing())
    data = held_out.split(scanned, "0.25")
    assert_no_unit_is_cut(data)
    assert len(data.pictures) + sum(e.kind == "leak" for e in data.unused) == len(rows)
    assert {p.label for p in data.of("train")} == {0, 1}
    if data.halved:
        select, calibrate = ({p.unit for p in data.of(half)} for half in ("select", "calibrate"))
        assert not select & calibrate


def test_a_pattern_takes_the_place_of_a_column_called_group(pictures: Path) -> None:
    write_csv(pictures / "t.csv", [row | {"group": "all"} for row in rows_of(pictures)])
    listing = DataSource(pictures / "t.csv", options=SourceOptions(group_by="/(...)")).listing()
    assert set(listing.groups.values()) == {"01/", "cat", "dog"}


def test_an_empty_column_is_no_group(pictures: Path) -> None:
    write_csv(pictures / "t.csv", [row | {"cat": ""} for row in rows_of(pictures)])
    with pytest.raises(UserError, match="is empty"):
        DataSource(pictures / "t.csv", options=SourceOptions(group_by="cat")).listing()


@pytest.mark.skipif(os.name == "nt", reason="names there are UTF-16")
def test_a_group_may_have_bytes_that_are_not_utf_8(tmp_path: Path) -> None:
    write_classes(tmp_path, {f"train/{name}/{scene}": 2 for name in "ab" for scene in "xyz"})
    for name in "ab":
        folder = tmp_path / "train" / name
        os.rename(folder / "x", os.fsencode(folder) + b"/\xff")
    data = scan(DataSource(tmp_path, options=SourceOptions(group_by="/(.)/[0-9]")).listing())
    assert_no_unit_is_cut(held_out.split(data, "0.3"))


def test_groups_of_paths(tmp_path: Path) -> None:
    write_classes(tmp_path, {f"train/{name}/scene{i}": 3 for name in "ab" for i in range(8)})
    options = SourceOptions(group_by="(scene[0-9])/")
    scanned = scan(DataSource(tmp_path, options=options).listing())
    data = held_out.split(scanned, "0.25")
    assert_no_unit_is_cut(data)
    groups = {split: {p.group for p in data.of(split)} for split in ("train", "val")}
    assert len(groups["val"]) == 2
    assert len(groups["train"]) == 6
    with pytest.raises(UserError, match="it matches no path"):
        DataSource(tmp_path, options=SourceOptions(group_by="camera")).listing()
    with pytest.raises(UserError, match="regular"):
        Run(data="d", group_by="(")


def test_a_column_can_be_the_group(tmp_path: Path) -> None:
    write_classes(tmp_path, {"a": 8, "b": 8})
    rows = [
        {"path": f"{name}/{i:03}.png", "label": name, "patient": f"p{i % 4}"}
        for name in "ab"
        for i in range(8)
    ]
    write_csv(tmp_path / "t.csv", rows)
    for options in (SourceOptions(group_by="patient"), SourceOptions("group=patient")):
        listing = DataSource(tmp_path / "t.csv", options=options).listing()
        assert set(listing.groups.values()) == {"p0", "p1", "p2", "p3"}


def test_an_order_keeps_how_its_pictures_are_found(tmp_path: Path) -> None:
    options = SourceOptions("path=a,label=b", str(tmp_path), "c")
    order = Order(tmp_path / "t.csv", "efficientnet_lite0", {}, options)
    assert Order.from_json(json.loads(json.dumps(order.to_json()))) == order
    other = Order(tmp_path / "t.csv", "efficientnet_lite0", {}, SourceOptions("path=a"))
    assert "--columns is path=a,label=b" in str(order.difference(other))
    moved = Order(tmp_path / "t.csv", "efficientnet_lite0", {}, replace(options, root="/other"))
    assert order.difference(moved) is None
    assert "source" not in Order(tmp_path, "efficientnet_lite0", {}).to_json()


# --- labels that were put right


def fixes(path: Path, rows: Sequence[Sequence[str]]) -> SourceOptions:
    lines = ["path,given,suggested,score", *(",".join((*row, "0.01")) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return SourceOptions(fix=str(path))


def test_labels_that_a_person_put_right_are_taken(pictures: Path, tmp_path: Path) -> None:
    rows = [("train/cat/001.png", "cat", "dog"), ("train/dog/002.png", "dog", "")]
    options = fixes(tmp_path / "label_errors.csv", rows)
    before, data = scan(read_folders(pictures)), scan(DataSource(pictures, None, options).listing())
    labels = {p.path: data.classes[p.label] for p in data.pictures}
    assert labels["train/cat/001.png"] == "dog"
    assert {p.path for p in before.pictures} - labels.keys() == {"train/dog/002.png"}
    assert ("train/dog/002.png", "unlabelled") in {(e.path, e.kind) for e in data.unused}
    assert "1 labels changed and 1 pictures left out" in " ".join(data.findings)
    assert data.digest() != before.digest()
    assert (pictures / "train" / "cat" / "001.png").is_file()


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (("train/cat/001.png", "dog", "cat"), "was 'dog' when it was checked, and is 'cat' now"),
        (("train/cat/001.png", "cat", "bird"), "expected a class of the data"),
        (("train/cat/999.png", "cat", "dog"), "which is no picture of the data"),
    ],
)
def test_labels_of_other_data_are_refused(
    pictures: Path, tmp_path: Path, row: tuple[str, ...], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        DataSource(pictures, None, fixes(tmp_path / "label_errors.csv", [row])).listing()


def test_a_table_of_another_kind_puts_nothing_right(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("path,label\na,b\n")
    for fix, words in (("t.csv", "given is missing"), ("none.csv", "expected the label_errors")):
        with pytest.raises(UserError, match=words):
            DataSource(pictures, None, SourceOptions(fix=str(tmp_path / fix))).listing()


# --- several sources


def joined(*places: Path, **options: Any) -> Data:
    return scan(DataSource(places[0], more=places[1:], **options).listing())


def test_classes_of_several_sources_are_joined_by_name(tmp_path: Path) -> None:
    write_classes(tmp_path / "pets", {"cat": 4, "dog": 4})
    write_classes(tmp_path / "more" / "train", {"dog": 3, "ant": 3}, first=100)
    write_classes(tmp_path / "more" / "test", {"ant": 2}, first=200)
    data = joined(tmp_path / "pets", tmp_path / "more")
    assert data.classes == ("ant", "cat", "dog")
    assert data.counts()["train"] == {"ant": 3, "cat": 4, "dog": 7}
    assert data.counts()["test"]["ant"] == 2
    assert {p.path.split("/")[0] for p in data.pictures} == {"pets", "more"}
    assert all((data.root / p.path).is_file() for p in data.pictures)


@pytest.mark.parametrize("old_split", ["train", "test"])
def test_a_correction_outweighs_the_old_label(tmp_path: Path, old_split: str) -> None:
    counts = {f"{split}/{name}": 6 for split in ("train", "test") for name in ("cat", "dog")}
    write_classes(tmp_path / "pets", counts)
    wrong = tmp_path / "pets" / old_split / "cat" / "003.png"
    # as the service keeps corrections; one class alone is fine there
    correction = tmp_path / "corrections" / "train" / "dog" / "a.png"
    correction.parent.mkdir(parents=True)
    correction.write_bytes(wrong.read_bytes())
    data = joined(tmp_path / "pets", tmp_path / "corrections")
    labels = {p.path: (data.classes[p.label], p.split) for p in data.pictures}
    assert labels[f"pets/{old_split}/cat/003.png"] == ("dog", old_split)
    assert "1 pictures take the label that a later --data gives" in " ".join(data.findings)
    assert not [entry for entry in data.unused if entry.kind == "conflict"]
    # of copies in two splits, the one that is measured stays
    assert ("corrections/train/dog/a.png" in labels) is (old_split == "train")


def test_two_labels_in_the_latest_source_stay_a_conflict(tmp_path: Path) -> None:
    write_classes(tmp_path / "pets", {"cat": 20, "dog": 20})
    content = (tmp_path / "pets" / "cat" / "003.png").read_bytes()
    for name in ("cat", "dog"):
        (tmp_path / "new" / name).mkdir(parents=True)
        (tmp_path / "new" / name / "a.png").write_bytes(content)
    data = joined(tmp_path / "pets", tmp_path / "new")
    assert sum(entry.kind == "conflict" for entry in data.unused) == 3


def test_sources_that_overlap_or_look_alike_are_refused(tmp_path: Path) -> None:
    write_classes(tmp_path / "pets", {"train/cat": 2, "train/dog": 2})
    write_classes(tmp_path / "other", {"Cat": 2, "dog": 2}, first=50)
    for second, words in (
        ("pets", "count twice"),
        ("pets/train", "count twice"),
        ("other", "differ only in"),
    ):
        with pytest.raises(UserError, match=words):
            joined(tmp_path / "pets", tmp_path / second)
    with pytest.raises(UserError, match="with several --data"):
        joined(tmp_path / "pets", tmp_path / "other", val=tmp_path / "pets" / "train")


@pytest.mark.parametrize("old_split", ["train", "test"])
def test_a_table_of_corrections_names_the_same_files(tmp_path: Path, old_split: str) -> None:
    write_classes(tmp_path / "pets", {f"{s}/{n}": 3 for s in ("train", "test") for n in "ab"})
    (tmp_path / "fixes").mkdir()
    row = {"path": f"../pets/{old_split}/a/000.png", "label": "b"}
    write_csv(tmp_path / "fixes" / "t.csv", [row])
    data = joined(tmp_path / "pets", tmp_path / "fixes")
    assert len(data.pictures) == 12
    found = {p.path: (data.classes[p.label], p.split) for p in data.pictures}
    assert found[f"pets/{old_split}/a/000.png"] == ("b", old_split)
    assert [entry.kind for entry in data.unused] == ["repeated"]


def test_two_tables_may_lie_in_one_folder(tmp_path: Path) -> None:
    write_classes(tmp_path, {"a": 2, "b": 2})
    rows = [{"path": f"{name}/{i:03}.png", "label": name} for name in "ab" for i in range(2)]
    write_csv(tmp_path / "first.csv", rows)
    write_csv(tmp_path / "second.csv", rows[:1])
    data = joined(tmp_path / "first.csv", tmp_path / "second.csv")
    assert [p.path for p in data.pictures] == ["a/000.png", "a/001.png", "b/000.png", "b/001.png"]


def test_findings_name_no_folder_and_no_table(tmp_path: Path) -> None:
    for number, name in enumerate(("anna", "bert")):
        write_classes(tmp_path / name, {"cat": 2, "dog": 2}, first=10 * number)
        (tmp_path / name / "cat" / "notes.txt").write_text("x")
    (tmp_path / "anna.csv").write_text("path,given,suggested\nanna/cat/000.png,cat,dog\n")
    data = joined(
        tmp_path / "anna", tmp_path / "bert", options=SourceOptions(fix=str(tmp_path / "anna.csv"))
    )
    text = " ".join(data.findings)
    assert "--data 2: 1 files ignored" in text
    assert "as --fix says" in text
    assert not {"anna", "bert"} & set(re.findall(r"\w+", text))


def test_an_order_keeps_all_its_sources(tmp_path: Path) -> None:
    order = Order(tmp_path / "a", "efficientnet_lite0", {}, more=(tmp_path / "b",))
    assert Order.from_json(json.loads(json.dumps(order.to_json()))) == order
    moved = order.moved([tmp_path / "c", tmp_path / "d"], None)
    assert (moved.data, moved.more) == (tmp_path / "c", (tmp_path / "d",))
    with pytest.raises(UserError, match="expected the 2 places"):
        order.moved([tmp_path / "c"], None)
    assert Run(data=("a", "b")).folder == Run(data="a").folder  # type: ignore[arg-type]
