"""`predictions.csv` of a run folder: the table of all answers, written and read back."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from finetune.evaluation.predictions import NOWHERE, Answers
from zoo.contract import rundir
from zoo.files import checks, tables
from zoo.files.folders import is_picture_path
from zoo.host.errors import UserError

TEXTS = ("path", "split")
CLASS_NAMES = ("label", "predicted", "plain_predicted")
FLOATS = (
    "confidence",
    "label_probability",
    "plain_confidence",
    "plain_label_probability",
    "unknown_score",
    "brightness",
)
COUNTS = ("set_size", "width", "height")
COLUMNS = (
    "path",
    "split",
    "label",
    "predicted",
    "confidence",
    "label_probability",
    "top5",
    "plain_predicted",
    "plain_confidence",
    "plain_label_probability",
    "unknown_score",
    "set_size",
    "label_in_set",
    "width",
    "height",
    "brightness",
)
"""Columns of every predictions.csv; then two for each of the views that were measured against each
other."""


def write_predictions(path: Path, answers: Answers) -> None:
    """Write `predictions.csv`, as `cells` has it."""
    columns = cells(answers)
    tables.write_table(path, columns, zip(*columns.values(), strict=True))


def cells(answers: Answers) -> dict[str, Iterable[str]]:
    """Give the cells of each column, in order. Classes stand there by name; `top5` joins names by
    `|` (escaped by `\\`); a cell is empty where there is no value."""
    name_of = {NOWHERE: "", **dict(enumerate(answers.classes))}.__getitem__
    columns: dict[str, Iterable[str]] = {}
    for name in TEXTS:
        columns[name] = getattr(answers, name).tolist()
    for name in CLASS_NAMES:
        columns[name] = map(name_of, getattr(answers, name).tolist())
    for name in (*FLOATS, *COUNTS):
        columns[name] = map(_number, getattr(answers, name).tolist())
    columns["top5"] = [join_names(map(name_of, five)) for five in answers.top5.tolist()]
    # a foreign picture has no class that could be in the set
    in_set = answers.label_in_set.astype(int).astype(str)
    columns["label_in_set"] = np.where(answers.label == NOWHERE, "", in_set).tolist()
    ordered = {name: columns[name] for name in COLUMNS}
    for views, predicted in answers.views_predicted.items():
        ordered[f"{views}_predicted"] = map(name_of, predicted.tolist())
        probability = answers.views_label_probability[views].tolist()
        ordered[f"{views}_label_probability"] = map(_number, probability)
    return ordered


def _number(value: float) -> str:
    """Print nine digits, with which a float32 comes back as it was; nothing for nan."""
    # only nan differs from itself
    return "" if value != value else f"{value:.9g}"


def join_names(names: Iterable[str]) -> str:
    """Join names by `|`; `|` and `\\` in them are escaped by `\\`."""
    return "|".join(name.replace("\\", "\\\\").replace("|", "\\|") for name in names)


def split_names(joined: str) -> list[str]:
    """Take apart what `join_names` joined."""
    # `str.split` would also cut at an escaped `|`
    names, current, escaped = [], "", False
    for letter in joined:
        if escaped or letter not in "\\|":
            current, escaped = current + letter, False
        elif letter == "\\":
            escaped = True
        else:
            names.append(current)
            current = ""
    return [*names, current]


def read_predictions(run: Path, classes: Sequence[str]) -> Answers:
    """Read the table of a run folder's `predictions.csv`; `classes` are its labels in order.

    Raises `UserError` if it is missing, or not what `write_predictions` wrote for these classes.
    """
    path = run / rundir.PREDICTIONS
    try:
        return _read(path, classes)
    except (KeyError, ValueError, OverflowError) as error:
        raise UserError(
            f"{path} is not as this version writes it ({error!r}): expected its columns and the "
            "classes of data.json. Copy the run folder again, or train it again."
        ) from None


def _read(path: Path, classes: Sequence[str]) -> Answers:
    return parsed(list(tables.rows(path, COLUMNS)), classes)


def parsed(rows: Sequence[dict[str, str]], classes: Sequence[str]) -> Answers:
    """Read rows of the table back; `KeyError`, `ValueError` or `OverflowError` for what `cells`
    does not give."""
    label_of = {"": NOWHERE, **{name: i for i, name in enumerate(classes)}}.__getitem__

    def column(name: str, parse: Callable[[str], Any]) -> np.ndarray:
        return np.array([parse(row[name]) for row in rows])

    columns: dict[str, Any] = {"path": column("path", _picture_path), "split": column("split", str)}
    for name in CLASS_NAMES:
        columns[name] = column(name, label_of)
    for name in FLOATS:
        columns[name] = column(name, _parse_number)
    for name in COUNTS:
        columns[name] = column(name, _parse_count)
    columns["top5"] = column("top5", lambda joined: list(map(label_of, split_names(joined))))
    # empty for a foreign picture, whose class is in no set
    columns["label_in_set"] = column("label_in_set", "1".__eq__)
    predicted, probability = {}, {}
    for views in _measured_views(rows):
        predicted[views] = column(f"{views}_predicted", label_of)
        probability[views] = column(f"{views}_label_probability", _parse_number)
    return Answers(
        classes=tuple(classes),
        **columns,
        views_predicted=predicted,
        views_label_probability=probability,
    )


def _measured_views(rows: Sequence[dict[str, str]]) -> list[str]:
    """Name the views that have columns of their own."""
    if not rows:
        return []
    # which views were measured differs from run to run
    own = [name for name in rows[0] if name not in COLUMNS]
    return [name.removesuffix("_predicted") for name in own if name.endswith("_predicted")]


def _picture_path(path: str) -> str:
    if not is_picture_path(path):
        # a stranger's table may hold anything: it is shown escaped, and not all of it
        raise ValueError(f"expected a path relative to the data folder, seen {path[:200]!r}")
    return path


def _parse_number(text: str) -> float:
    return float(text) if text else float("nan")


def _parse_count(text: str) -> int:
    return checks.whole(int(text), 0, 10**9)
