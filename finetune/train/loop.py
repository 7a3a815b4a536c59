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
from finetune.train.schedule import schedule as schedule_of
from finetune.train.step import Job, TrainingParts, prepare_training, restore, train_mode, update
from zoo.host import console
from zoo.host.errors import UserError

LOG_EVERY = 10
"""Steps between two readings of the losses; each reading waits for the device."""


def train(job: Job, state: checkpoint.State) -> checkpoint.Best:
    """Train from `state` to the end of the recipe, and give the best weights by top-1 on select.

    Raises `signals.Stopped` after a signal, once the current step is finished and saved.
    """
    model, recipe = job.model, job.recipe
    per_epoch = steps_per_epoch(len(job.pictures), recipe.batch_size)
    schedule = schedule_of(recipe, steps_per_epoch=per_epoch)
    total_steps, size = schedule.total_steps, recipe.batch_size
    parts, saver = prepare_training(job), Saver(job.folder, state)
    best, tuned, step = state.best, state.tuned, state.step
    unread = restore(state, model, parts)
    if next(model.parameters()).device.type != "cpu":
        job = memory.fitted(job, parts)
    epoch_steps: list[torch.Tensor] = []
    note, epoch_start = f"best top-1 {best.scores.top1:.1%}", monotonic()

    with (
        closing(Events(job.folder, position=state.events_position, step=state.step)) as events,
        console.bar("training", total_steps * size, done=state.step * size) as advance,
        signals.held() as signal_number,
    ):

        def state_now() -> checkpoint.State:
            return checkpoint.State(
                step, events.position(), best, parts.tensors(model, unread), tuned, state.about
            )

        train_mode(model, recipe)
        batches = training_batches(job.pictures, job.source, recipe, state.step)
        try:
            # `step` steps are done: look at them, save them if it is time, then make the next one
            for step in range(state.step, total_steps + 1):
                # agreed, as a signal may have reached one process only
                if number := distributed.most(signal_number()):
                    raise signals.Stopped(number)
                epoch = epochs_done(step, per_epoch)
                ended = step == epoch_end(epoch, per_epoch)
                if unread and (ended or step % LOG_EVERY == 0):
                    rows_S3, means = read_losses(unread, step)
                    epoch_steps.append(rows_S3)
                    if ended:
                        seconds = monotonic() - epoch_start
                        scores = evaluated(job, parts)
                    note = f"loss {rows_S3[-1, 0]:.3f}  best top-1 {best.scores.top1:.1%}"
                    # after the evaluation: a signal during it saves them with the state
                    unread.clear()
                    events.write(step, **means, **{"train/lr": schedule.lr(step - 1)})
                    if ended:
                        events.write(step, **scores.events())
                        if tuned is None or scores.better_than(tuned.scores):
                            tuned = checkpoint.Tuned(scores, step)
                        if is_best(recipe, scores, best):
                            network = parts.judged(model)
                            best = checkpoint.save_best(job.folder, network, scores, step)
                        report_epoch(epoch, recipe, torch.cat(epoch_steps), scores, seconds)
                        # the evaluation left the model in evaluation mode
                        train_mode(model, recipe)
                        epoch_start = monotonic()
                        epoch_steps.clear()
                early = ended and out_of_patience(recipe, tuned, step=step, per_epoch=per_epoch)
                last = early or step == total_steps
                if last and step > state.step:
                    events.write(step, **training_scores(job, parts))
                # losses that were read are in the log, and need no place in the checkpoint
                if not unread and saver.due(epoch_ended=ended, last=last):
                    saver.save(state_now())
                if last:
                    break
                set_rate(parts.optimizer, schedule.lr(step))
                unread.append(update(job, next(batches), parts, epoch, step))
                advance(size, note=f"epoch {epoch + 1}/{recipe.epochs}  {note}")
        except signals.Stopped as stopped:
            saver.save(state_now())
            leftovers.mark_stopped(job.folder, stopped.name, step)
            distributed.wait()  # the other processes must not exit before rank 0 has saved
            raise
    if step < total_steps:
        say_out_of_patience(recipe, epoch)
    return best


