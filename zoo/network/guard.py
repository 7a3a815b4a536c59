"""Bounds on the networks that a stranger's config.json asks for, kept while they are built on
torch's meta device.

Weights tell how large a network is that they were made for; one that is far larger is refused
before it takes memory.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from zoo.host.errors import UserError
from zoo.network import of_torch
from zoo.network.weights import Extent

MOST_PARTS = 6_000
"""Layers within layers, and tensors, of a network; timm's have at most 4,000."""
SPARE_NUMBERS = 64_000_000
"""Numbers that a network may hold beyond twice those of its file: a new head, tables of positions
(250 MB)."""


INITIAL_VALUES = frozenset(
    {
        "uniform_",
        "normal_",
        "trunc_normal_",
        "kaiming_uniform_",
        "kaiming_normal_",
        "xavier_uniform_",
        "xavier_normal_",
        "constant_",
        "ones_",
        "zeros_",
        "zero_",
        "fill_",
        "mul_",
        "div_",
        "add_",
        "sub_",
        "erfinv_",
        "clamp_",
    }
)
"""torch's functions with which layers set their first weights; each gives back the tensor that it
changes."""


class TooLarge(UserError):
    """A network that the weights cannot be for."""


class _Unfilled(TorchFunctionMode):
    """First weights are not set: without values there is nothing to set, and torch takes two thirds
    of the time that a network on the meta device takes for what their shapes would be. Final."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if getattr(func, "__name__", "") in INITIAL_VALUES:
            tensor = args[0] if args else (kwargs or {})["tensor"]
            if tensor.is_meta:
                return tensor
        return func(*args, **(kwargs or {}))


@contextmanager
def meta_device() -> Iterator[None]:
    """Build networks without memory: their tensors have shapes and no values. Not for a pass
    through one."""
    with torch.device("meta"), _Unfilled():
        yield


@contextmanager
def meta_device_within(extent: Extent, where: str) -> Iterator[None]:
    """Build networks without memory; `UserError` as soon as one outgrows the weights that it should
    take.

    torch calls these hooks for every layer and tensor of every network in the process while the
    block runs.
    """
    # layers without weights and layers within layers count too
    most_parts = min(MOST_PARTS, 10 * extent.tensors + 2000)
    most_numbers = 2 * extent.numbers + SPARE_NUMBERS
    parts = numbers = 0

    def count(owner: nn.Module, name: str, part: Any) -> None:
        nonlocal parts, numbers
        parts += 1
        # a layer is counted too, since each costs time and memory without holding a number
        if isinstance(part, torch.Tensor):
            numbers += part.numel()
        if parts > most_parts or numbers > most_numbers:
            raise TooLarge(
                f"{where}: config.json asks for a network of more than {most_parts:,} parts or "
                f"{most_numbers:,} numbers; its weights hold {extent.tensors:,} tensors with "
                f"{extent.numbers:,} numbers. It does not belong to them: choose another base, or "
                "another copy of this one."
            )

    with of_torch.registrations_watched(count), meta_device():
        yield
