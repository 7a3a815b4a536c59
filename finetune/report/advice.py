"""What the curves advise, in words and as changes of the recipe: pure functions of a run's
history.

The curves get one diagnosis, the first of `DIAGNOSES` that fits, so no advice contradicts another.
A difference of two top-1 counts if it is above two standard errors of one (not of two: both are
measured on the same pictures).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from finetune.recipe.fields import ROWS, flag_of
from zoo.contract.report import Report
from zoo.host.text import shell

ENOUGH_STEPS, ENOUGH_EPOCHS = 100, 4
"""The least that `auto.auto` gives: 15 epochs of 200 pictures in batches of 32; 4 epochs of a
million."""
STRONGER = {
    "erasing": (0.25, 0.5),
    "label_smoothing": (0.1,),
    "crop_area": (0.5, 0.25, 0.08),
    "weight_decay": (0.1,),
}
"""Usual strengths, milder first. Erasing 0.5: Zhong et al., 2020; smoothing 0.1 and crops from 8 %
of the area: Szegedy et al., 2016 and 2015; AdamW's decay: Steiner et al., 2021."""
Values = Mapping[str, Any]
"""Field of `Recipe` -> the run's value. A field that is missing is never proposed."""


@dataclass(frozen=True)
class Advice:
    """One thing to do."""

    finding: str
    """What was seen, with the numbers."""
    do: str
    """What to do, and why it should help."""
    changes: Mapping[str, float | str] = field(default_factory=dict)
    """Field of `Recipe` -> its new value in the next run; empty if no flag does it."""

    @property
    def words(self) -> dict[str, str]:
        """The new values as they are typed on the command line."""
        return {name: typed(value) for name, value in self.changes.items()}

    @property
    def flags(self) -> str:
        """The changes as a part of a command: `--epochs 20 --erasing 0.5`."""
        return " ".join(f"{flag_of(name)} {shell(word)}" for name, word in self.words.items())


def typed(value: float | str) -> str:
    """A value of the recipe as it is typed: numbers without a needless `.0`."""
    return value if isinstance(value, str) else f"{value:.10g}"


@dataclass(frozen=True)
class History:
    """Curves by epoch. Epoch 0 is the model before the first step: the probe's, or the base with a
    random head."""

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
        """The best epoch after the start, by `Scores.better_than`."""
        if self.chosen:
            return self.chosen
        return max(
            range(1, self.epochs + 1), key=lambda e: (self.select_top1[e], -self.select_loss[e])
        )

    @property
    def before(self) -> int:
        """The last epoch before the last third."""
        return self.epochs - max(1, round(self.epochs / 3))

    @property
    def kept(self) -> bool:
        """Whether no epoch beat the start."""
        if self.chosen is not None:
            return self.chosen == 0
        best, start = ((self.select_top1[e], -self.select_loss[e]) for e in (self.best, 0))
        return best <= start

    @property
    def start(self) -> str:
        return (
            f"{'the linear probe' if self.probe else 'the untrained head'} "
            f"({self.select_top1[0]:.1%} on select)"
        )

    @property
    def guessing(self) -> float:
        """The loss of giving every class the same probability, whatever the label smoothing."""
        return math.log(max(2, self.classes))

    def differ(self, difference: float) -> bool:
        """Whether a difference of two top-1 is more than noise."""
        return difference > 2 * standard_error(self.select_top1[self.best], self.pictures)


def history(series: Mapping[str, Sequence[tuple[int, float]]], report: Report) -> History:
    """From `Finished.series` (metrics.jsonl) and report.json."""
    top1, loss = dict(series["select/top1"]), dict(series["select/loss"])
    means, best = epoch_means(series, "train/loss"), report.best
    return History(
        means,
        tuple(loss[step] for step in top1),
        tuple(top1.values()),
        best.pictures,
        len(report.per_class),
        max(top1) // max(1, len(means)),
        report.probe is not None,
        None if best.balanced is None else best.epoch,
    )


def epoch_means(series: Mapping[str, Sequence[tuple[int, float]]], name: str) -> tuple[float, ...]:
    """Means of a value over epochs 1, 2, ...; each value is itself the mean of the steps since the
    one before it."""
    values = [
        (step, step - before, value)
        for (before, _), (step, value) in pairwise([(0, 0.0), *series.get(name, ())])
    ]
    parts = [
        [(n, value) for step, n, value in values if begin < step <= end]
        for begin, end in pairwise(dict(series["select/top1"]))
    ]
    return tuple(sum(n * value for n, value in part) / sum(n for n, _ in part) for part in parts)


