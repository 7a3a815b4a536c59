"""The rungs of the proof: what each comparison may differ by, and what became of it."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from zoo.contract import bundle

LIMITS = {
    "core": 1e-4,
    "pixels": 2.0,
    "pixels off by 2": 5e-5,
    "probabilities": bundle.TOLERANCE,
    "top-1": 0.0,
    "unknown_score": 1e-3,
    "embedding": 1e-3,
    "heatmap": 1e-3,
}
"""Rung -> the largest difference that passes in fp32. Pixels in levels of 255, and as the share of
values off by two (0 where resizing is done by products): ONNX Runtime rounds an exact half
otherwise than Pillow, and two halves in a row happened to one value in a million. Core,
unknown_score, embedding and heatmap relative to the largest expected value of the picture, the last
three from the same pixels; top-1 in pictures."""
LOST_POINTS = {"fp16": 0.2, "int8": 1.0}
"""Precisions that round: points of accuracy that may be lost on labelled pictures, unless
--max-loss says otherwise. It takes the place of the limits from probabilities on, which are then
only reported."""
Verdict = Literal["passed", "failed", "inconclusive", "not judged"]
TINY = 1e-6
"""Smaller values than this are not divided by."""


@dataclass(frozen=True)
class Labelled:
    """A picture whose class is known, and the class that the trained model took it for."""

    path: Path
    label: int
    predicted: int
    unknown_score: float = math.nan
    """What the trained model gave it; nan if it has no such score."""


@dataclass(frozen=True)
class Rung:
    """One comparison over all pictures."""

    name: str
    limit: float | None
    """None: reported, not judged, but for being a number."""
    worst: float
    """The largest difference seen."""
    picture: str
    """Where it was seen."""
    pictures: int
    standard_error: float = 0.0
    """Of `worst`, where it is an estimate."""
    agreement: float | None = None
    """Share of the answers that are the same, where answers are compared."""

    @property
    def verdict(self) -> Verdict:
        """An estimate has failed if its 95 % interval lies above the limit, and passed if it lies
        below."""
        # first, because NaN passes every comparison below
        if not math.isfinite(self.worst):
            return "failed"
        if self.limit is None:
            return "not judged"
        # an estimate is judged by its interval, so that luck with few pictures decides nothing
        if self.worst - self.spread > self.limit:
            return "failed"
        if self.worst + self.spread > self.limit:
            return "inconclusive"
        return "passed"

    @property
    def spread(self) -> float:
        """Half the width of the 95 % interval of an estimate."""
        return 1.96 * self.standard_error

    @property
    def excess(self) -> float:
        """How many times the limit."""
        return self.worst / (self.limit or 1)

    @property
    def lost(self) -> str:
        """Of an accuracy rung, in words."""
        return (
            f"{self.worst:.2f} ± {self.spread:.2f} points of accuracy on {self.pictures} pictures"
        )


def paths_of(labelled: Iterable[Labelled]) -> list[Path]:
    """Return the files of labelled pictures."""
    return [picture.path for picture in labelled]


def relative(expected: np.ndarray, seen: np.ndarray, least: float = TINY) -> float:
    """Largest difference as a share of the largest expected value, or of `least` if that is more;
    infinite for NaN."""
    # by the largest value, since small ones of the same picture have no digits of their own
    scale = max(float(np.abs(expected).max()), least)
    difference = float(np.abs(expected - seen).max()) / scale
    return difference if math.isfinite(difference) else math.inf


def rung_of(
    name: str, differences: np.ndarray, names: Sequence[str], *, judged: bool = True
) -> Rung:
    """Return the rung of these differences, one a picture: the largest counts. Not `judged`:
    without a limit."""
    # NaN is no answer, so it counts as infinitely far
    differences = np.nan_to_num(differences.astype(float), nan=np.inf, posinf=np.inf)
    worst = int(differences.argmax())
    limit = LIMITS[name] if judged else None
    return Rung(name, limit, float(differences[worst]), names[worst], len(differences))


def rungs_json(rungs: Iterable[Rung]) -> list[dict[str, Any]]:
    """Return the rungs as parity.json has them; what is no number becomes null."""
    rows = []
    for rung in rungs:
        row = asdict(rung) | {"verdict": rung.verdict}
        if not math.isfinite(rung.worst):
            row["worst"] = None
        rows.append(row)
    return rows
