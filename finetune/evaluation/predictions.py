"""The answers of a run to its pictures: one table, `predictions.csv`, from which every number of
the report follows."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from dataclasses import fields as dataclass_fields
from pathlib import Path
from typing import Any

import numpy as np

from finetune.evaluation import metrics
from zoo.contract import rejection, rundir
from zoo.contract.report import (
    ClassNumbers,
    Foreign,
    Headline,
    Numbers,
    Plain,
    Unknown,
    Weakest,
)
from zoo.files import fields, tables
from zoo.files.folders import is_picture_path
from zoo.host.errors import UserError

VAL = ("select", "calibrate", "val")
"""Values of `split` that belong to val; `val` itself where it was too small to be halved."""
KNOWN = (*VAL, "test")
"""Splits with pictures of the classes; every other value names a foreign set."""
NOWHERE = -1
"""Label of a foreign picture, and answer where there is none."""
MOST_WRONG = 24
"""The report shows so many wrong answers, and a run draws their heat maps."""


@dataclass(frozen=True)
class Answers:
    """A table as arrays of length N, one row a picture. "Plain" is one view at temperature 1."""

    classes: tuple[str, ...]
    path: np.ndarray
    """str. Relative to the data folder; for a foreign picture its set and number."""
    split: np.ndarray
    """str: select, calibrate, val or test, or the name of a foreign set."""
    label: np.ndarray
    """int, NOWHERE for foreign pictures."""
    predicted: np.ndarray
    """int: the most probable class, also where the answer is "unknown"."""
    confidence: np.ndarray
    label_probability: np.ndarray
    """Probability of the true class, nan for foreign pictures; loss = -log of it."""
    top5: np.ndarray
    """int [N, min(5, classes)], the most probable first."""
    plain_predicted: np.ndarray
    plain_confidence: np.ndarray
    plain_label_probability: np.ndarray
    unknown_score: np.ndarray
    """Larger = more foreign."""
    set_size: np.ndarray
    """int: classes in the prediction set."""
    label_in_set: np.ndarray
    """bool."""
    width: np.ndarray
    """Pixels of the upright picture."""
    height: np.ndarray
    brightness: np.ndarray
    """Mean of the network's input picture, 0 black to 1 white."""
    views_predicted: dict[str, np.ndarray]
    """Views measured against each other -> int [N], NOWHERE where a picture was not among the
    measured."""
    views_label_probability: dict[str, np.ndarray]
    """The same -> probability of the true class at these views' own temperature, nan where not
    measured."""

    def __len__(self) -> int:
        return len(self.path)

    @property
    def right(self) -> np.ndarray:
        """bool [N]: the most probable class is the true one."""
        return self.predicted == self.label

    def where(self, chosen: np.ndarray) -> "Answers":
        """The rows of a boolean mask or of indices."""

        def cut(column: Any) -> Any:
            return (
                {name: part[chosen] for name, part in column.items()}
                if isinstance(column, dict)
                else column[chosen]
            )

        names = [f.name for f in dataclass_fields(self) if f.name != "classes"]
        columns: dict[str, Any] = {name: cut(getattr(self, name)) for name in names}
        return replace(self, **columns)

    def of(self, split: str) -> "Answers":
        """The rows of one split: val (all of it), select, calibrate, test, or a foreign set."""
        return self.where(np.isin(self.split, VAL if split == "val" else [split]))

    @property
    def splits(self) -> list[str]:
        """Known splits that have rows: val first, then its halves, then test."""
        present = set(self.split.tolist())
        halves = [name for name in ("select", "calibrate") if name in present]
        return (
            (["val"] if present & set(VAL) else [])
            + halves
            + (["test"] if "test" in present else [])
        )

    @property
    def foreign(self) -> list[str]:
        """Names of the foreign sets."""
        return list(dict.fromkeys(name for name in self.split.tolist() if name not in KNOWN))


