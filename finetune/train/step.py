"""One optimiser step, and the parts that it works with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from timm.utils import ModelEmaV3
from torch import nn
from torch.nn.functional import interpolate

from finetune.augment.batch import augment_batch
from finetune.augment.picture import normalise, seed_everything, seed_of
from finetune.data.loader import Batch, PictureSource, partners
from finetune.data.picture_columns import Picture
from finetune.evaluation.passes import Evaluate
from finetune.machine import distributed
from finetune.recipe.fields import Recipe
from finetune.run_folder import checkpoint
from finetune.run_folder.fitting_tensors import fitting
from finetune.train import ddp, sam
from finetune.train.distill import Teacher, distillation
from finetune.train.losses import Loss, disagreement, loss_function
from finetune.train.optimizer import optimizer as make_optimizer
from finetune.train.strided import without_strides
from zoo.network import of_torch

AMP = {"off": None, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Job:
    """What a loop works on."""

    model: nn.Module
    pictures: Sequence[Picture]
    source: PictureSource
    recipe: Recipe
    folder: Path
    evaluate: Evaluate
    """Scores on select, in fp32, of the model that it is given."""
    teacher: Teacher | None = None
    """Whose answers the model learns beside the labels."""
    evaluate_training: Evaluate | None = None
    """Scores on some training pictures, as deployment sees them."""


@dataclass(frozen=True)
class TrainingParts:
    """What an update changes or calls, beside the model."""

    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    ema: ModelEmaV3 | None
    """Moving average of the weights, which is what is evaluated and kept."""
    forward: nn.Module
    """The model, or its compiled form with the same weights; of several processes, with their
    gradients averaged."""
    loss: Loss
    classes: int

    def judged(self, model: nn.Module) -> nn.Module:
        """The network whose scores count: the moving average where there is one."""
        if self.ema is None:
            return model
        return self.ema.module

    def tensors(self, model: nn.Module, losses: list[torch.Tensor]) -> dict[str, Any]:
        """What a saved state holds; `losses`: those that were not looked at yet."""
        tensors: dict[str, Any] = {
            "model": model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }
        if self.ema is not None:
            tensors["ema"] = self.ema.module.state_dict()
        if losses:
            tensors["losses"] = torch.stack(losses)
        return tensors


def prepare_training(job: Job) -> TrainingParts:
    """The parts of a job's recipe before its first step."""
    recipe = job.recipe
    model = ddp.agree_on_batch_norms(job.model, recipe)
    device = next(model.parameters()).device
    if device.type == "cpu":
        without_strides(model)
    optimizer = make_optimizer(model, recipe)
    # every class has a training picture, so the largest label is the last class
    counts_C = torch.bincount(torch.tensor([picture.label for picture in job.pictures]))
    ema = None
    if recipe.ema:
        # a decay that grows with the steps: a short run's average is not its beginning
        ema = ModelEmaV3(model, decay=recipe.ema, use_warmup=True)
    forward: Any = model
    if recipe.compile == "on":
        forward = torch.compile(model)
    return TrainingParts(
        optimizer,
        # bf16 has the range of float32: only fp16's gradients need a scale
        torch.amp.GradScaler(device.type, enabled=recipe.amp == "fp16"),
        ema,
        ddp.with_averaged_gradients(forward),
        loss_function(recipe, counts_C, device),
        len(counts_C),
    )


def restore(state: checkpoint.State, model: nn.Module, parts: TrainingParts) -> list[torch.Tensor]:
    """Put a saved state's tensors back; a state of step 0 has only the model's. Losses that were
    not looked at yet."""
    tensors = state.tensors
    with fitting(f"the checkpoint of step {state.step}"):
        model.load_state_dict(tensors["model"])
        if parts.ema is not None:
            # before the first step the average is the model itself
            parts.ema.module.load_state_dict(tensors["ema" if state.step else "model"])
        if state.step:
            check_optimizer(parts.optimizer, tensors["optimizer"])
            parts.optimizer.load_state_dict(tensors["optimizer"])
            parts.scaler.load_state_dict(tensors["scaler"])
    losses: torch.Tensor = tensors.get("losses", torch.empty(0)).to(next(model.parameters()).device)
    tensors.clear()  # a large model's copy is not kept through the training
    return list(losses)