def say_out_of_patience(recipe: Recipe, epoch: int) -> None:
    """Print why the run ended after `epoch` epochs, before its last step."""
    console.say(
        f"stopped before epoch {epoch + 1}: {recipe.patience} epochs brought nothing better"
    )


def evaluated(job: Job, parts: TrainingParts) -> Scores:
    """Score the network at the end of an epoch; if there is only one process, a signal ends this at
    once."""
    # nothing is lost: the losses of this epoch are not written yet, so a run that goes on evaluates
    # again. One of several processes cannot leave alone, because the others would wait for it
    with signals.raised() if distributed.world() == 1 else nullcontext():
        return job.evaluate(parts.judged(job.model))


def is_best(recipe: Recipe, scores: Scores, best: checkpoint.Best) -> bool:
    """Tell whether an epoch's weights replace the best ones so far."""
    # a head that no probe fitted may be right by luck on few pictures, and nobody wants it
    untrained = best.step == 0 and recipe.probe != "on"
    return untrained or scores.better_than(best.scores)


def out_of_patience(
    recipe: Recipe, tuned: checkpoint.Tuned | None, *, step: int, per_epoch: Fraction
) -> bool:
    """Tell whether `patience` epochs in a row were no better than the best fine-tuned epoch.

    The probe, at step 0, is no such epoch: a run whose accuracy still rises towards that of its
    probe goes on.
    """
    # only what a checkpoint holds decides, so that a run that goes on stops at the same epoch
    if tuned is None:
        return False
    since = epochs_done(step, per_epoch) - epochs_done(tuned.step, per_epoch)
    return bool(recipe.patience) and tuned.step > 0 and since >= recipe.patience


def training_scores(job: Job, parts: TrainingParts) -> dict[str, float]:
    """Score the network at the end of the run on training pictures as deployment sees them: only
    this can be held against select, as training itself shows them augmented and mixed."""
    if job.evaluate_training is None:
        return {}
    scores = job.evaluate_training(parts.judged(job.model))
    return {"train/plain_top1": scores.top1, "train/plain_pictures": scores.pictures}


def read_losses(unread: list[torch.Tensor], last: int) -> tuple[torch.Tensor, dict[str, float]]:
    """Give loss, top-1 and top-5 of each step up to `last`, [steps, 3] on the CPU, and their means
    for the log.

    Raises `UserError` if a loss is not finite.
    """
    rows_S3 = torch.stack(unread).cpu()
    losses: list[float] = rows_S3[:, 0].tolist()
    for step, loss in enumerate(losses, last - len(losses) + 1):
        if not math.isfinite(loss):
            raise UserError(
                f"the loss of step {step} is {loss}: expected a finite number. Start again in a "
                "new --out with a lower --lr (a third of it), or with --amp off if it was on."
            )
    top1, top5 = rows_S3[:, 1:].mean(0).tolist()
    loss = sum(losses) / len(losses)
    return rows_S3, {"train/loss": loss, "train/top1": top1, "train/top5": top5}


def report_epoch(
    epoch: int, recipe: Recipe, steps_S3: torch.Tensor, scores: Scores, seconds: float
) -> None:
    """Print one line for an epoch, with the means of its steps (of augmented pictures), and its
    speed in pictures per second."""
    loss, top1, _ = steps_S3.mean(0).tolist()
    rate = len(steps_S3) * recipe.batch_size / seconds
    console.say(
        f"epoch {epoch:>3}/{recipe.epochs}  train loss {loss:.3f} top-1 {top1:.1%}  "
        f"select loss {scores.loss:.3f} top-1 {scores.top1:.2%}  {rate:.0f} img/s"
    )
