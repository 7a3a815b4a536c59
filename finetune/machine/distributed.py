"""The processes of one run, as torchrun starts them: each has a rank, and rank 0 alone prints and
writes.

    python -m finetune ...                                           one process: everything here
                                                                     does nothing
    torchrun --standalone --nproc-per-node 8 -m finetune ...         the same run in eight, one for
                                                                     each GPU

All of them read the same pictures and the same run folder, and compute the same things in the same
order. Work that can be divided is divided (`mine`), and its results are put together again
(`gathered`), so that afterwards every process knows the same numbers. Between CPUs the processes
talk through gloo, between GPUs through NCCL.
"""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain, pairwise
from typing import Any, TypeVar

import numpy as np
import torch
from torch import distributed as dist
from torch.distributed.rendezvous import rendezvous

from finetune.machine import meeting
from zoo.host import console
from zoo.host.errors import UserError
from zoo.network import of_torch

T = TypeVar("T")
PATIENCE = timedelta(minutes=10)
"""Longest time that a process waits in a collective for one that is still running; the death of a
process is noticed at once."""


def world() -> int:
    """Number of processes of this run."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def first() -> bool:
    """Whether this is the process that prints and writes."""
    return rank() == 0


def on_this_machine() -> tuple[int, int]:
    """Return (number of this process among those on its machine, how many these are)."""
    if world() == 1:
        return 0, 1
    return int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])


@dataclass
class Meeting:
    """How the processes of this start reach each other without a collective."""

    store: dist.Store | None = None
    """None for a single process."""
    waits: int = 0
    """How often they waited for rank 0 through the store; it numbers the keys."""


MEETING = Meeting()


@contextmanager
def joined_processes() -> Iterator[None]:
    """Inside, this process is one of those that torchrun started together.

    Without torchrun nothing happens. Nothing happens inside another `joined_processes` either, so
    several runs may follow each other within one.

    An error ends all processes. The first process that meets one reports it. The others, which
    then lose contact with it, exit with the same code and print nothing.
    """
    alone = not dist.is_torchelastic_launched() or os.environ["WORLD_SIZE"] == "1"
    if alone or dist.is_initialized():
        yield
        return
    store, own_rank, size = next(rendezvous("env://", timeout=PATIENCE))
    # after a restart the store still has the keys of the processes that died
    store = dist.PrefixStore(meeting.agreed_name(store, own_rank, size), store)
    # NCCL passes tensors of GPUs only; numbers and texts are agreed on by tensors of the CPU
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    MEETING.store, MEETING.waits = store, 0
    dist.init_process_group(backend, store=store, rank=own_rank, world_size=size, timeout=PATIENCE)
    console.be_quiet(own_rank > 0)
    with _reported_by_one(store, own_rank, size):
        yield
    dist.destroy_process_group()
    console.be_quiet(False)


@contextmanager
def _reported_by_one(store: dist.Store, own_rank: int, size: int) -> Iterator[None]:
    """Let an error pass in the first process that meets one, and make the others exit.

    A lost contact with another process becomes a `UserError`.
    """
    try:
        yield
    except (UserError, RuntimeError) as error:
        refused = isinstance(error, UserError)
        # torch raises a lost contact as a RuntimeError like any other; only its text tells
        lost = not refused and of_torch.is_lost_contact(error)
        if not (refused or lost):
            raise
        if not meeting.meets_first_error(store, own_rank):
            # another process reports what happened: a second message would only hide it
            raise SystemExit(UserError.exit_code) from None
        if refused:
            raise
        raise UserError(
            f"process {own_rank} of {size} lost contact with another one, which was killed or "
            "could not be reached. Run the same command again, and it goes on from the last "
            "checkpoint; torchrun --max-restarts 3 does that by itself."
        ) from error


def everyone(value: Any) -> list[Any]:
    """The `value` of every process, by rank; a value that JSON can hold."""
    if world() == 1:
        return [value]
    # a copy, as torch warns of an array that it may not write to
    text = torch.from_numpy(np.frombuffer(json.dumps(value).encode(), np.uint8).copy())
    return [json.loads(part.numpy().tobytes()) for part in _of_everyone(text, _sizes(len(text)))]


def of_first(value: Any) -> Any:
    """The `value` of rank 0, in every process; a value that JSON can hold."""
    return everyone(value if first() else None)[0]


def most(value: int) -> int:
    """The largest `value` of all processes, so that all of them decide alike what to do next."""
    return _reduced(value, dist.ReduceOp.MAX)


def total(value: int) -> int:
    """The sum of `value` over all processes."""
    return _reduced(value, dist.ReduceOp.SUM)


def wait() -> None:
    """Return when every process has come this far."""
    most(0)


@contextmanager
def first_before_others() -> Iterator[None]:
    """Let rank 0 run the code inside before the others, which then find what it downloaded or
    unpacked.

    The others wait as long as that takes, which may be hours. Where rank 0 ends with an error, they
    exit with its code and print nothing; where it is killed, torchrun ends them.
    """
    MEETING.waits += 1
    key = f"went first/{MEETING.waits}"
    if not first():
        assert MEETING.store is not None
        # not in a collective, which gives up after `PATIENCE`
        meeting.wait_for(MEETING.store, key)
    yield
    if first() and world() > 1:
        assert MEETING.store is not None
        MEETING.store.set(key, "")


def wait_for_first() -> None:
    """Return when rank 0 has come this far, however long that takes; what it wrote before can then
    be read."""
    with first_before_others():
        pass


def mine(items: Sequence[T]) -> Sequence[T]:
    """This process's slice of `items`, which all processes have; sizes differ by one at most."""
    start, end = bounds(len(items))
    if start == end and len(items):
        # an item too many, so that this process knows what a row of the result looks like;
        # `gathered` leaves it out
        return items[:1]
    return items[start:end]


