"""The files of a run folder as one value: what the report is made of."""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from finetune.evaluation import predictions_csv
from finetune.evaluation.predictions import Answers
from finetune.run_folder import events
from zoo.contract import run_pictures, rundir
from zoo.contract.finished_run import FinishedRun
from zoo.contract.report import Numbers, Report
from zoo.files import checks
from zoo.picture.preprocess import Preprocessing


@dataclass(frozen=True)
class Finished:
    """Holds the files of a finished run, and what follows from them."""

    folder: Path
    report: Report
    data: dict[str, Any]
    recipe: dict[str, Any]
    decision: dict[str, Any]
    """decision.json, with how it was fitted."""
    pre: Preprocessing
    """How a picture becomes the network's input."""
    series: dict[str, list[tuple[int, float]]]
    """metrics.jsonl."""
    every: Answers
    """predictions.csv."""

    @property
    def name(self) -> str:
        """The run folder's name."""
        return self.folder.resolve().name

    @property
    def classes(self) -> list[str]:
        """Class names by label."""
        return self.data["classes"]

    @property
    def split(self) -> str:
        """The headline's split."""
        return self.report.headline.split

    @property
    def numbers(self) -> Numbers:
        """The numbers of the headline's split."""
        return self.report.headline.numbers

    @cached_property
    def answers(self) -> Answers:
        """The answers to the pictures of the headline's split."""
        # cached like what follows, because every section of the page asks for it
        return self.every.of(self.split)

    @cached_property
    def recorded(self) -> dict[str, str]:
        """Path -> sha256 of the pictures of the headline's split."""
        return run_pictures.recorded_hashes(self.folder, self.answers.path.tolist())

    def sha256(self, i: int) -> str:
        """Give the digest of a picture of `answers`; empty (so that no file has it) if files.csv
        lacks the picture."""
        return self.recorded.get(str(self.answers.path[i]), "")

    @cached_property
    def confusion(self) -> Counter[tuple[int, int]]:
        """Count the pictures of the headline's split: (true label, predicted label) -> pictures."""
        return Counter(
            zip(self.answers.label.tolist(), self.answers.predicted.tolist(), strict=True)
        )

    @cached_property
    def pictures_of(self) -> Counter[int]:
        """Count the pictures of the headline's split: label -> pictures."""
        return Counter(self.answers.label.tolist())

    def value_of(self, field: str) -> Any:
        """Give a value of the recipe; None if this version of the recipe lacks it."""
        return self.recipe.get(field, {}).get("value")


def read_run(folder: Path) -> Finished:
    """Read the files of a run folder; `UserError` if one is missing or not what a run has."""
    run = FinishedRun(folder)
    # the answers name classes, so data.json is checked before predictions.csv is read
    with checks.of(folder / rundir.DATA):
        classes = checks.names(run.data["classes"])
    return Finished(
        folder,
        run.report,
        run.data,
        run.recipe,
        run.decision,
        run.pre,
        events.read_events(folder),
        predictions_csv.read_predictions(folder, classes),
    )
