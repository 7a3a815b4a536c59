"""predictions.csv: what is written comes back, and every number follows from it with csv and plain
Python."""

import math
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.evaluation import predictions, predictions_csv
from finetune.evaluation.predictions import (
    NOWHERE,
    Answers,
    concatenate,
    headline,
    split_numbers,
)
from finetune.evaluation.predictions_csv import COLUMNS, COUNTS, FLOATS
from tests.finetune.made_pictures import rows
from zoo.contract import rundir
from zoo.contract.decision import softmax
from zoo.contract.splits import OF_VAL
from zoo.files import tables
from zoo.host.errors import UserError

HOSTILE = [
    "a|b",
    "a\\",
    "\\|",
    "|",
    'say "hi"',
    "a,b",
    "two\nlines",
    "cr\rlf\r\n",
    os.fsdecode(b"\xff"),
    "=1+1",
    " ",
    "-1",
    "\u202egnp",
    "nan",
    "\ufeffx",
    "'",
    '"',
    ",",
    "\\",
    "||",
]
VIEWS = ("none", "five")
HALVED = ["select"] * 12 + ["calibrate"] * 12


def made(
    split: list[str], classes: list[str], *, views: tuple[str, ...] = (), seed: int = 0
) -> Answers:
    """Random answers, one for each entry of `split`; foreign pictures have no label."""
    random, n, many = np.random.default_rng(seed), len(split), len(classes)
    splits, every = np.array(split), np.arange(n)
    label = np.where(np.isin(splits, predictions.KNOWN), random.integers(0, many, n), NOWHERE)
    plain = softmax(
        2 * random.standard_normal((n, many)) + 1.5 * (np.arange(many) == label[:, None])
    )
    said = softmax(0.6 * np.log(plain) + 0.1 * random.standard_normal((n, many)))
    inside = said >= 0.2

    def of_label(values_NC: np.ndarray) -> np.ndarray:
        return np.where(label == NOWHERE, np.nan, values_NC[every, label])

    measured = np.isin(splits, ["calibrate", "val"])
    return Answers(
        tuple(classes),
        np.array([f"{split[i]}/{classes[label[i]]}/{i}.png" for i in every]),
        splits,
        label,
        said.argmax(1),
        said.max(1),
        of_label(said),
        np.argsort(-said, axis=1)[:, :5],
        plain.argmax(1),
        plain.max(1),
        of_label(plain),
        random.random(n).astype(np.float32),
        np.maximum(1, inside.sum(1)),
        of_label(inside) == 1,
        random.integers(1, 30_000, n),
        random.integers(1, 30_000, n),
        random.random(n).astype(np.float32),
        {name: np.where(measured, random.integers(0, many, n), NOWHERE) for name in views},
        {name: np.where(measured, random.random(n), np.nan) for name in views},
    )


def assert_same(seen: Answers, expected: Answers) -> None:
    """Equal, floating columns to 9 digits; what was float32 comes back as it was."""
    assert seen.classes == expected.classes
    for field in fields(Answers):
        if field.name == "classes":
            continue
        one, other = getattr(seen, field.name), getattr(expected, field.name)
        pairs = (
            [(one, other)]
            if isinstance(one, np.ndarray)
            else [(one[name], other[name]) for name in other]
        )
        assert isinstance(one, np.ndarray) or list(one) == list(other)
        for column, as_written in pairs:
            assert column.shape == as_written.shape, field.name
            assert column.dtype.kind == as_written.dtype.kind, field.name
            if column.dtype.kind == "f":
                assert np.allclose(column, as_written, rtol=5.1e-9, atol=0, equal_nan=True), (
                    field.name
                )
                if as_written.dtype == np.float32:
                    assert np.array_equal(column.astype(np.float32), as_written), field.name
            else:
                assert column.tolist() == as_written.tolist(), field.name


def round_trip(folder: Path, table: Answers) -> Answers:
    predictions_csv.write_predictions(folder / rundir.PREDICTIONS, table)
    return predictions_csv.read_predictions(folder, table.classes)


