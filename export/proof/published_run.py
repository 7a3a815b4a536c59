"""A published run that was pulled: the names of its pictures stayed at home, and others take their
place in the proof."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from export.graph.deployed import DeployedParts
from export.proof import labelled_folder
from export.proof.judging import Labelled
from export.proof.trained_run import JUDGED, TrainedRun, sample
from zoo.contract import bundle, rundir
from zoo.host import console
from zoo.host.errors import BadImage, UserError
from zoo.picture.decoding import decode


@dataclass(frozen=True)
class PublishedRun(TrainedRun):
    """A published run with the pictures of a folder of class folders; they are held out in any
    case."""

    label_of: Mapping[str, str] = field(default_factory=dict)
    """Picture of that folder -> class name."""

    def answered(self, splits: Sequence[str]) -> list[Labelled]:
        """Return what the trained model takes these pictures for, whatever the splits."""
        labelled = []
        for name in console.track(sample(self.label_of, JUDGED), "trained model"):
            path, label = self.root / name, self.numbers[self.label_of[name]]
            answer = self.by_torch(decode(path))
            predicted = int(answer[bundle.PROBABILITIES].argmax())
            score = float(answer.get(bundle.UNKNOWN_SCORE, math.nan))
            labelled.append(Labelled(path, label, predicted, score))
        return labelled

    def training(self, count: int) -> list[Path]:
        """Return pictures in place of training pictures."""
        return [self.root / name for name in sample(self.label_of, count)]

    def check(self, names: Collection[str], kind: str) -> None:
        """Nothing is recorded that they could be compared with."""

    def sizes(self) -> list[tuple[int, int]]:
        """Return (width, height) of the pictures of the proof."""
        return [decode(path).size for path in self.pictures.values()]


def open_pulled(
    run: Path,
    labels: list[str],
    parts: DeployedParts,
    *,
    data: Path | None,
    parity_images: int | None,
    max_loss: float | None,
) -> PublishedRun:
    """Return a published run with the pictures of `--data`; `UserError` without it."""
    if data is None:
        raise UserError(
            f"{run} has no {rundir.FILES}: it is a published copy, whose pictures stayed at "
            "home. Name a folder with one folder of pictures for each class with --data: the "
            "export is proved on them."
        )
    # decoded before the export, so that a broken picture does not end it half way
    label_of = _readable(data, labelled_folder.read_labels(data, labels))
    pictures = {name: data / name for name in sample(label_of, parity_images)}
    return PublishedRun(run, labels, parts, data, pictures, max_loss, label_of)


def _readable(data: Path, label_of: Mapping[str, str]) -> dict[str, str]:
    """The pictures that can be decoded, at most `JUDGED`; of the others it is said that they are
    left out."""
    readable = {}
    for name in console.track(sample(label_of, JUDGED), "reading pictures"):
        try:
            decode(data / name)
        except BadImage as error:
            console.warn(f"left out: {error}")
            continue
        readable[name] = label_of[name]
    if not readable:
        raise UserError(f"--data {data}: expected pictures that can be read, seen none.")
    return readable
