"""A batch that does not fit the GPU is passed in parts, whose gradients add up to those of the whole."""

import dataclasses
import math

import torch

from finetune import ranks
from finetune.step import AMP, Job, Parts, train_mode
from zoo import console
from zoo.errors import UserError


def fitted(job: Job, parts: Parts) -> Job:
    """The job with its batch in so many parts (`accumulate`) that one fits the device of every process.

    The number is doubled until a trial pass succeeds; more than the recipe asks for is said. `UserError` where a single
    picture does not fit.
    """
    recipe, wanted = job.recipe, job.recipe.accumulate
    batch = min(recipe.batch_size, len(job.pictures))
    share, least, accumulate = math.ceil(batch / ranks.world()), batch // ranks.world(), wanted
    while ranks.most(not fits(job, parts, math.ceil(share / accumulate))):
        if accumulate >= least:
            raise UserError(f"not even one picture of {recipe.image_size} px fits the memory of the device: expected "
                            "room for a forward and a backward pass. Choose a smaller --image-size or --base, or --amp "
                            "bf16, and end what else uses the device.")
        accumulate = min(2 * accumulate, least)
    if accumulate == wanted:
        return job
    console.warn(f"a batch of {batch} in {wanted} part{'s' if wanted > 1 else ''} does not fit the memory of the "
                  f"device: it is passed in {accumulate} parts, whose gradients add up (--accumulate {accumulate}).")
    return dataclasses.replace(job, recipe=dataclasses.replace(recipe, accumulate=accumulate))


def fits(job: Job, parts: Parts, pictures: int) -> bool:
    """Whether a forward and a backward pass of so many pictures fit, beside what the optimiser will keep (two values a
    weight, as Adam does). Keeps no gradient; batch norms keep their statistics, which takes as much memory."""
    model, side = job.model, job.recipe.image_size
    train_mode(model, dataclasses.replace(job.recipe, batch_norm="frozen"))
    weights = [p for p in model.parameters() if p.requires_grad]
    device, amp = weights[0].device, AMP[job.recipe.amp]
    try:
        kept = [torch.empty_like(p) for p in weights for _ in range(2)]
        x_BCHW = torch.zeros(pictures, 3, side, side, device=device, dtype=weights[0].dtype)
        with torch.autocast(device.type, amp, enabled=amp is not None):
            logits_BC = model(x_BCHW.contiguous(memory_format=torch.channels_last))
            loss = parts.loss(logits_BC.float(), torch.zeros(pictures, dtype=torch.int64, device=device))
        torch.autograd.grad(loss, weights, allow_unused=True)  # not backward(): its hooks would talk to other processes
        del kept
    except torch.OutOfMemoryError:
        return False
    finally:
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return True