# --- the file


@pytest.mark.parametrize("classes", [["cat", "dog"], ["a", "b", "c", "d", "e"], HOSTILE])
@pytest.mark.parametrize("views", [(), VIEWS])
def test_a_table_comes_back_as_it_was(
    tmp_path: Path, classes: list[str], views: tuple[str, ...]
) -> None:
    table = made([*HALVED, *["test"] * 12, *["noise"] * 6, *["digits"] * 6], classes, views=views)
    assert_same(round_trip(tmp_path, table), table)


def test_a_table_that_was_read_is_written_as_the_same_bytes(tmp_path: Path) -> None:
    once = round_trip(tmp_path, made([*HALVED, "noise"], HOSTILE, views=VIEWS))
    before = (tmp_path / rundir.PREDICTIONS).read_bytes()
    round_trip(tmp_path, once)
    assert (tmp_path / rundir.PREDICTIONS).read_bytes() == before


def test_the_columns_are_the_documented_ones(tmp_path: Path) -> None:
    round_trip(tmp_path, made([*HALVED, "noise"], HOSTILE, views=VIEWS))
    table = rows(tmp_path / rundir.PREDICTIONS)
    assert list(table[0]) == [
        *COLUMNS,
        "none_predicted",
        "none_label_probability",
        "five_predicted",
        "five_label_probability",
    ]
    assert all(row["label"] in HOSTILE and row["predicted"] in HOSTILE for row in table[:-1])
    foreign = table[-1]
    empty = {name for name, text in foreign.items() if not text}
    assert empty == {
        "label",
        "label_probability",
        "plain_label_probability",
        "label_in_set",
        *list(table[0])[-4:],
    }
    assert {row["label_in_set"] for row in table[:-1]} == {"0", "1"}
    assert all(row["none_predicted"] == "" for row in table[:12])  # select was not measured


def unescaped(joined: str) -> list[str]:
    """The class names of the column top5."""
    names = re.findall(r"(?:^|\|)((?:[^|\\]|\\.)*)", joined, re.S)
    return [re.sub(r"\\(.)", r"\1", name, flags=re.S) for name in names]


def test_hostile_names_and_paths(tmp_path: Path) -> None:
    """Every class name is at each place of top5 once, in folders that are not UTF-8."""
    n = len(HOSTILE)
    table = made(["test"] * n, HOSTILE)
    paths = np.array(
        [os.fsdecode(b'\xfe,\n"') + f"/{name}/{i}.png" for i, name in enumerate(HOSTILE)]
    )
    table = replace(
        table,
        path=paths,
        top5=(np.arange(n)[:, None] + np.arange(5)) % n,
        label=np.arange(n),
        predicted=np.arange(n),
        plain_predicted=np.arange(n)[::-1],
    )
    assert_same(round_trip(tmp_path, table), table)
    for i, row in enumerate(rows(tmp_path / rundir.PREDICTIONS)):
        assert row["path"] == paths[i]
        assert row["label"] == row["predicted"] == HOSTILE[i]
        assert row["plain_predicted"] == HOSTILE[n - 1 - i]
        assert unescaped(row["top5"]) == [HOSTILE[(i + k) % n] for k in range(5)]


NAMES = st.text(
    st.one_of(
        st.sampled_from('|\\,"\n\r \t'),
        st.characters(exclude_categories=["Cs"], min_codepoint=1),
        st.integers(0xDC80, 0xDCFF).map(chr),
    ),
    min_size=1,
    max_size=6,
).filter(lambda name: name not in (".", ".."))  # which no folder of a class can be called