def standard_error(share: float, pictures: int) -> float:
    """Of a share; one right and one wrong answer are added (Laplace), so that 0 and 100 % have one
    too."""
    p = (share * pictures + 1) / (pictures + 2)
    return math.sqrt(p * (1 - p) / (pictures + 2))


def changes(values: Values, **new: float) -> dict[str, float]:
    """The new values, without those that the recipe has already or that are out of bounds."""
    return {
        name: value
        for name, value in new.items()
        if value != values.get(name, value) and ROWS[name].low <= value <= ROWS[name].high
    }


def rate(values: Values, factor: float) -> dict[str, float]:
    """The learning rate times a factor, to two digits."""
    return changes(values, lr=float(f"{factor * values.get('lr', 0.0):.2g}"))


def stronger(values: Values) -> dict[str, float]:
    """The next usual strength of the first two regularisers that have one."""
    new: dict[str, float] = {}
    for name, strengths in STRONGER.items():
        sign = -1 if name == "crop_area" else 1
        above = [
            value for value in strengths if name in values and sign * value > sign * values[name]
        ]
        # Adam's and SGD's weight decay is on another scale than AdamW's
        if (
            above
            and len(new) < 2
            and (name != "weight_decay" or values.get("optimizer") == "adamw")
        ):
            new[name] = above[0]
    return changes(values, **new)


def curves(history: History, values: Values) -> list[Advice]:
    """What the curves say; empty if they are fine, or if no epoch was trained."""
    if history.epochs:
        return next((found for rule in DIAGNOSES if (found := rule(history, values))), [])
    only_probe = Advice(
        "Only the linear probe was fitted.", "Fine-tune as well: remove --probe-only."
    )
    return [only_probe] if values.get("probe_only") else []


def diverged(h: History, values: Values) -> list[Advice]:
    """Losses far above guessing, a jump of the training loss, or a start that was lost for good.

    A fall below the probe in the first epochs is usual (measured on digits: 95 %, 76 %, 85 %, 96
    %), so only one that lasts counts, and not that of a run of a few steps.
    """
    losses, enough = (
        (*h.train_loss, *h.select_loss[1:]),
        h.epochs * h.steps_per_epoch >= ENOUGH_STEPS,
    )
    jump = max((h.train_loss[e] - min(h.train_loss[:e]) for e in range(1, h.epochs)), default=0.0)
    if not all(map(math.isfinite, losses)) or max(losses) > 3 * h.guessing:
        seen = f"A loss rose above three times that of guessing (ln {h.classes} = {h.guessing:.2f})"
    elif enough and jump > h.guessing / 4:
        seen = f"The training loss jumped up by {jump:.2f}"
    elif enough and h.kept and max(h.select_top1[h.before + 1 :]) < 0.75 * h.select_top1[0]:
        seen = f"Training fell from {h.start} to {h.select_top1[-1]:.1%} and did not recover"
    else:
        return []
    return [
        Advice(
            f"{seen}: the learning rate is too high.",
            "Train with a third of it: large steps destroy what the base has learned.",
            rate(values, 1 / 3),
        )
    ]


def too_short(h: History, values: Values) -> list[Advice]:
    """Short trainings fall below the probe (measured on emoji: 3 epochs, at rates of 3e-4 and
    1e-3): that tells nothing about the rate."""
    steps = h.epochs * h.steps_per_epoch
    if not h.kept or (h.epochs >= ENOUGH_EPOCHS and steps >= ENOUGH_STEPS):
        return []
    epochs = max(2 * h.epochs, ENOUGH_EPOCHS, math.ceil(ENOUGH_STEPS / h.steps_per_epoch))
    return [
        Advice(
            f"Nothing beat {h.start} in {h.epochs} x {h.steps_per_epoch} steps of training.",
            "Train longer: the first steps cost accuracy before later ones gain it.",
            changes(values, epochs=epochs),
        )
    ]


def too_low(h: History, values: Values) -> list[Advice]:
    """The training loss is near that of guessing, or above half of it with nothing gained, and it
    hardly falls."""
    first, last = h.train_loss[0], h.train_loss[-1]
    gained = h.differ(h.select_top1[h.best] - h.select_top1[0])
    if h.epochs == 1 or last < 0.9 * first or last < (0.8 if gained else 0.5) * h.guessing:
        return []
    return [
        Advice(
            f"The training loss is high and hardly moved ({first:.2f} to {last:.2f}): the learning "
            "rate is too low.",
            "Train with three times the rate: each step then goes further.",
            rate(values, 3),
        )
    ]


