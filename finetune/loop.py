"""The training loop, read from top to bottom: update, log, evaluate, save."""

import math
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from finetune import progress, resume
from finetune.augment import erase, normalise, seed_everything
from finetune.dataset import Picture
from finetune.evaluate import Scores
from finetune.events import Events
from finetune.loader import Batch, Source, steps_per_epoch, training_batches
from finetune.optim import optimizer as make_optimizer
from finetune.recipe import Recipe
from finetune.schedule import schedule
from zoo.errors import UserError

LOG_EVERY = 10
"""Steps between two looks at the losses (each look waits for the device)."""
SAVE_EVERY_S = 120.0
"""Seconds between two saved states within an epoch; one is saved at the end of each epoch anyway."""


@dataclass(frozen=True)
class Job:
    """What a loop works on."""

    model: nn.Module
    pictures: list[Picture]
    source: Source
    recipe: Recipe
    folder: Path
    evaluate: Callable[[], Scores]
    """Scores of the model as it stands on select, in fp32."""


def train(job: Job, state: resume.State) -> resume.Best:
    """Train from `state` to the recipe's end; the best weights by top-1 on select are kept, never a worse epoch's."""
    model, recipe = job.model, job.recipe
    device = next(model.parameters()).device
    per_epoch = steps_per_epoch(len(job.pictures), recipe.batch_size)
    plan = schedule(recipe, steps_per_epoch=per_epoch)
    optimizer = make_optimizer(model, recipe)
    scaler = torch.amp.GradScaler(device.type, enabled=recipe.amp == "fp16")
    best, saved = state.best, monotonic()
    restore(state, model, optimizer, scaler)
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
            lr = plan.lr(step)
            for group in optimizer.param_groups:
                group["lr"] = lr
            losses.append(update(job, batch, optimizer, scaler, step))
            advance(len(batch[1]), note=f"epoch {step // per_epoch + 1}/{recipe.epochs}  {note}")
            done = step + 1
            if done % LOG_EVERY and done % per_epoch:
                continue
            epoch_losses += log_losses(losses, events, done=done, lr=lr)
            note = f"loss {epoch_losses[-1]:.3f}  best top-1 {best.scores.top1:.1%}"
            if done % per_epoch == 0:
                rate = len(epoch_losses) * recipe.batch_size / (monotonic() - epoch_start)
                scores = job.evaluate()
                events.write(done, **{"select/top1": scores.top1, "select/loss": scores.loss})
                if scores.better_than(best.scores):
                    best = resume.save_best(job.folder, model, scores, done)
                report_epoch(done // per_epoch, recipe, sum(epoch_losses) / len(epoch_losses), scores, rate)
                train_mode(model, recipe)
                epoch_start = monotonic()
                epoch_losses.clear()
            if done % per_epoch == 0 or monotonic() - saved > SAVE_EVERY_S:
                tensors = {"model": model.state_dict(), "optimizer": optimizer.state_dict(),
                           "scaler": scaler.state_dict()}
                resume.save(job.folder, resume.State(done, events.position(), best, tensors, state.about))
                saved = monotonic()
    return best


def update(job: Job, batch: Batch, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler,
           step: int) -> torch.Tensor:
    """One optimiser step; the loss stays on the device. All its randomness comes from (seed, step)."""
    model, recipe = job.model, job.recipe
    device = next(model.parameters()).device
    seed_everything(recipe.seed, "step", step)
    images, labels = (t.to(device, non_blocking=True) for t in batch)
    x_BCHW = erase(normalise(images, job.source.pre), recipe.erasing)
    amp = {"off": None, "bf16": torch.bfloat16, "fp16": torch.float16}[recipe.amp]
    with torch.autocast(device.type, amp, enabled=amp is not None):
        logits_BC = model(x_BCHW)
        loss = cross_entropy(logits_BC.float(), labels, label_smoothing=recipe.label_smoothing)
    optimizer.zero_grad(set_to_none=True)
    scaler.scale(loss).backward()
    if recipe.clip_norm:
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
    scaler.step(optimizer)
    scaler.update()
    return loss.detach()


def train_mode(model: nn.Module, recipe: Recipe) -> None:
    """Training mode; batch norms stay in evaluation mode when the recipe freezes their statistics."""
    model.train()
    if recipe.batch_norm == "frozen":
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()


def restore(state: resume.State, model: nn.Module, optimizer: torch.optim.Optimizer,
            scaler: torch.amp.GradScaler) -> None:
    """Put a saved state's tensors back; a state of step 0 has only the model's."""
    model.load_state_dict(state.tensors["model"])
    if state.step:
        optimizer.load_state_dict(state.tensors["optimizer"])
        scaler.load_state_dict(state.tensors["scaler"])
    state.tensors.clear()  # a large model's copy is not kept through the training


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