@settings(max_examples=60, deadline=None)
@given(names=st.lists(NAMES, min_size=1, max_size=7, unique=True))
def test_any_names_come_back(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    table = made(["val"] * 4 + ["noise"], names, views=("none",))
    # bytes that are UTF-8 when joined come back as that letter, on any file system as well
    told = [
        name.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape") for name in names
    ]
    if len(set(told)) == len(told):
        table = replace(
            table,
            classes=tuple(told),
            path=np.array([f"x/{told[i % len(told)]}/y" for i in range(5)]),
        )
        assert_same(round_trip(tmp_path_factory.mktemp("names"), table), table)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (1.0, "1"),
        (1 / 3, "0.333333333"),
        (1.23456789012e-9, "1.23456789e-09"),
        (1 - 1e-10, "1"),
        (math.nan, ""),
        (np.finfo(float).tiny, "2.22507386e-308"),
    ],
)
def test_numbers_have_9_digits(tmp_path: Path, value: float, text: str) -> None:
    columns: dict[str, Any] = {name: np.array([value]) for name in FLOATS}
    table = replace(made(["test"], ["a", "b"]), **columns)
    seen = round_trip(tmp_path, table)
    [row] = rows(tmp_path / rundir.PREDICTIONS)
    for name in FLOATS:
        assert row[name] == text
        assert getattr(seen, name)[0] == pytest.approx(value, rel=1e-8, nan_ok=True)


@pytest.mark.parametrize("name", COUNTS)
def test_counts_are_exact(tmp_path: Path, name: str) -> None:
    column: dict[str, Any] = {name: np.array([1, 99_999, 31_622])}
    table = replace(made(["test"] * 3, ["a", "b"]), **column)
    assert getattr(round_trip(tmp_path, table), name).tolist() == [1, 99_999, 31_622]


# --- parts


def test_where_takes_masks_and_indices_of_every_column() -> None:
    table = made([*HALVED, "noise"], HOSTILE, views=VIEWS)
    indices = np.array([20, 3, 24])
    for chosen in (indices, np.isin(np.arange(25), indices)):
        part = table.where(chosen)
        assert len(part) == 3
        order = indices if chosen is indices else np.sort(indices)
        assert part.path.tolist() == table.path[order].tolist()
        assert part.top5.tolist() == table.top5[order].tolist()
        assert (
            part.views_predicted["five"].tolist() == table.views_predicted["five"][order].tolist()
        )
        assert part.right.tolist() == (table.predicted == table.label)[order].tolist()
        assert part.classes == table.classes
    assert len(table.where(np.zeros(25, bool))) == 0


@pytest.mark.parametrize(
    ("split", "splits", "head"),
    [
        (
            [*HALVED, "test", "noise"],
            ["val", "select", "calibrate", "test"],
            ("test", "read once, at the end"),
        ),
        (
            [*HALVED, "digits"],
            ["val", "select", "calibrate"],
            ("calibrate", "half of val that took no part in choosing the weights"),
        ),
        (
            ["val"] * 9,
            ["val"],
            (
                "val",
                "the run was tuned on these pictures, so the number is optimistic: add a test "
                "folder",
            ),
        ),
        (["test", *["val"] * 9], ["val", "test"], ("test", "read once, at the end")),
    ],
)
def test_splits_and_the_headline(
    split: list[str], splits: list[str], head: tuple[str, str]
) -> None:
    table = made(split, ["a", "b", "c"])
    assert table.splits == splits
    assert headline(table) == head
    assert table.foreign == [name for name in split if name in ("noise", "digits")]
    assert sum(len(table.of(name)) for name in ("val", "test", *table.foreign)) == len(split)
    for name in splits:
        members = OF_VAL if name == "val" else (name,)
        assert table.of(name).path.tolist() == [
            table.path[i] for i, of in enumerate(split) if of in members
        ]


def test_foreign_pictures_are_never_right() -> None:
    table = made(["noise"] * 30 + ["digits"] * 2 + ["noise"], ["a", "b"])
    assert table.foreign == ["noise", "digits"]
    assert not table.right.any()
    assert not table.label_in_set.any()
    assert len(table.of("noise")) == 31
    assert table.splits == []


