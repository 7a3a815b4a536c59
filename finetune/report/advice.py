"""What the curves of a run advise, in words and as changes of the recipe: pure functions of its
history.

The curves get one diagnosis, the first of `DIAGNOSES` that fits, so no advice contradicts another.
A difference of two top-1 counts if it is above two standard errors of one (not of two: both are
measured on the same pictures).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate, pairwise, starmap
from operator import lt, sub

from finetune.presets.regularisation import Values, changes, milder, stronger
from finetune.recipe.fields import flag_of
from finetune.report.history import History, standard_error
from zoo.host.text import shell

ENOUGH_STEPS, ENOUGH_EPOCHS = 100, 4
"""The least that `auto` gives without a GPU: 15 epochs of 200 pictures in batches of 32, and 4 of
a million."""


@dataclass(frozen=True)
class Advice:
    """Says one thing to do."""

    finding: str
    """What was seen, with the numbers."""
    do: str
    """What to do, and why it should help."""
    changes: Mapping[str, float | str] = field(default_factory=dict)
    """Field of `Recipe` -> its new value in the next run; empty if no flag does it."""

    @property
    def words(self) -> dict[str, str]:
        """Give the new values as they are typed on the command line."""
        return {name: typed(value) for name, value in self.changes.items()}

    @property
    def flags(self) -> str:
        """Print the changes as a part of a command: `--epochs 20 --erasing 0.5`."""
        return " ".join(f"{flag_of(name)} {shell(word)}" for name, word in self.words.items())


def typed(value: float | str) -> str:
    """Print a value of the recipe as it is typed: numbers without a needless `.0`."""
    return value if isinstance(value, str) else f"{value:.10g}"


def rate(values: Values, factor: float) -> dict[str, float]:
    """Multiply the learning rate by a factor, to two digits."""
    return changes(values, lr=float(f"{factor * values.get('lr', 0.0):.2g}"))


def curves(history: History, values: Values) -> list[Advice]:
    """Say what the curves advise; nothing if they are fine, or if no epoch was trained."""
    # the first that fits, as a second diagnosis could ask for the opposite
    if history.epochs:
        for rule in DIAGNOSES:
            if found := rule(history, values):
                return found
    elif values.get("probe_only"):
        return [
            Advice("Only the linear probe was fitted.", "Fine-tune as well: remove --probe-only.")
        ]
    return []


def diverged(h: History, values: Values) -> list[Advice]:
    """Recognise losses far above guessing, a jump of the training loss, or a start that was lost
    for good.

    A fall below the probe in the first epochs is usual (measured on digits: 95 %, 76 %, 85 %, 96
    %), so only one that lasts counts, and not that of a run of a few steps.
    """
    # epoch 0 is the model before training, which no rate has harmed
    losses = (*h.train_loss, *h.select_loss[1:])
    enough = h.epochs * h.steps_per_epoch >= ENOUGH_STEPS
    lowest_so_far = accumulate(h.train_loss, min)
    # of each epoch after the first, above the lowest of those before it
    jump = max(map(sub, h.train_loss[1:], lowest_so_far), default=0.0)
    if not all(map(math.isfinite, losses)) or max(losses) > 3 * h.guessing:
        finding = (
            f"A loss rose above three times that of guessing (ln {h.classes} = {h.guessing:.2f})"
        )
    elif enough and jump > h.guessing / 4:
        finding = f"The training loss jumped up by {jump:.2f}"
    elif enough and h.kept and max(h.select_top1[h.before + 1 :]) < 0.75 * h.select_top1[0]:
        finding = f"Training fell from {h.start} to {h.select_top1[-1]:.1%} and did not recover"
    else:
        return []
    return [
        Advice(
            f"{finding}: the learning rate is too high.",
            "Train with a third of it: large steps destroy what the base has learned.",
            rate(values, 1 / 3),
        )
    ]


def too_short(h: History, values: Values) -> list[Advice]:
    """Recognise that the training was short: such trainings fall below the probe (measured on
    emoji: 3 epochs, at rates of 3e-4 and 1e-3), which tells nothing about the rate."""
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
    """Recognise a training loss near that of guessing, or above half of it with nothing gained,
    that hardly falls."""
    first, last = h.train_loss[0], h.train_loss[-1]
    gained = h.differ(h.select_top1[h.best] - h.select_top1[0])
    usual = (0.8 if gained else 0.5) * h.guessing
    if h.epochs == 1 or last < 0.9 * first or last < usual:
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
    """Recognise that one of the last two epochs is the best, and that both curves got better over
    the last third (or, if nothing beat the start yet, since the worst epoch)."""
    since = h.before
    if h.kept:
        since = min(range(1, h.epochs + 1), key=h.select_top1.__getitem__)
    gain = h.select_top1[h.best] - h.select_top1[since]
    # before the first epoch there is no training loss to compare with
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


def too_strong(h: History, values: Values) -> list[Advice]:
    """Recognise that the model answers training pictures, as they are, worse than those of select:
    regularisation keeps it from learning them (PaddleClas, Tricks for Training, section 2.2.8).

    Top-1 during the epochs tells nothing of this, as augmented and mixed pictures are harder.
    """
    if h.training is None:
        return []
    top1, pictures = h.training
    last = h.select_top1[-1]
    # of two samples, so both have their errors
    error = math.hypot(standard_error(top1, pictures), standard_error(last, h.pictures))
    if last - top1 <= 2 * error:
        return []
    weaker = milder(values)
    do = "Train longer or from a larger base: nothing in the recipe is left to be weakened."
    if weaker:
        do = (
            "Decay the weights less, vary pictures less, and smooth no labels: the model then fits."
        )
    return [
        Advice(
            f"Top-1 on {pictures:,} training pictures, not augmented, ends at {top1:.1%}, below "
            f"the {last:.1%} on select: the recipe regularises too much.",
            do,
            weaker,
        )
    ]


def nothing_to_gain(h: History, values: Values) -> list[Advice]:
    """Recognise a probe that was not beaten and that no training could beat measurably."""
    if not (h.kept and h.probe) or h.differ(1 - h.select_top1[0]):
        return []
    return [
        Advice(
            f"No epoch beat {h.start}, which leaves no gain to be measured on {h.pictures:,} "
            "pictures.",
            "Keep this result, or add validation pictures, harder ones.",
        )
    ]


def unhelpful(h: History, values: Values) -> list[Advice]:
    """Recognise that training was long enough and yet nothing was better than the start (Kumar et
    al., Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution, 2022)."""
    if not h.kept:
        return []
    return [
        Advice(
            f"No epoch of {h.epochs} beat {h.start}.",
            "Train with a third of the learning "
            "rate: gentler steps keep more of what the base has learned.",
            rate(values, 1 / 3),
        )
    ]


def overfitted(h: History, values: Values) -> list[Advice]:
    """Recognise that after its best the model gets worse on select while the training loss falls
    on.

    Worse: the loss rises three epochs in a row, in all by more than a twentieth (a flat end wavers
    by less), or top-1 stays below its best throughout the last third. Fewer epochs are no cure
    where only the loss rises and top-1 does not fall (Guo et al., On Calibration of Modern Neural
    Networks, 2017).
    """
    since, worse = _got_worse(h)
    if not worse or h.train_loss[-1] >= h.train_loss[since - 1]:
        return []
    harder = stronger(values)
    do = "Add training pictures: the recipe already varies them as much as is usual."
    if harder:
        do = (
            "Vary the pictures and targets more, and add pictures if you can: that is harder to "
            "learn by heart."
        )
    by_heart = Advice(
        f"After epoch {since} of {h.epochs} the {worse} while the training loss fell: the model "
        "learns its training pictures by heart.",
        do,
        harder,
    )
    epochs = max(h.best + 1, since + 1, math.ceil(ENOUGH_STEPS / h.steps_per_epoch))
    # a warm-up of 5 epochs does not fit into a run of 3
    if epochs >= h.epochs or not (_in_shares(values, "warmup") and _in_shares(values, "decay_at")):
        return [by_heart]
    shorter = Advice(
        f"The epochs after {epochs - 1} gained nothing.",
        "Or train shorter: the learning rate then falls before the overfitting begins.",
        changes(values, epochs=epochs),
    )
    return [by_heart, shorter]


def _got_worse(h: History) -> tuple[int, str]:
    """Find the epoch after which the model got worse on select, and say in what; no words if it did
    not."""
    low = min(range(1, h.epochs + 1), key=h.select_loss.__getitem__)
    # four losses in rising order are three rises
    rising = low + 3 <= h.epochs and all(starmap(lt, pairwise(h.select_loss[low : low + 4])))
    if rising and h.select_loss[-1] > 1.05 * h.select_loss[low]:
        first, last = h.select_loss[low], h.select_loss[-1]
        return low, f"loss on select rose from {first:.3f} to {last:.3f}"
    best, late = h.select_top1[h.best], max(h.select_top1[h.before + 1 :])
    if h.differ(best - late):
        return h.best, f"top-1 on select fell from {best:.1%} to {late:.1%}"
    return h.epochs, ""


def _in_shares(values: Values, name: str) -> bool:
    """Tell whether a time is given in shares of the training, or not at all."""
    times = values.get(name) or "%"
    return all("%" in time for time in times.split(","))


DIAGNOSES: tuple[Callable[[History, Values], list[Advice]], ...] = (
    diverged,
    nothing_to_gain,
    too_short,
    too_low,
    underfitted,
    too_strong,
    unhelpful,
    overfitted,
)
"""The first that fits is the diagnosis."""