def _same_type(own: Any, saved: Any) -> bool:
    """Whether a saved setting has the type of the own one; whole numbers and fractions are one."""
    numbers = (int, float)
    return type(own) is type(saved) or (type(own) in numbers and type(saved) in numbers)


def check_optimizer(optimizer: torch.optim.Optimizer, saved: Mapping[str, Any]) -> None:
    """`ValueError` unless the saved settings have the types of the optimiser's own, and its tensors
    their weight's shape: torch looks only at how many there are."""
    own = optimizer.state_dict()["param_groups"]
    for group, other in zip(own, saved["param_groups"], strict=True):
        for name in group | other:
            known = name in group and name in other
            if not known or not _same_type(group[name], other[name]):
                raise ValueError(f"the optimiser's {name} has another type")
    shapes = [weight.shape for group in optimizer.param_groups for weight in group["params"]]
    places = [place for group in saved["param_groups"] for place in group["params"]]
    for place, shape in zip(places, shapes, strict=True):
        for name, value in saved["state"].get(place, {}).items():
            # a scalar is Adam's count of steps, whatever the weight's shape
            if isinstance(value, torch.Tensor) and value.ndim and value.shape != shape:
                raise ValueError(
                    f"the optimiser's {name} has the shape {list(value.shape)}, its weight "
                    f"{list(shape)}"
                )