def concatenate(tables: Sequence[Answers]) -> Answers:
    """One table of several without a comparison of views."""
    names = [
        f.name
        for f in dataclass_fields(Answers)
        if f.name != "classes" and not f.name.startswith("views_")
    ]
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(table, name) for table in tables]) for name in names
    }
    return replace(tables[0], **columns)


def headline(answers: Answers) -> tuple[str, str]:
    """(split, note): the split that gives the headline, and what a reader must know about it."""
    for split, note in (
        ("test", "read once, at the end"),
        ("calibrate", "half of val that took no part in choosing the weights"),
        (
            "val",
            "the run was tuned on these pictures, so the number is optimistic: add a test folder",
        ),
    ):
        if split in answers.splits:
            return split, note
    raise AssertionError("a run has a val")


def numbers(answers: Answers) -> Numbers:
    """Numbers of one split: the deployed answer's, and as `plain` those of one view at
    temperature 1."""
    right = int(answers.right.sum())
    plain_right = answers.plain_predicted == answers.label
    return Numbers(
        pictures=len(answers),
        top1=right / len(answers),
        top1_interval=metrics.wilson_interval(right, len(answers)),
        top5=float((answers.top5 == answers.label[:, None]).any(1).mean()),
        loss=mean_loss(answers.label_probability),
        ece=metrics.calibration_error(answers.confidence, answers.right),
        covered=float(answers.label_in_set.mean()),
        mean_set_size=float(answers.set_size.mean()),
        plain=Plain(
            top1=float(plain_right.mean()),
            loss=mean_loss(answers.plain_label_probability),
            top1_interval=metrics.wilson_interval(int(plain_right.sum()), len(answers)),
            ece=metrics.calibration_error(answers.plain_confidence, plain_right),
        ),
    )


def headline_numbers(answers: Answers, per_class: Sequence[ClassNumbers]) -> Headline:
    """The numbers of the headline's split; `per_class`: those of its classes."""
    split, note = headline(answers)
    present = [row for row in per_class if row.pictures]
    return Headline(
        split,
        note,
        # a class that is never said has a precision of 0
        macro_precision=statistics.fmean(row.precision or 0.0 for row in present),
        macro_recall=statistics.fmean(row.recall or 0.0 for row in present),
        macro_f1=statistics.fmean(row.f1 or 0.0 for row in present),
        numbers=numbers(answers.of(split)),
    )


def class_numbers(answers: Answers) -> tuple[ClassNumbers, ...]:
    """The classes in the headline's split."""
    head = answers.of(headline(answers)[0])
    return metrics.per_class(head.predicted, head.label, answers.classes)


def unknown_numbers(answers: Answers, threshold: float) -> Unknown:
    """How well the foreign sets are told from the headline's pictures by their unknown score."""
    known = answers.of(headline(answers)[0]).unknown_score
    foreign = {
        name: _foreign_numbers(known, answers.of(name), threshold) for name in answers.foreign
    }
    weakest = rejection.weakest({name: row.rejected for name, row in foreign.items()})
    return Unknown(
        float((known > threshold).mean()), foreign, Weakest(*weakest) if weakest else None
    )


def _foreign_numbers(known_N: np.ndarray, strangers: Answers, threshold: float) -> Foreign:
    return Foreign(
        pictures=len(strangers),
        auroc=rejection.auroc(known_N, strangers.unknown_score),
        rejected=float((strangers.unknown_score > threshold).mean()),
        confidence=float(strangers.plain_confidence.mean()),
    )


def mean_loss(label_probability: np.ndarray) -> float:
    """Mean cross-entropy in nats."""
    return float(-np.log(np.maximum(label_probability, np.finfo(np.float64).tiny)).mean())


def _join(names: Sequence[str]) -> str:
    """Names joined by `|`, with `|` and `\\` in them escaped by `\\`."""
    return "|".join(n.replace("\\", "\\\\").replace("|", "\\|") for n in names)


def _split(joined: str) -> list[str]:
    """What `_join` joined."""
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


