"""The files of a run folder as one value: what the report is made of."""

import csv
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from finetune import events
from finetune.dataset import Data, Picture
from zoo import rundir


class Answer(NamedTuple):
    """One row of predictions.csv."""

    path: str
    label: str
    predicted: str
    confidence: float


@dataclass(frozen=True)
class Finished:
    """What the page is made of."""

    folder: Path
    report: dict[str, Any]
    data: dict[str, Any]
    recipe: dict[str, Any]
    series: dict[str, list[tuple[int, float]]]
    """metrics.jsonl."""
    answers: list[Answer]
    """predictions.csv, the rows of the headline's split."""

    @property
    def classes(self) -> list[str]:
        """Class names by label."""
        return self.data["classes"]

    @property
    def split(self) -> str:
        """The headline's split."""
        return self.report["headline"]["split"]

    @cached_property
    def confusion(self) -> Counter[tuple[int, int]]:
        """(true label, predicted label) -> pictures."""
        index = {name: i for i, name in enumerate(self.classes)}
        return Counter((index[a.label], index[a.predicted]) for a in self.answers)


def read(folder: Path) -> Finished:
    """The files of a run folder."""
    report, data, recipe = (rundir.read_json(folder / name) for name in (rundir.REPORT, rundir.DATA, rundir.RECIPE))
    answers = read_answers(folder, report["headline"]["split"])
    return Finished(folder, report, data, recipe, events.read(folder), answers)


def read_answers(folder: Path, split: str) -> list[Answer]:
    """The predictions of one split; for select and calibrate, those of that half of val."""
    with open(folder / rundir.PREDICTIONS, encoding="utf-8", errors="surrogateescape", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == ("test" if split == "test" else "val")]
    if split in ("select", "calibrate"):
        half = paths_of_half(folder, split)
        rows = [row for row in rows if row["path"] in half]
    return [Answer(row["path"], row["label"], row["predicted"], float(row["confidence"])) for row in rows]


def paths_of_half(folder: Path, half: str) -> set[str]:
    """The pictures of one half of val, by the rule of `Data.of`."""
    with open(folder / rundir.FILES, encoding="utf-8", errors="surrogateescape", newline="") as file:
        val = tuple(Picture(row["path"], 0, "val", row["sha256"], 0, 0)
                    for row in csv.DictReader(file) if row["split"] == "val")
    return {picture.path for picture in Data(folder, (), val, (), ()).of(half)}
