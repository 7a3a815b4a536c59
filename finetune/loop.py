"""The training loop, read from top to bottom: update, log, evaluate, save."""

import math
from contextlib import closing
from time import monotonic

import torch

from finetune import progress, resume
from finetune.evaluate import Scores
from finetune.events import Events
from finetune.loader import steps_per_epoch, training_batches
from finetune.recipe import Recipe
from finetune.schedule import schedule
from finetune.step import Job, prepare, restore, train_mode, update
from zoo.errors import UserError

LOG_EVERY = 10
"""Steps between two looks at the losses (each look waits for the device)."""
SAVE_EVERY_S = 120.0
"""Seconds between two saved states within an epoch; one is saved at the end of each epoch anyway."""


def train(job: Job, state: resume.State) -> resume.Best:
    """Train from `state` to the recipe's end; the best weights by top-1 on select are kept, never a worse epoch's."""
    model, recipe = job.model, job.recipe
    per_epoch = steps_per_epoch(len(job.pictures), recipe.batch_size)
    plan = schedule(recipe, steps_per_epoch=per_epoch)
    parts = prepare(job)
    best, saved = state.best, monotonic()
    restore(state, model, parts)
    losses: list[torch.Tensor] = []
    epoch_losses: list[float] = []
    note = f"best top-1 {best.scores.top1:.1%}"
    epoch_start = monotonic()

    with closing(Events(job.folder, position=state.events_position, step=state.step)) as events, \
            progress.bar("training", plan.total_steps * recipe.batch_size,
                         done=state.step * recipe.batch_size) as advance:
        train_mode(model, recipe)
        batches = training_batches(job.pictures, job.source, recipe, state.step)
        for step, batch in enumerate(batches, state.step):
            epoch, done, lr = step // per_epoch, step + 1, plan.lr(step)
            if step % per_epoch == 0 and out_of_patience(recipe, best, done=step, per_epoch=per_epoch):
                progress.say(f"stopped before epoch {epoch + 1}: {recipe.patience} epochs brought nothing better")
                break
            for group in parts.optimizer.param_groups:
                group["lr"] = lr * group.get("lr_scale", 1.0)
            losses.append(update(job, batch, parts, epoch, step))
            advance(len(batch[1]), note=f"epoch {epoch + 1}/{recipe.epochs}  {note}")
            if done % LOG_EVERY and done % per_epoch:
                continue
            epoch_losses += log_losses(losses, events, done=done, lr=lr)
            note = f"loss {epoch_losses[-1]:.3f}  best top-1 {best.scores.top1:.1%}"
            if done % per_epoch == 0:
                rate = len(epoch_losses) * recipe.batch_size / (monotonic() - epoch_start)
                scores = job.evaluate(parts.judged(model))
                events.write(done, **{"select/top1": scores.top1, "select/loss": scores.loss})
                if scores.better_than(best.scores):
                    best = resume.save_best(job.folder, parts.judged(model), scores, done)
                report_epoch(epoch + 1, recipe, sum(epoch_losses) / len(epoch_losses), scores, rate)
                train_mode(model, recipe)
                epoch_start = monotonic()
                epoch_losses.clear()
            if done % per_epoch == 0 or monotonic() - saved > SAVE_EVERY_S:
                resume.save(job.folder, resume.State(done, events.position(), best, parts.tensors(model), state.about))
                saved = monotonic()
    return best


def out_of_patience(recipe: Recipe, best: resume.Best, *, done: int, per_epoch: int) -> bool:
    """Whether `patience` epochs in a row brought nothing better; a function of what a saved state holds."""
    return bool(recipe.patience) and (done - best.step) // per_epoch >= recipe.patience


def log_losses(losses: list[torch.Tensor], events: Events, *, done: int, lr: float) -> list[float]:
    """Record the mean loss since the last look, empty the list, give its values; stop at one that is not finite."""
    values: list[float] = torch.stack(losses).tolist()
    losses.clear()
    for step, loss in enumerate(values, done - len(values) + 1):
        if not math.isfinite(loss):
            raise UserError(f"the loss of step {step} is {loss}: expected a finite number. Start again in a new --out "
                            "with a lower --lr (a third of it), or with --amp off if it was on.")
    events.write(done, **{"train/loss": sum(values) / len(values), "train/lr": lr})
    return values


def report_epoch(epoch: int, recipe: Recipe, loss: float, scores: Scores, rate: float) -> None:
    """One line per epoch."""
    progress.say(f"epoch {epoch:>3}/{recipe.epochs}  train loss {loss:.3f}  select loss {scores.loss:.3f}  "
                 f"top-1 {scores.top1:.2%}  {rate:.0f} img/s")