def write(path: Path, answers: Answers) -> None:
    """`predictions.csv`. Classes by name; `top5` joins names by `|` (escaped by `\\`); empty =
    there is none."""
    names = {NOWHERE: ""} | dict(enumerate(answers.classes))
    columns: dict[str, list[str]] = {
        name: [_number(x) for x in getattr(answers, name).tolist()] for name in (*FLOATS, *COUNTS)
    }
    columns |= {name: getattr(answers, name).tolist() for name in ("path", "split")}
    columns |= {
        name: [names[c] for c in getattr(answers, name).tolist()]
        for name in ("label", "predicted", "plain_predicted")
    }
    columns["top5"] = [_join([names[c] for c in row]) for row in answers.top5.tolist()]
    foreign = (answers.label == NOWHERE).tolist()
    columns["label_in_set"] = [
        "" if away else str(int(inside))
        for away, inside in zip(foreign, answers.label_in_set.tolist(), strict=True)
    ]
    ordered = {name: columns[name] for name in COLUMNS}
    for views, said in answers.views_predicted.items():
        ordered[f"{views}_predicted"] = [names[c] for c in said.tolist()]
        ordered[f"{views}_label_probability"] = [
            _number(x) for x in answers.views_label_probability[views].tolist()
        ]
    tables.write(path, ordered, zip(*ordered.values(), strict=True))


def _number(value: float) -> str:
    return "" if value != value else f"{value:.9g}"  # a float32 comes back as it was


def read(run: Path, classes: Sequence[str]) -> Answers:
    """The table of a run folder's `predictions.csv`; `classes` are its labels in order.

    Raises `UserError` if it is missing, or not what `write` wrote for these classes.
    """
    path = run / rundir.PREDICTIONS
    try:
        return _read(path, classes)
    except (KeyError, ValueError, OverflowError) as error:
        raise UserError(
            f"{path} is not as this version writes it ({error!r}): expected its columns and the "
            "classes of data.json. Copy the run folder again, or train it again."
        ) from None


def _picture_path(path: str) -> str:
    if not is_picture_path(path):
        raise ValueError(f"expected a path relative to the data folder, seen {path[:200]!r}")
    return path


def _read(path: Path, classes: Sequence[str]) -> Answers:
    index = {"": NOWHERE} | {name: i for i, name in enumerate(classes)}
    rows = list(tables.rows(path, COLUMNS))
    measured = [
        name.removesuffix("_predicted")
        for name in (rows[0] if rows else ())
        if name.endswith("_predicted") and name not in COLUMNS
    ]

    def column(name: str, read_one: Callable[[str], Any]) -> np.ndarray:
        return np.array([read_one(row[name]) for row in rows])

    def number(text: str) -> float:
        return float(text) if text else float("nan")

    def count(text: str) -> int:
        return fields.whole(int(text), 0, 10**9)

    return Answers(
        classes=tuple(classes),
        path=column("path", _picture_path),
        split=column("split", str),
        **{
            name: column(name, index.__getitem__)
            for name in ("label", "predicted", "plain_predicted")
        },
        **{name: column(name, number) for name in FLOATS},
        **{name: column(name, count) for name in COUNTS},
        top5=column("top5", lambda joined: [index[name] for name in _split(joined)]),
        label_in_set=column("label_in_set", lambda text: text == "1"),
        views_predicted={
            views: column(f"{views}_predicted", index.__getitem__) for views in measured
        },
        views_label_probability={
            views: column(f"{views}_label_probability", number) for views in measured
        },
    )


def most_wrong(answers: Answers) -> np.ndarray:
    """Indices of the wrong answers with the highest confidence, the highest first: at most
    MOST_WRONG, by path where confidence is equal."""
    wrong = np.flatnonzero(~answers.right)
    order = sorted(wrong.tolist(), key=lambda i: (-answers.confidence[i], answers.path[i]))
    return np.array(order[:MOST_WRONG], dtype=int)
