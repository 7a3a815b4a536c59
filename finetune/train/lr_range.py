"""Learning-rate range test: a short training whose rate rises from one step to the next, and what
its curve suggests.

After Smith, "Cyclical Learning Rates for Training Neural Networks" (WACV 2017), with a rate that
rises exponentially. The model ends as it began: the test changes nothing but the learning rate of
the recipe.
"""

import dataclasses
import math

import numpy as np

from finetune.data.loader import steps_per_epoch, training_batches
from finetune.evaluation.lr_curve import PER_DECADE, Curve, suggest
from finetune.machine import distributed
from finetune.presets import resolve
from finetune.recipe.facts import Facts, Given
from finetune.recipe.resolved import Resolved
from finetune.run_folder.events import Events
from finetune.train import memory
from finetune.train.optimizer import set_rate
from finetune.train.step import Job, TrainingParts, prepare_training, train_mode, update
from zoo.host import console
from zoo.host.errors import UserError

FIND = "find"
"""Value of `lr` in what was given by hand that asks for a range test."""
LOWEST, HIGHEST, STEPS = 1e-6, 10.0, 105
"""The rate of the first and of the last step, and their number: 15 steps for each factor of ten."""


def without_find(given: Given) -> Given:
    """What was given by hand, without `--lr find`."""
    return {name: value for name, value in given.items() if (name, value) != ("lr", FIND)}


def resolved(facts: Facts, given: Given) -> Resolved:
    """`resolve.resolve`; with `--lr find` the rate is the recipe's own until `find_rate` has
    measured."""
    chosen = resolve.resolve(facts, without_find(given))
    if given.get("lr") == FIND and chosen.recipe.probe_only:
        raise UserError("--lr find has no effect with --probe-only: remove one of them.")
    return chosen


def find_rate(job: Job, resolved: Resolved, events: Events) -> Resolved:
    """Measure, record the curve as events, and give the recipe with the suggested rate."""
    curve = range_test(job)
    for step, (lr, loss) in enumerate(zip(curve.lr, curve.loss, strict=True), 1):
        events.write(step, **{"range/lr": lr, "range/loss": loss})
    suggestion = suggest(curve)
    return resolved.replace(suggestion.why, lr=suggestion.lr)


def range_test(job: Job) -> Curve:
    """Train for up to STEPS steps at rates from LOWEST to HIGHEST, then put the model's weights
    back.

    The steps are those of the run itself (its batches, augmentation, optimiser and precision, at
    full size); it stops once the loss is not finite, or has risen by that of guessing.
    """
    model = job.model
    # state_dict has the model's own tensors, which the steps change
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    epochs = math.ceil(STEPS / steps_per_epoch(len(job.pictures), job.recipe.batch_size))
    recipe = dataclasses.replace(job.recipe, epochs=epochs, ema=0.0, start_size=0, compile="off")
    job = dataclasses.replace(job, recipe=recipe)
    parts = prepare_training(job)
    if next(model.parameters()).device.type != "cpu":
        # as in the run that follows: in parts, where the batch does not fit
        job = memory.fitted(job, parts)
    rates = np.geomspace(LOWEST, HIGHEST, STEPS).tolist()
    losses = _losses_at(rates, job, parts)
    model.load_state_dict(before)
    finite = [loss for loss in losses if math.isfinite(loss)]
    return Curve(tuple(rates[: len(finite)]), tuple(finite))


def _losses_at(rates: list[float], job: Job, parts: TrainingParts) -> list[float]:
    """The loss of a step at each of the rates, up to the one at which it ran away."""
    losses: list[float] = []
    train_mode(job.model, job.recipe)
    batches = training_batches(job.pictures, job.source, job.recipe, 0)
    with console.bar("learning-rate range", STEPS) as advance:
        # the batches go on to the end of an epoch, the rates do not
        for step, (batch, lr) in enumerate(zip(batches, rates, strict=False)):
            set_rate(parts.optimizer, lr)
            # agreed, so that all processes stop after the same step, whatever their devices round
            losses.append(distributed.of_first(update(job, batch, parts, 0, step)[0].item()))
            advance(1, note=f"lr {lr:.1e}  loss {losses[-1]:.3f}")
            # log(classes) is the loss of guessing
            if not math.isfinite(losses[-1]) or ran_away(losses, math.log(max(2, parts.classes))):
                break
    return losses


def ran_away(losses: list[float], rise: float) -> bool:
    """Whether the mean of the last five losses is above the first five's and the lowest five's by
    `rise`."""
    if len(losses) < PER_DECADE:
        return False
    means = np.convolve(losses, np.full(5, 0.2), "valid")
    return bool(means[-1] > max(means[0], means.min()) + rise)