def test_tables_are_joined_in_order(tmp_path: Path) -> None:
    parts = [made(["val"] * 3, HOSTILE), made(["noise"] * 2, HOSTILE, seed=1)]
    joined = concatenate(parts)
    assert joined.split.tolist() == ["val"] * 3 + ["noise"] * 2
    assert_same(joined.of("val"), parts[0])
    assert_same(joined.of("noise"), parts[1])
    assert_same(round_trip(tmp_path, joined), joined)


# --- numbers


def wilson(right: int, total: int) -> tuple[float, float]:
    """Both shares p that are 1.96 of their standard errors away: (share - p)^2 = 1.96^2 p (1 - p) /
    total."""
    share, zz = right / total, 1.96**2 / total
    middle, root = (
        (2 * share + zz) / (2 + 2 * zz),
        math.sqrt(zz * zz + 4 * zz * share * (1 - share)) / (2 + 2 * zz),
    )
    return max(0, middle - root), min(1, middle + root)


def recomputed(table: list[dict[str, Any]], prefix: str = "") -> dict[str, Any]:
    """The numbers of some rows of predictions.csv; `prefix` "plain_" for those of one view at
    temperature 1."""
    n, gap = len(table), 0.0
    right = [row["label"] == row[f"{prefix}predicted"] for row in table]
    for low in range(15):  # the bins (0, 1/15], (1/15, 2/15], ...
        inside = [
            i for i in range(n) if low < 15 * float(table[i][f"{prefix}confidence"]) <= low + 1
        ]
        gap += abs(sum(float(table[i][f"{prefix}confidence"]) - right[i] for i in inside))
    return {
        "top1": sum(right) / n,
        "top1_interval": wilson(sum(right), n),
        "ece": gap / n,
        "loss": -sum(math.log(float(row[f"{prefix}label_probability"])) for row in table) / n,
    }


def assert_close(found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Equal but for rounding, also within."""
    assert set(found) == set(expected)
    for key, value in expected.items():
        if isinstance(value, dict):
            assert_close(found[key], value)
        else:
            assert found[key] == pytest.approx(value, rel=1e-9), key


@pytest.mark.parametrize("classes", [["a", "b"], HOSTILE])
def test_the_numbers_can_be_computed_again_from_the_file(
    tmp_path: Path, classes: list[str]
) -> None:
    table = made([*["val"] * 150, *["test"] * 90, *["noise"] * 20], classes, seed=3)
    seen = round_trip(tmp_path, table)
    lines = list(tables.rows(tmp_path / rundir.PREDICTIONS, ("split",)))
    for split, n in (("val", 150), ("test", 90)):
        own = [row for row in lines if row["split"] == split]
        expected = recomputed(own) | {
            "pictures": n,
            "top5": sum(row["label"] in unescaped(row["top5"]) for row in own) / n,
            "covered": sum(row["label_in_set"] == "1" for row in own) / n,
            "mean_set_size": sum(int(row["set_size"]) for row in own) / n,
            "plain": recomputed(own, "plain_"),
        }
        found = split_numbers(seen.of(split))
        assert_close(asdict(found), expected)
        assert split_numbers(table.of(split)).loss == pytest.approx(expected["loss"], rel=1e-8)
        assert split_numbers(table.of(split)).top1 == expected["top1"]
        assert 0.05 < expected["top1"] < 0.95


def test_a_probability_of_0_costs_a_large_finite_loss() -> None:
    assert predictions.mean_loss(np.array([0.0])) == pytest.approx(708.4, abs=0.1)
    assert predictions.mean_loss(np.array([0.5, 0.25])) == pytest.approx(1.5 * math.log(2))


def test_a_table_that_is_missing_or_of_another_version_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"predictions\.csv is missing"):
        predictions_csv.read_predictions(tmp_path, ["cat"])
    (tmp_path / "predictions.csv").write_text("path,split,label,predicted\na.png,test,dog,cat\n")
    with pytest.raises(UserError, match="is not as this version writes it"):
        predictions_csv.read_predictions(tmp_path, ["cat"])