def bounds(total: int, which: int | None = None) -> tuple[int, int]:
    """Where the slice of `total` items begins and ends that rank `which` has; None: this one."""
    if which is None:
        which = rank()
    return which * total // world(), (which + 1) * total // world()


def gathered(rows: torch.Tensor, total: int) -> torch.Tensor:
    """Put together the rows that all processes computed for their slices of `total` items:
    [total, ...], in order, the same in each process.

    No row is added or repeated, so whatever is counted over them counts each item once.
    """
    if world() == 1:
        return rows
    start, end = bounds(total)
    edges = [bounds(total, which)[0] for which in range(world())] + [total]
    sizes = [following - edge for edge, following in pairwise(edges)]
    return torch.cat(_of_everyone(rows[: end - start], sizes))


def gathered_list(rows: list[T], total: int) -> list[T]:
    """Do the same for a list of values that JSON can hold."""
    if world() == 1:
        return rows
    start, end = bounds(total)
    return [*chain.from_iterable(everyone(rows[: end - start]))]


def with_others(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Join each tensor with the same tensor of the other processes, along the rows; gradients flow
    to this process's own rows.

    In one process all tensors have as many rows; another process may have more or fewer.
    """
    if world() == 1:
        return tensors
    sizes = _sizes(len(tensors[0]))
    together = []
    for tensor in tensors:
        parts = _of_everyone(tensor.detach(), sizes)
        # all_gather carries no gradients, so this process's own rows are put back with theirs
        parts[rank()] = tensor
        together.append(torch.cat(parts))
    return tuple(together)


def copy_first(tensor: torch.Tensor) -> torch.Tensor:
    """Overwrite the `tensor` of each process with rank 0's values."""
    if world() > 1:
        dist.broadcast(tensor, src=0)
    return tensor


@contextmanager
def drawing_alike(seed: int) -> Iterator[None]:
    """Inside, torch's CPU generator draws the same numbers from `seed` in all processes; afterwards
    it continues as if nothing had happened."""
    # the generators of GPUs take no part: neither saved here, nor seeded, as torch.manual_seed does
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def _reduced(value: int, how: Any) -> int:
    if world() == 1:
        return value
    result = torch.tensor([value])
    dist.all_reduce(result, how)
    return int(result)


def _sizes(own: int) -> list[int]:
    sizes = [torch.empty(1, dtype=torch.int64) for _ in range(world())]
    dist.all_gather(sizes, torch.tensor([own]))
    return [*map(int, sizes)]


def _of_everyone(rows: torch.Tensor, sizes: Sequence[int]) -> list[torch.Tensor]:
    """The rows of every process, by rank; `sizes`: how many each has."""
    # all_gather takes tensors of one shape: filled up on the way, and cut again
    padded = rows.new_zeros((max(sizes), *rows.shape[1:]))
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(parts, padded)
    return [part[:size] for part, size in zip(parts, sizes, strict=True)]
