"""How a run learned, epoch by epoch, as one value: what advice on its curves is made of."""

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import truediv

from zoo.contract.report import Report

Events = Mapping[str, Sequence[tuple[int, float]]]
"""Name -> (step, value) in the order of the steps, as in metrics.jsonl."""


@dataclass(frozen=True)
class History:
    """Holds the curves by epoch. Epoch 0 is the model before the first step: the probe's, or the
    base with a random head."""

    train_loss: tuple[float, ...]
    """Means of epochs 1, 2, ..., label smoothing included."""
    select_loss: tuple[float, ...]
    """After epochs 0, 1, 2, ..., without smoothing."""
    select_top1: tuple[float, ...]
    """After epochs 0, 1, 2, ..."""
    pictures: int
    """In select."""
    classes: int
    steps_per_epoch: int
    probe: bool = True
    training: tuple[float, int] | None = None
    """At the end, top-1 on some training pictures as deployment sees them, and how many these are;
    earlier versions did not measure it."""
    chosen: int | None = None
    """The epoch whose weights were kept, if it is known; with balanced classes top-1 does not
    tell."""

    def __post_init__(self) -> None:
        assert len(self.select_loss) == len(self.select_top1) == len(self.train_loss) + 1

    @property
    def epochs(self) -> int:
        return len(self.train_loss)

    @property
    def best(self) -> int:
        """Find the best epoch after the start, by `Scores.better_than`."""
        # 0 is the start, and here the best after it is asked for
        if self.chosen:
            return self.chosen
        return max(range(1, self.epochs + 1), key=self._goodness)

    @property
    def before(self) -> int:
        """Give the last epoch before the last third."""
        return self.epochs - max(1, round(self.epochs / 3))

    @property
    def kept(self) -> bool:
        """Tell whether no epoch beat the start."""
        if self.chosen is not None:
            return self.chosen == 0
        return self._goodness(self.best) <= self._goodness(0)

    def _goodness(self, epoch: int) -> tuple[float, float]:
        """Rank an epoch by top-1, then by loss: larger is better."""
        # negative, because a lower loss is better
        return self.select_top1[epoch], -self.select_loss[epoch]

    @property
    def start(self) -> str:
        """Say in words what epoch 0 is, with its top-1."""
        head = "the linear probe" if self.probe else "the untrained head"
        return f"{head} ({self.select_top1[0]:.1%} on select)"

    @property
    def guessing(self) -> float:
        """Give the loss of giving every class the same probability, whatever the label
        smoothing."""
        # of one class it would be 0, and diagnoses are multiples of it
        return math.log(max(2, self.classes))

    def differ(self, difference: float) -> bool:
        """Tell whether a difference of two top-1 is more than noise."""
        return difference > 2 * standard_error(self.select_top1[self.best], self.pictures)


def history_of(series: Events, report: Report) -> History:
    """Read the history from `Finished.series` (metrics.jsonl) and report.json."""
    top1, loss = dict(series["select/top1"]), dict(series["select/loss"])
    means, best = epoch_means(series, "train/loss"), report.best
    training = None
    if "train/plain_top1" in series:
        training = series["train/plain_top1"][-1][1], int(series["train/plain_pictures"][-1][1])
    return History(
        train_loss=means,
        select_loss=tuple(map(loss.__getitem__, top1)),
        select_top1=tuple(top1.values()),
        pictures=best.pictures,
        classes=len(report.per_class),
        steps_per_epoch=max(top1) // max(1, len(means)),
        probe=report.probe is not None,
        training=training,
        chosen=None if best.balanced is None else best.epoch,
    )


def epoch_means(series: Events, name: str) -> tuple[float, ...]:
    """Average a value over epochs 1, 2, ...; each value is itself the mean of the steps since the
    one before it."""
    start, *ends = dict(series["select/top1"])
    sums, steps = [0.0] * len(ends), [0] * len(ends)
    for (before, _), (step, value) in pairwise([(0, 0.0), *series.get(name, ())]):
        epoch = bisect_left(ends, step)
        if step > start and epoch < len(ends):
            # weighted by the steps that a value stands for, as the last of an epoch may stand for
            # fewer
            sums[epoch] += (step - before) * value
            steps[epoch] += step - before
    return tuple(map(truediv, sums, steps))


def standard_error(share: float, pictures: int) -> float:
    """Compute the standard error of a share; one right and one wrong answer are added (Laplace), so
    that 0 and 100 % have one too."""
    p = (share * pictures + 1) / (pictures + 2)
    return math.sqrt(p * (1 - p) / (pictures + 2))
