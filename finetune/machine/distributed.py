"""The processes of one run, as torchrun starts them: each has a rank, and rank 0 alone prints and
writes.

    python -m finetune ...                                           one process: everything here
                                                                     does nothing
    torchrun --standalone --nproc-per-node 8 -m finetune ...         the same run in eight, one for
                                                                     each GPU

All of them read the same pictures and the same run folder, and compute the same things in the same
order. What can be shared out is (`mine`), and put together again (`gathered`), so that afterwards
every process knows the same numbers. Between CPUs the processes talk through gloo, between GPUs
through NCCL.
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
"""How long a process waits for another one that is still there; one that died is noticed at
once."""


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
    """How the processes of this start reach each other beside the collectives, and how often they
    waited so."""

    store: dist.Store | None = None
    waits: int = 0


MEETING = Meeting()


@contextmanager
def joined() -> Iterator[None]:
    """Inside, this process is one of those that torchrun started together; without torchrun,
    nothing happens, nor inside another `joined`: several runs may follow each other in one.

    An error ends all processes, and one of them tells it: the first that meets it. The others,
    which then lose contact with it, exit with the same code and without a word.
    """
    alone = not dist.is_torchelastic_launched() or os.environ["WORLD_SIZE"] == "1"
    if alone or dist.is_initialized():
        yield
        return
    store, own_rank, size = next(rendezvous("env://", timeout=PATIENCE))
    store = dist.PrefixStore(meeting.agreed_name(store, own_rank, size), store)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    MEETING.store, MEETING.waits = store, 0
    dist.init_process_group(backend, store=store, rank=own_rank, world_size=size, timeout=PATIENCE)
    console.be_quiet(own_rank > 0)
    with _told_by_one(store, own_rank, size):
        yield
    dist.destroy_process_group()
    console.be_quiet(False)


@contextmanager
def _told_by_one(store: dist.Store, own_rank: int, size: int) -> Iterator[None]:
    """Let an error pass in the first process that meets one, as a `UserError` where it is a lost
    contact; the others exit."""
    try:
        yield
    except (UserError, RuntimeError) as error:
        refused = isinstance(error, UserError)
        lost = not refused and of_torch.is_lost_contact(error)
        if not (refused or lost):
            raise
        if not meeting.meets_first_error(store, own_rank):
            raise SystemExit(UserError.exit_code) from None
        if refused:
            raise
        raise UserError(
            f"process {own_rank} of {size} lost contact with another one, which was killed or "
            "could not be reached. Run the same command again, and it goes on from the last "
            "checkpoint; torchrun --max-restarts 3 does that by itself."
        ) from error


def everyone(value: Any) -> list[Any]:
    """The `value` of every process, by rank; what JSON can hold."""
    if world() == 1:
        return [value]
    text = torch.from_numpy(np.frombuffer(json.dumps(value).encode(), np.uint8).copy())
    return [json.loads(part.numpy().tobytes()) for part in _of_everyone(text, _sizes(len(text)))]


def of_first(value: Any) -> Any:
    """The `value` of rank 0, in every process; what JSON can hold."""
    return everyone(value if first() else None)[0]


def most(value: int) -> int:
    """The largest `value` of all processes: agreed, so that all of them do the same next."""
    return _reduced(value, dist.ReduceOp.MAX)


def total(value: int) -> int:
    """The sum of `value` over all processes."""
    return _reduced(value, dist.ReduceOp.SUM)


def wait() -> None:
    """Go on when every process has come this far."""
    most(0)


@contextmanager
def first_before_others() -> Iterator[None]:
    """Inside, rank 0 goes first, so that what it downloads or unpacks is there for the others.

    They wait as long as that takes, which may be hours: not in a collective, which gives up after
    `PATIENCE`. Where rank 0 ends with an error they exit with its code and without a word; killed,
    torchrun ends them.
    """
    MEETING.waits += 1
    done = f"went first/{MEETING.waits}"
    if not first():
        assert MEETING.store is not None
        meeting.wait_for(MEETING.store, done)
    yield
    if first() and world() > 1:
        assert MEETING.store is not None
        MEETING.store.set(done, "")


def wait_for_first() -> None:
    """Go on when rank 0 has come this far, however long that takes: what it wrote before can be
    read."""
    with first_before_others():
        pass


def mine(items: Sequence[T]) -> Sequence[T]:
    """This process's slice of what every process has, in order and of even size, give or take one.

    Where there are fewer items than processes, some get the first item: each then knows what a row
    of the result looks like, and `gathered` leaves theirs out.
    """
    start, end = bounds(len(items))
    if start == end and len(items):
        return items[:1]
    return items[start:end]


def bounds(total: int, which: int | None = None) -> tuple[int, int]:
    """Where the slice of `total` items of a process begins and ends; of this one unless a rank is
    given."""
    if which is None:
        which = rank()
    return which * total // world(), (which + 1) * total // world()


def gathered(rows: torch.Tensor, total: int) -> torch.Tensor:
    """The rows that all processes computed for their slices of `total` items: [total, ...], in
    order, in each of them.

    Nothing is padded, so whatever is counted over them counts each item once.
    """
    if world() == 1:
        return rows
    start, end = bounds(total)
    edges = [bounds(total, which)[0] for which in range(world())] + [total]
    sizes = [following - edge for edge, following in pairwise(edges)]
    return torch.cat(_of_everyone(rows[: end - start], sizes))


def gathered_list(rows: list[T], total: int) -> list[T]:
    """The same for a list of what JSON can hold."""
    if world() == 1:
        return rows
    start, end = bounds(total)
    return [*chain.from_iterable(everyone(rows[: end - start]))]


def with_others(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The rows of all processes, for tensors of as many rows each; gradients flow to this process's
    own.

    Processes may have different numbers of rows.
    """
    if world() == 1:
        return tensors
    sizes = _sizes(len(tensors[0]))
    together = []
    for tensor in tensors:
        parts = _of_everyone(tensor.detach(), sizes)
        parts[rank()] = tensor
        together.append(torch.cat(parts))
    return tuple(together)


def copy_first(tensor: torch.Tensor) -> torch.Tensor:
    """Rank 0's values, put into the `tensor` of each process."""
    if world() > 1:
        dist.broadcast(tensor, src=0)
    return tensor


@contextmanager
def drawing_alike(seed: int) -> Iterator[None]:
    """Inside, torch's CPU generator draws what `seed` says, alike in all processes; then it goes on
    as before."""
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
    padded = rows.new_zeros((max(sizes), *rows.shape[1:]))
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(parts, padded)
    return [part[:size] for part, size in zip(parts, sizes, strict=True)]
