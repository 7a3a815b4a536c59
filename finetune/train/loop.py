"""The training loop, read from top to bottom: update, log, evaluate, save."""

import math
from contextlib import closing, nullcontext
from fractions import Fraction
from time import monotonic

import torch

from finetune.data.loader import epoch_end, epochs_done, steps_per_epoch, training_batches
from finetune.evaluation.passes import Scores
from finetune.machine import distributed, signals
from finetune.recipe.fields import Recipe
from finetune.run_folder import checkpoint, leftovers
from finetune.run_folder.events import Events
from finetune.run_folder.saver import Saver
from finetune.train import memory
from finetune.train.optimizer import set_rate
from finetune.train.schedule import schedule
from finetune.train.step import Job, Parts, prepare, restore, train_mode, update
from zoo.host import console
from zoo.host.errors import UserError

LOG_EVERY = 10
"""Steps between two looks at the losses (each look waits for the device)."""


def train(job: Job, state: checkpoint.State) -> checkpoint.Best:
    """Train from `state` to the recipe's end; the best weights by top-1 on select are kept, never a
    worse epoch's.

    The model before the first step is a candidate only where a probe gave it its head: a random
    head may be right by luck on few pictures, and nobody wants it. Patience counts from the best
    fine-tuned epoch, so a run that still rises towards its probe goes on.

    Raises `signals.Stopped` after a signal, when the step that it met is finished and saved.
    """
    model, recipe = job.model, job.recipe
    per_epoch = steps_per_epoch(len(job.pictures), recipe.batch_size)
    plan = schedule(recipe, steps_per_epoch=per_epoch)
    parts, saver = prepare(job), Saver(job.folder, state)
    best, tuned, done = state.best, state.tuned, state.step
    seen = restore(state, model, parts)
    if next(model.parameters()).device.type != "cpu":
        job = memory.fitted(job, parts)
    epoch_losses: list[float] = []
    note = f"best top-1 {best.scores.top1:.1%}"
    epoch_start = monotonic()

    with (
        closing(Events(job.folder, position=state.events_position, step=state.step)) as events,
        console.bar(
            "training", plan.total_steps * recipe.batch_size, done=state.step * recipe.batch_size
        ) as advance,
        signals.held() as asked,
    ):

        def state_now() -> checkpoint.State:
            return checkpoint.State(
                done, events.position(), best, parts.tensors(model, seen), tuned, state.about
            )

        train_mode(model, recipe)
        batches = training_batches(job.pictures, job.source, recipe, state.step)
        try:
            for done in range(state.step, plan.total_steps + 1):
                if stop := distributed.most(asked()):
                    raise signals.Stopped(stop)
                epoch = epochs_done(done, per_epoch)
                ended = done == epoch_end(epoch, per_epoch)
                if seen and (ended or done % LOG_EVERY == 0):
                    values, hits = looked_at(seen, done)
                    epoch_losses += values
                    if ended:
                        rate = len(epoch_losses) * recipe.batch_size / (monotonic() - epoch_start)
                        scores = evaluated(job, parts)
                    note = f"loss {values[-1]:.3f}  best top-1 {best.scores.top1:.1%}"
                    seen.clear()
                    events.write(done, **hits, **{"train/lr": plan.lr(done - 1)})
                    if ended:
                        events.write(done, **scores.events())
                        if tuned is None or scores.better_than(tuned.scores):
                            tuned = checkpoint.Tuned(scores, done)
                        if is_best(recipe, scores, best):
                            network = parts.judged(model)
                            best = checkpoint.save_best(job.folder, network, scores, done)
                        report_epoch(epoch, recipe, epoch_losses, scores, rate)
                        train_mode(model, recipe)
                        epoch_start = monotonic()
                        epoch_losses.clear()
                early = ended and out_of_patience(recipe, tuned, done=done, per_epoch=per_epoch)
                last = early or done == plan.total_steps
                if not seen and saver.due(epoch_ended=ended, last=last):
                    saver.save(state_now())
                if last:
                    break
                set_rate(parts.optimizer, plan.lr(done))
                seen.append(update(job, next(batches), parts, epoch, done))
                advance(recipe.batch_size, note=f"epoch {epoch + 1}/{recipe.epochs}  {note}")
        except signals.Stopped as stopped:
            saver.save(state_now())
            leftovers.mark_stopped(job.folder, stopped.name, done)
            distributed.wait()  # none leaves before rank 0 has saved
            raise
    if done < plan.total_steps:
        say_out_of_patience(recipe, epoch)
    return best


def say_out_of_patience(recipe: Recipe, epoch: int) -> None:
    """Tell why the run ended after `epoch` epochs, before all of its steps."""
    console.say(
        f"stopped before epoch {epoch + 1}: {recipe.patience} epochs brought nothing better"
    )


def evaluated(job: Job, parts: Parts) -> Scores:
    """The scores of the network at an epoch's end; a signal ends this at once, where there is one
    process."""
    # the losses are not written yet: who goes on evaluates again. One of several processes cannot
    # leave alone
    with signals.raised() if distributed.world() == 1 else nullcontext():
        return job.evaluate(parts.judged(job.model))


def is_best(recipe: Recipe, scores: Scores, best: checkpoint.Best) -> bool:
    """Whether an epoch's weights take the place of the best; a head that no probe gave always
    yields."""
    untrained = best.step == 0 and recipe.probe != "on"
    return untrained or scores.better_than(best.scores)


def out_of_patience(
    recipe: Recipe, tuned: checkpoint.Tuned | None, *, done: int, per_epoch: Fraction
) -> bool:
    """Whether `patience` epochs in a row were no better than the best fine-tuned one; step 0, the
    probe, is none.

    A function of what a saved state holds.
    """
    if tuned is None:
        return False
    since = epochs_done(done, per_epoch) - epochs_done(tuned.step, per_epoch)
    return bool(recipe.patience) and tuned.step > 0 and since >= recipe.patience


def looked_at(seen: list[torch.Tensor], done: int) -> tuple[list[float], dict[str, float]]:
    """The losses of the last steps, and the means of losses and hits as events; `UserError` at one
    not finite."""
    rows = torch.stack(seen)
    losses: list[float] = rows[:, 0].tolist()
    for step, loss in enumerate(losses, done - len(losses) + 1):
        if not math.isfinite(loss):
            raise UserError(
                f"the loss of step {step} is {loss}: expected a finite number. Start again in a "
                "new --out with a lower --lr (a third of it), or with --amp off if it was on."
            )
    top1, top5 = rows[:, 1:].mean(0).tolist()
    return losses, {"train/loss": sum(losses) / len(losses), "train/top1": top1, "train/top5": top5}


def report_epoch(
    epoch: int, recipe: Recipe, losses: list[float], scores: Scores, rate: float
) -> None:
    """One line per epoch, with the mean of its losses."""
    loss = sum(losses) / len(losses)
    console.say(
        f"epoch {epoch:>3}/{recipe.epochs}  train loss {loss:.3f}  select loss {scores.loss:.3f}  "
        f"top-1 {scores.top1:.2%}  {rate:.0f} img/s"
    )
