"""One network trained by several processes at once: PyTorch's DistributedDataParallel, and what
surrounds it.

Each process passes its slice of a batch through its own copy of the network, the logits of all of
them meet in the loss (`distributed.with_others`), and gradients are added up. So the loss is that
of the whole batch, whatever it is made of: slices of uneven size, class weights, the hardest
pictures, soft targets.
"""

from contextlib import AbstractContextManager, nullcontext

from timm.layers import convert_sync_batchnorm
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from finetune.machine import distributed
from finetune.recipe.fields import Recipe
from zoo.host import console
from zoo.host.errors import UserError
from zoo.network import of_torch


def check_batch(pictures: int, recipe: Recipe, *, processes: int) -> None:
    """`UserError` unless each process gets a picture in each part of a step of so many pictures."""
    shares = f"{processes} processes"
    if recipe.accumulate > 1:
        shares += f" in {recipe.accumulate} parts"
    if processes > 1 and pictures < processes * recipe.accumulate:
        raise UserError(
            f"a step of {pictures} pictures cannot be shared out to {shares}: expected a picture "
            "for each. Start fewer processes, or give a larger --batch-size."
        )


def agree_on_batch_norms(model: nn.Module, recipe: Recipe) -> nn.Module:
    """The model as several processes train it, and what its batch norms do, said in one line.

    Frozen statistics need nothing. Between GPUs, statistics are taken over the whole batch
    (SyncBatchNorm). PyTorch has no such thing for CPUs: there each process takes its own slice's,
    and rank 0's running ones are kept.
    """
    if distributed.world() == 1 or not of_torch.batch_norms(model):
        return model
    processes = f"{distributed.world()} processes"
    if recipe.batch_norm == "frozen":
        console.say(f"batch norms keep the base's statistics: {processes} train like one")
        return model
    if next(model.parameters()).device.type == "cuda":
        console.say(f"batch norms take statistics over all {processes} (SyncBatchNorm)")
        return convert_sync_batchnorm(model)
    console.warn(
        f"batch norms take statistics of each process's own slice of a batch: {processes} do not "
        "train like one, which needs GPUs or --batch-norm frozen."
    )
    return model


def with_averaged_gradients(network: nn.Module) -> nn.Module:
    """The network with gradients averaged over all processes; unchanged for a single one."""
    if distributed.world() == 1:
        return network
    device = next(network.parameters()).device
    # DistributedDataParallel refuses device_ids for modules on the CPU
    devices = [device.index] if device.type == "cuda" else None
    return DistributedDataParallel(network, device_ids=devices)


def no_exchange(network: nn.Module, *, last: bool) -> AbstractContextManager[None]:
    """Inside, gradients stay in this process: of several parts of a batch, only the last one's pass
    exchanges them."""
    if last or not isinstance(network, DistributedDataParallel):
        return nullcontext()
    # gradients of the parts add up here first: one exchange a step, not one a part
    return network.no_sync()
