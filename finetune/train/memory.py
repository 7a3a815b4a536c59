"""How many parts a batch is passed through the network in, so that one part fits the memory of the
GPU; the gradients of the parts add up to those of the whole batch."""

import dataclasses
import math

import torch
from torch import nn

from finetune.machine import distributed
from finetune.train.distill import distillation
from finetune.train.step import AMP, Job, TrainingParts, train_mode
from zoo.host import console
from zoo.host.errors import UserError
from zoo.network import of_torch


def fitted(job: Job, parts: TrainingParts) -> Job:
    """The job with its batch in as many parts (`accumulate`) as the memory of the devices needs.

    The number of parts is doubled until a trial pass succeeds in every process. A warning says if
    it is larger than the recipe's. `UserError` where a single picture does not fit, or where one
    fits and a batch norm needs two.
    """
    recipe, wanted = job.recipe, job.recipe.accumulate
    batch = min(recipe.batch_size, len(job.pictures))
    share, least = math.ceil(batch / distributed.world()), batch // distributed.world()
    accumulate = wanted
    # agreed, as all processes must pass their batches in the same number of parts
    while distributed.most(not fits(job, parts, math.ceil(share / accumulate))):
        if accumulate >= least:
            raise UserError(
                f"not even one picture of {recipe.image_size} px fits the memory of the device: "
                "expected room for a forward and a backward pass. Choose a smaller --image-size or "
                "--base, or --amp bf16, and end what else uses the device."
            )
        accumulate = min(2 * accumulate, least)
    if accumulate == wanted:
        return job
    parts_word = "part" if wanted == 1 else "parts"
    console.warn(
        f"a batch of {batch} in {wanted} {parts_word} does not fit the memory of the device: it "
        f"is passed in {accumulate} parts, whose gradients add up (--accumulate {accumulate})."
    )
    return dataclasses.replace(job, recipe=dataclasses.replace(recipe, accumulate=accumulate))


def fits(job: Job, parts: TrainingParts, pictures: int) -> bool:
    """Whether a forward and a backward pass of `pictures` pictures fit the memory, beside all that
    a training step holds at the same time.

    No gradient is kept. `UserError` where `pictures` is 1 and a batch norm needs two.
    """
    device = next(job.model.parameters()).device
    # frozen statistics take as much memory, and ask nothing of the other processes, which may have
    # run out of it already
    train_mode(job.model, dataclasses.replace(job.recipe, batch_norm="frozen"))
    try:
        _pass(job, parts, pictures)
        if pictures == 1:
            _check_one_picture(job)
    except RuntimeError as error:
        if not of_torch.is_out_of_memory(error):
            raise
        return False
    finally:
        if device.type == "cuda":
            torch.cuda.empty_cache()
        elif device.type == "mps":
            torch.mps.empty_cache()
    return True


@torch.no_grad()
def _check_one_picture(job: Job) -> None:
    """`UserError` unless the batch norms of the network can be trained with one picture at a
    time."""
    norms = of_torch.batch_norms(job.model)
    if job.recipe.batch_norm == "frozen" or any(
        isinstance(module, nn.SyncBatchNorm) for module in norms
    ):
        return
    train_mode(job.model, job.recipe)
    tracked = [module for module in norms if module.track_running_stats]
    weight, side = next(job.model.parameters()), job.recipe.image_size
    # the trial computes with the statistics of its picture, and leaves the running ones as they are
    for module in tracked:
        module.track_running_stats = False
    try:
        job.model(torch.zeros(1, 3, side, side, device=weight.device, dtype=weight.dtype))
    except ValueError as error:
        if not of_torch.is_lack_of_variance(str(error)):
            raise
        raise UserError(
            f"only one picture of {side} px at a time fits the memory of the device, and a batch "
            "norm of this network needs two: choose a smaller --image-size or --base, --batch-norm "
            "frozen, or --amp bf16."
        ) from None
    finally:
        for module in tracked:
            module.track_running_stats = True


def _pass(job: Job, parts: TrainingParts, pictures: int) -> None:
    """Make one pass of `pictures` black pictures, with everything in memory that a step holds."""
    recipe, side = job.recipe, job.recipe.image_size
    pictures *= recipe.views
    weights = [p for p in job.model.parameters() if p.requires_grad]
    device, amp = weights[0].device, AMP[recipe.amp]
    # Adam holds two values a weight; SAM two more, the weights before it climbed and its gradients
    kept = [torch.empty_like(p) for p in weights for _ in range(4 if recipe.sam_rho else 2)]
    share = math.ceil(min(recipe.batch_size, len(job.pictures)) / distributed.world())
    share *= recipe.views
    # the whole batch stays on the device, augmented, while its parts are passed
    whole_BCHW = torch.zeros(
        max(share, pictures), 3, side, side, device=device, dtype=weights[0].dtype
    )
    x_BCHW = whole_BCHW[:pictures].contiguous(memory_format=torch.channels_last)
    with torch.autocast(device.type, amp, enabled=amp is not None):
        logits_BC = job.model(x_BCHW)
        loss = parts.loss(
            logits_BC.float(), torch.zeros(pictures, dtype=torch.int64, device=device)
        )
        if job.teacher is not None:
            loss = distillation(loss, logits_BC.float(), job.teacher.logits(x_BCHW), recipe)
    # not backward(), whose hooks would wait for the other processes, and which keeps gradients
    torch.autograd.grad(loss, weights, allow_unused=True)
    del kept, whole_BCHW
