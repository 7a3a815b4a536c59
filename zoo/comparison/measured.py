"""What a model answered to the pictures of a run's headline: as the run recorded it, or asked now.

recorded_answers(run, split)  the answers of the run's own weights, from predictions.csv
asked(run, bundle, recorded)  those of one bundle to the same pictures
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path

import numpy as np

from zoo.comparison import shares
from zoo.contract import run_pictures, rundir
from zoo.contract.bundle import Bundle
from zoo.contract.splits import members
from zoo.files import checks, tables
from zoo.host import console
from zoo.host.errors import UserError

MOST_ASKED = 2_000
"""Pictures that one bundle answers at most: minutes on a CPU, and an interval of at most 2.2 points
to each side."""


@dataclass(frozen=True)
class RecordedAnswers:
    """Of one model; final."""

    right: dict[str, bool]
    """Path of the picture -> whether the most probable class is the true one."""
    confidence: dict[str, float]
    """The same -> its probability."""

    @cached_property
    def top1(self) -> float:
        """Share of right answers."""
        return sum(self.right.values()) / len(self.right)

    @cached_property
    def interval(self) -> tuple[float, float]:
        """95 % of `top1`."""
        return shares.wilson_interval(sum(self.right.values()), len(self.right))

    @cached_property
    def ece(self) -> float:
        """Expected calibration error."""
        right = np.array(list(self.right.values()))
        return shares.calibration_error(np.array(list(self.confidence.values())), right)


@dataclass(frozen=True)
class Recorded:
    """The answers of a run's own weights."""

    labels: Mapping[str, str]
    """Path of the picture -> its class."""
    plain: RecordedAnswers
    """One view, temperature 1."""
    deployed: RecordedAnswers


def recorded_answers(run: Path, split: str) -> Recorded | None:
    """From predictions.csv, of the split of the headline; None where that is not there (a pulled
    run).

    Raises `UserError` for a table that is none of ours.
    """
    if not (run / rundir.PREDICTIONS).is_file():
        return None
    labels: dict[str, str] = {}
    columns = [("plain_predicted", "plain_confidence"), ("predicted", "confidence")]
    found = (RecordedAnswers({}, {}), RecordedAnswers({}, {}))
    wanted = members(split)
    needed = ("path", "split", "label", *chain.from_iterable(columns))
    with checks.of(run / rundir.PREDICTIONS):
        for row in tables.rows(run / rundir.PREDICTIONS, needed):
            if row["split"] in wanted:
                path = row["path"]
                labels[path] = row["label"]
                for answers, (predicted, confidence) in zip(found, columns, strict=True):
                    answers.right[path] = row[predicted] == row["label"]
                    answers.confidence[path] = checks.number(float(row[confidence]))
    if not labels:
        return None
    return Recorded(labels, *found)


def asked(run: Path, bundle: Bundle, known: Recorded) -> RecordedAnswers:
    """The answers of a bundle, on the CPU, to up to `MOST_ASKED` of these pictures.

    Raises `UserError` if one of the pictures is not there any more, or is another one.
    """
    from zoo.answer.predict import Predictor

    root = run_pictures.data_root(run)
    # evenly over the sorted paths, so that every class has its share
    every = -(-len(known.labels) // MOST_ASKED)
    paths = sorted(known.labels)[::every]
    sha256 = run_pictures.recorded_hashes(run, paths)
    # auto is OpenVINO for a model in its format, which computes on the CPU too
    provider = "auto" if bundle.model.suffix == ".xml" else "cpu"
    predictor = Predictor(bundle, provider=provider)
    right: dict[str, bool] = {}
    confidence: dict[str, float] = {}
    for path in console.track(paths, f"answering {len(paths)} pictures with {bundle.target}"):
        file = root / path
        # an accuracy on other pictures would be compared as if it were on the same
        if not file.is_file() or rundir.digest(file) != sha256.get(path):
            seen = "another one" if file.is_file() else "none"
            raise UserError(
                f"{file}: expected the picture that the run was evaluated on, seen {seen}: put it "
                "back, or compare without --measure."
            )
        label, probability = predictor.predict(file).answer.top[0]
        right[path], confidence[path] = label == known.labels[path], float(probability)
    return RecordedAnswers(right, confidence)
