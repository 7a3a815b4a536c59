"""What the answers come to: counts, and where the pictures have labels how good they are."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from finetune.evaluation import predictions, predictions_csv
from finetune.evaluation.answer_table import CHUNK
from finetune.evaluation.metrics import per_class
from finetune.evaluation.predictions import Answers
from finetune.prediction.answering import HEADER, SPLIT_OF_RUN, UNKNOWN, UNREADABLE
from zoo.contract.report import ClassNumbers
from zoo.files import tables, typed_json
from zoo.files.passed_over import Unused
from zoo.host.text import one_line

TUNED_ON = ("train", "val")
"""Splits of the run whose pictures flatter it."""
MOST_CONFUSED = 20
"""Pairs of classes in the summary."""
SHOWN = 5
"""Names in a line that is printed."""


@dataclass
class Tally:
    """Counts the rows of a table; of labelled pictures it keeps the answers, 200 bytes each."""

    pictures: int = 0
    unknown: int = 0
    unreadable: list[Unused] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)
    """Class -> pictures that got it as answer."""
    labelled: list[Answers] = field(default_factory=list)
    tuned_on: list[np.ndarray] = field(default_factory=list)
    """bool: whether each of the labelled was for training or validation in the run."""


def tally(table: Path, classes: Sequence[str]) -> Tally:
    """Count the rows of a table, some at a time."""
    found, rows = Tally(), tables.rows(table, HEADER)
    while chunk := list(islice(rows, CHUNK)):
        _count(found, chunk, classes)
    return found


def _count(found: Tally, chunk: Sequence[dict[str, str]], classes: Sequence[str]) -> None:
    labelled = []
    for row in chunk:
        found.pictures += 1
        if row[UNREADABLE]:
            found.unreadable.append(Unused(row["path"], "unreadable", row[UNREADABLE]))
        elif row[UNKNOWN] == "1":
            found.unknown += 1
        else:
            found.answers[row["predicted"]] += 1
        if row["label"] and not row[UNREADABLE]:
            # the paths would take most of the memory
            labelled.append(row | {"path": "-"})
    if labelled:
        found.labelled.append(_slim(predictions_csv.parsed(labelled, classes)))
        found.tuned_on.append(np.array([row[SPLIT_OF_RUN] in TUNED_ON for row in labelled]))


def _slim(answers: Answers) -> Answers:
    """Hold whole numbers in half the memory."""
    columns = {}
    for name in predictions.COLUMN_NAMES:
        column = getattr(answers, name)
        columns[name] = column.astype(np.int32) if column.dtype == np.int64 else column
    return replace(answers, **columns)


def summary_json(found: Tally, classes: Sequence[str]) -> dict[str, Any]:
    """Make the content of summary.json."""
    content: dict[str, Any] = {
        "pictures": found.pictures,
        "unreadable": len(found.unreadable),
        "unknown": found.unknown,
        "answers": {name: found.answers[name] for name in classes},
        "labelled": 0,
    }
    if not found.labelled:
        return content
    answers = predictions.concatenate(found.labelled)
    tuned_on = np.concatenate(found.tuned_on)
    content["labelled"] = len(answers)
    content["tuned_on"] = int(tuned_on.sum())
    content |= measured(answers)
    if tuned_on.any() and not tuned_on.all():
        content["others"] = measured(answers.where(~tuned_on))
    return content


def measured(answers: Answers) -> dict[str, Any]:
    """Measure the answers to labelled pictures, by the functions of a run's report."""
    of_class = per_class(answers.predicted, answers.label, answers.classes)
    return {
        "numbers": typed_json.json_of(predictions.split_numbers(answers)),
        "balanced_accuracy": balanced(of_class),
        "per_class": typed_json.json_of(of_class),
        "confusions": list(confusions(answers)),
    }


def balanced(of_class: Sequence[ClassNumbers]) -> float:
    """Average the recall of the classes that have pictures."""
    return fmean(row.recall or 0.0 for row in of_class if row.pictures)


def confusions(answers: Answers) -> Iterator[dict[str, Any]]:
    """Yield the pairs of classes that are confused most, the most frequent first."""
    wrong = ~answers.right
    pairs = zip(answers.label[wrong].tolist(), answers.predicted[wrong].tolist(), strict=True)
    counts = Counter(pairs)
    # by place where counts are equal, so that the order is the same everywhere
    for pair in sorted(counts, key=lambda pair: (-counts[pair], pair))[:MOST_CONFUSED]:
        label, predicted = (answers.classes[place] for place in pair)
        yield {"label": label, "predicted": predicted, "pictures": counts[pair]}


def summary_lines(content: dict[str, Any]) -> Iterator[str]:
    """Yield what is printed of a summary, at most ten lines."""
    answered = content["pictures"] - content["unreadable"]
    yield (
        f"{answered:,} pictures answered, {content['unknown']:,} of them unknown; "
        f"{content['unreadable']:,} cannot be read"
    )
    most = Counter(content["answers"]).most_common(SHOWN)
    yield "answers: " + ", ".join(f"{one_line(name)} {count:,}" for name, count in most if count)
    if not content["labelled"]:
        return
    yield _numbers_line(f"{content['labelled']:,} with labels", content)
    if content["confusions"]:
        yield "most confused: " + "; ".join(map(_pair, content["confusions"][:SHOWN]))
    worst = [row for row in content["per_class"] if row["pictures"]]
    worst.sort(key=lambda row: row["recall"])
    yield "lowest recall: " + "; ".join(map(_class_line, worst[:SHOWN]))
    if content["tuned_on"]:
        yield (
            f"{content['tuned_on']:,} of them are pictures that the run was trained or tuned on, so"
            " the numbers flatter it"
        )
    if "others" in content:
        yield _numbers_line("without these", content["others"])


def _numbers_line(of: str, content: dict[str, Any]) -> str:
    numbers = content["numbers"]
    low, high = numbers["top1_interval"]
    return (
        f"{of}: top-1 {numbers['top1']:.2%} (95 % interval {low:.1%} to {high:.1%}), top-5 "
        f"{numbers['top5']:.2%}, balanced accuracy {content['balanced_accuracy']:.2%}, calibration "
        f"error {numbers['ece']:.1%}; sets hold the true class in {numbers['covered']:.1%}"
    )


def _pair(pair: dict[str, Any]) -> str:
    label, predicted = one_line(pair["label"]), one_line(pair["predicted"])
    return f"{label} as {predicted} {pair['pictures']:,}"


def _class_line(row: dict[str, Any]) -> str:
    return f"{one_line(row['class'])} {row['recall']:.0%} of {row['pictures']:,}"