def underfitted(h: History, values: Values) -> list[Advice]:
    """One of the last two epochs is the best, and both curves got better over the last third (or,
    if nothing beat the start yet, since the worst epoch)."""
    since = min(range(1, h.epochs + 1), key=h.select_top1.__getitem__) if h.kept else h.before
    gain = h.select_top1[h.best] - h.select_top1[since]
    falling = h.before == 0 or h.train_loss[-1] < h.train_loss[h.before - 1]
    if not (
        falling
        and h.differ(gain)
        and h.select_loss[h.best] < h.select_loss[since]
        and h.best >= h.epochs - 1
    ):
        return []
    return [
        Advice(
            f"Training ended too early: top-1 on select gained {100 * gain:.1f} points after epoch "
            f"{since} of {h.epochs}, and the training loss was still falling.",
            "Train twice as long: there is more to learn from these pictures.",
            changes(values, epochs=2 * h.epochs),
        )
    ]


def unhelpful(h: History, values: Values) -> list[Advice]:
    """Enough training, and yet nothing better than the start (Kumar et al., Fine-Tuning can Distort
    Pretrained Features and Underperform Out-of-Distribution, 2022)."""
    if not h.kept:
        return []
    if h.probe and not h.differ(1 - h.select_top1[0]):
        return [
            Advice(
                f"No epoch beat {h.start}, which leaves no gain to be measured on {h.pictures:,} "
                "pictures.",
                "Keep this result, or add validation pictures, harder ones.",
            )
        ]
    return [
        Advice(
            f"No epoch of {h.epochs} beat {h.start}.",
            "Train with a third of the learning "
            "rate: gentler steps keep more of what the base has learned.",
            rate(values, 1 / 3),
        )
    ]


def overfitted(h: History, values: Values) -> list[Advice]:
    """After its best the model gets worse on select while the training loss falls on.

    Worse: the loss rises three epochs in a row, in all by more than a twentieth (a flat end wavers
    by less), or top-1 stays below its best throughout the last third. Fewer epochs are no cure
    where only the loss rises and top-1 does not fall (Guo et al., On Calibration of Modern Neural
    Networks, 2017).
    """
    low = min(range(1, h.epochs + 1), key=h.select_loss.__getitem__)
    rising = low + 3 <= h.epochs and all(a < b for a, b in pairwise(h.select_loss[low : low + 4]))
    last = max(h.select_top1[h.before + 1 :])
    if rising and h.select_loss[-1] > 1.05 * h.select_loss[low]:
        since, seen = (
            low,
            f"loss on select rose from {h.select_loss[low]:.3f} to {h.select_loss[-1]:.3f}",
        )
    elif h.differ(h.select_top1[h.best] - last):
        since, seen = h.best, f"top-1 on select fell from {h.select_top1[h.best]:.1%} to {last:.1%}"
    else:
        return []
    if h.train_loss[-1] >= h.train_loss[since - 1]:
        return []
    harder = stronger(values)
    do = (
        "Vary the pictures and targets more, and add pictures if you can: that is harder to learn "
        "by heart."
        if harder
        else "Add training pictures: the recipe already varies them as much as is usual."
    )
    found = [
        Advice(
            f"After epoch {since} of {h.epochs} the {seen} while the training loss fell: the model "
            "learns its training pictures by heart.",
            do,
            harder,
        )
    ]
    epochs = max(h.best + 1, since + 1, math.ceil(ENOUGH_STEPS / h.steps_per_epoch))
    shares = all(
        "%" in part
        for name in ("warmup", "decay_at")
        for part in (values.get(name) or "%").split(",")
    )
    if shares and epochs < h.epochs:  # a warm-up of 5 epochs does not fit into a run of 3
        found.append(
            Advice(
                f"The epochs after {epochs - 1} gained nothing.",
                "Or train shorter: the learning rate then falls before the overfitting begins.",
                changes(values, epochs=epochs),
            )
        )
    return found


DIAGNOSES: tuple[Callable[[History, Values], list[Advice]], ...] = (
    diverged,
    too_short,
    too_low,
    underfitted,
    unhelpful,
    overfitted,
)
"""The first that fits is the diagnosis."""