def update(job: Job, batch: Batch, parts: TrainingParts, epoch: int, step: int) -> torch.Tensor:
    """Make one optimiser step; its `loss_and_hits` stay on the device.

    All its randomness comes from (seed, step). The batch is augmented whole, then passed through
    the network in `accumulate` parts, whose gradients add up to those of the batch's mean loss. Of
    several processes, each does so with its slice of the batch, and with random numbers of its own.
    """
    model, recipe = job.model, job.recipe
    own = (distributed.rank(),) if distributed.world() > 1 else ()
    seed_everything(recipe.seed, "step", step, *own)
    x_BVCHW, targets = varied(job, batch, parts, epoch, step)
    parts.optimizer.zero_grad(set_to_none=True)
    # SAM passes the batch twice, with the same pictures and the same dropout
    if recipe.sam_rho:
        seed_everything(recipe.seed, "dropout", step, *own)
        result = backward(job, parts, x_BVCHW, targets)
        with sam.climbed(model, recipe.sam_rho):
            seed_everything(recipe.seed, "dropout", step, *own)
            backward(job, parts, x_BVCHW, targets)
    else:
        result = backward(job, parts, x_BVCHW, targets)
    if recipe.clip_norm:
        # the limit is meant for gradients without the loss scale
        parts.scaler.unscale_(parts.optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
    parts.scaler.step(parts.optimizer)
    parts.scaler.update()
    if parts.ema is not None:
        # by the run's step, so that the decay of a run that goes on is where it was
        parts.ema.update(model, step + 1)
    return result


def varied(
    job: Job, batch: Batch, parts: TrainingParts, epoch: int, step: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The batch on the device, normalised, augmented and at the epoch's size: the views of each
    picture [B, V, C, H, W], and targets."""
    recipe, device = job.recipe, next(job.model.parameters()).device
    # from pinned memory, the copy goes on while the GPU computes
    images, labels = (t.to(device, non_blocking=True) for t in batch)
    # each view is augmented as a picture of its own
    images = images.reshape(-1, *images.shape[-3:])
    x_BCHW, targets = augment_batch(
        normalise(images, job.source.pre),
        labels.repeat_interleave(recipe.views),
        recipe,
        parts.classes,
        # all processes mix in one share, as a single one would
        mixing=distributed.drawing_alike(seed_of(recipe.seed, "mix", step)),
        progress=epoch / recipe.epochs,
    )
    # the picture before this slice was only mixed in: another process trains on it
    x_BCHW, targets = x_BCHW[partners(recipe) :], targets[partners(recipe) :]
    side = side_of(recipe, epoch)
    if side != x_BCHW.shape[-1]:
        x_BCHW = interpolate(x_BCHW, (side, side), mode="bilinear", antialias=True)
    return x_BCHW.unflatten(0, (-1, recipe.views)), targets[:: recipe.views]


def backward(
    job: Job, parts: TrainingParts, x_BVCHW: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    """Add the (scaled) gradients of the batch's mean loss to the model's; return that loss and the
    hits, without a graph.

    With several processes they are means over the pictures of all, the same numbers in each.
    """
    recipe, amp = job.recipe, AMP[job.recipe.amp]
    pictures, passes = distributed.total(len(x_BVCHW)), min(recipe.accumulate, len(x_BVCHW))
    total = x_BVCHW.new_zeros(3)
    for i, (x_part, targets_part) in enumerate(
        zip(x_BVCHW.tensor_split(passes), targets.tensor_split(passes), strict=True), 1
    ):
        with ddp.no_exchange(parts.forward, last=i == passes):
            with torch.autocast(x_BVCHW.device.type, amp, enabled=amp is not None):
                logits_BVK, targets_of_all = distributed.with_others(
                    of_views(parts.forward, x_part), targets_part
                )
                # of several views, the first is the one that the policy did not change
                logits_BC = logits_BVK[:, 0]
                loss = parts.loss(logits_BC, targets_of_all)
                if job.teacher is not None:
                    (teacher_BC,) = distributed.with_others(job.teacher.logits(x_part[:, 0]))
                    loss = distillation(loss, logits_BC, teacher_BC, recipe)
                if recipe.views > 1:
                    loss = loss + recipe.augmix_consistency * disagreement(logits_BVK)
            share = len(logits_BC) / pictures
            # gradients are averaged over the processes, their sum is wanted
            parts.scaler.scale(loss * share * distributed.world()).backward()
        total += share * loss_and_hits(loss, logits_BC, targets_of_all)
    return total


def of_views(network: nn.Module, x_BVCHW: torch.Tensor) -> torch.Tensor:
    """Logits of every view, [B, views, classes], from one pass of all of them."""
    return in_full(network(x_BVCHW.flatten(0, 1))).unflatten(0, x_BVCHW.shape[:2])


@torch.no_grad()
def loss_and_hits(
    loss: torch.Tensor, logits_BC: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    """(loss, share of pictures whose class is the most probable one, share where it is among the
    five): [3].

    The class of a mixed picture is the one with the largest share in it.
    """
    labels_B = targets if targets.ndim == 1 else targets.argmax(1)
    hits = logits_BC.topk(min(5, logits_BC.shape[1]), dim=1).indices == labels_B[:, None]
    return torch.stack((loss, hits[:, 0].float().mean(), hits.any(1).float().mean()))


def in_full(logits_BC: torch.Tensor) -> torch.Tensor:
    """Logits for the loss: float32, or what is finer already."""
    return logits_BC.to(torch.promote_types(logits_BC.dtype, torch.float32))


def side_of(recipe: Recipe, epoch: int) -> int:
    """Side of the network's input in an epoch (0, 1, ...), in pixels: `start_size` in the first
    half of them."""
    if recipe.start_size and 2 * epoch < recipe.epochs:
        return recipe.start_size
    return recipe.image_size


def train_mode(model: nn.Module, recipe: Recipe) -> None:
    """Training mode; batch norms stay in evaluation mode when the recipe freezes their
    statistics."""
    model.train()
    if recipe.batch_norm == "frozen":
        for module in of_torch.batch_norms(model):
            module.eval()
