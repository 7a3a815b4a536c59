"""How long a run would take here, from a few of its own training steps."""

import dataclasses
from dataclasses import dataclass
from itertools import islice
from time import perf_counter

from finetune.data.loader import steps_per_epoch, training_batches
from finetune.train import memory
from finetune.train.optimizer import set_rate
from finetune.train.schedule import schedule
from finetune.train.step import Job, prepare_training, train_mode, update

MEASURED_STEPS = 3
"""After a first one, which is slower."""
LONGEST_S = 30.0
"""Seconds after which no further step is measured."""


@dataclass(frozen=True)
class RunTime:
    """An estimate of a run's length."""

    minutes: float
    how: str
    """What it was computed from, as a sentence."""


def estimated(job: Job, *, evaluated: int, pictures_per_s: float) -> RunTime:
    """Estimate the minutes of a job's training, and of scoring `evaluated` pictures after each
    epoch at `pictures_per_s`.

    The model's weights are changed. The time without early stopping is given; reading the data,
    the report and the fits at the end come on top.
    """
    recipe = job.recipe
    scoring_s = evaluated / pictures_per_s
    if recipe.probe_only:
        return RunTime(scoring_s / 60, "Only the linear probe is fitted: the time of its scores.")
    rates = schedule(recipe, steps_per_epoch=steps_per_epoch(len(job.pictures), recipe.batch_size))
    step_s, count = _step_seconds(job)
    total_s = rates.total_steps * step_s + recipe.epochs * scoring_s
    return RunTime(
        total_s / 60,
        f"{rates.total_steps:,} steps of {step_s:.2g} s, measured on {count} of them on this "
        f"machine, and {recipe.epochs} times scoring {evaluated:,} pictures at "
        f"{pictures_per_s:.0f} pictures/s. Reading the data, and fits and report at the end, come "
        "on top; a run that gets no better stops earlier.",
    )


def _step_seconds(job: Job) -> tuple[float, int]:
    """Make a few training steps: (seconds of one, number measured)."""
    # a compiled network would be waited for, and a growing side would begin with the fastest steps
    recipe = dataclasses.replace(job.recipe, start_size=0, compile="off")
    job = dataclasses.replace(job, recipe=recipe)
    parts = prepare_training(job)
    if next(job.model.parameters()).device.type != "cpu":
        job = memory.fitted(job, parts)
    train_mode(job.model, recipe)
    # a rate of zero would do as well, but some optimisers divide by it
    set_rate(parts.optimizer, 1e-6)
    batches = training_batches(job.pictures, job.source, recipe, 0)
    seconds: list[float] = []
    began = perf_counter()
    for step in range(MEASURED_STEPS + 1):
        start = perf_counter()
        for batch in islice(batches, 1):
            # `item` waits for the device
            update(job, batch, parts, 0, step)[0].item()
            seconds.append(perf_counter() - start)
        if perf_counter() - began > LONGEST_S:
            break
    measured = seconds[1:] or seconds
    return sum(measured) / len(measured), len(measured)
