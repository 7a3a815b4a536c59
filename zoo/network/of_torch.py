"""What is borrowed from the insides of PyTorch. Tried with torch 2.14.1.

torch raises `RuntimeError` for nearly everything, so that some errors can be told apart by their
words alone. A new version can change what stands here without notice; tests/zoo/test_insides.py
names the version that did.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as registrations

BatchNorm = nn.modules.batchnorm._BatchNorm
"""Batch norms of every number of dimensions, SyncBatchNorm among them; timm's are subclasses.

Borrowed: the class, which has no public name, with its `track_running_stats` and `affine`."""
LOST_CONTACT = (
    "gloo",
    "Connection closed by peer",
    "Connection reset by peer",
    "Broken pipe",
    "remote process exiting",
    "NCCL communicator was aborted",
)
"""Words of the errors that a process gets when another one is gone."""
OUT_OF_MEMORY = (
    "out of memory",
    "alloc_failed",
    "alloc failed",
    "failed to allocate",
    "cudnn_status_not_supported",
    "cublas_status_not_initialized",
)
"""Words (in lower case) of the errors by which libraries say that a device is full: torch's own
type is one of many. cuBLAS that finds no room for its workspace is not initialised, cuDNN without
room knows no way to compute."""


def batch_norms(model: nn.Module) -> list[BatchNorm]:
    """Return the batch norms of a network."""
    return [module for module in model.modules() if isinstance(module, BatchNorm)]


@contextmanager
def registrations_watched(watch: Callable[[nn.Module, str, Any], None]) -> Iterator[None]:
    """Call `watch` with owner, name and part for every layer and tensor of every network that this
    process builds inside the block.

    Borrowed: torch.nn.modules.module's three functions for hooks of all modules, of which torch
    documents only those that are called in a pass.
    """
    # for the whole process: torch has no such hooks for one thread or network
    handles = [
        registrations.register_module_module_registration_hook(watch),  # type: ignore[arg-type]
        registrations.register_module_parameter_registration_hook(watch),  # type: ignore[arg-type]
        registrations.register_module_buffer_registration_hook(watch),  # type: ignore[arg-type]
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def is_lost_contact(error: BaseException) -> bool:
    """Tell whether an error of a collective means that another process is gone.

    Borrowed: the words of gloo and NCCL. `torch.distributed.DistError`, the public type, is raised
    for some of NCCL's only.
    """
    return isinstance(error, RuntimeError) and any(word in str(error) for word in LOST_CONTACT)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error means that the memory of the device does not suffice.

    Borrowed: the words of CUDA's libraries and Apple's; `torch.OutOfMemoryError` is public.
    """
    if isinstance(error, torch.OutOfMemoryError):
        return True
    # libraries write the same words with and without capitals
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(word in text for word in OUT_OF_MEMORY)


def is_lack_of_variance(text: str) -> bool:
    """Tell whether the text of an error says that a batch norm in training has a single value a
    channel, which has no variance.

    Borrowed: the words of the `ValueError` that a batch norm raises.
    """
    return "Expected more than 1 value per channel" in text


def is_failed_compilation(error: BaseException) -> bool:
    """Tell whether an error comes from torch.compile, not from the network.

    Borrowed: the base class of its errors.
    """
    return isinstance(error, torch._dynamo.exc.TorchDynamoException)
