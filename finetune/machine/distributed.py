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
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from time import sleep
from typing import Any, TypeVar

import numpy as np
import torch
from torch import distributed as dist
from torch.distributed.rendezvous import rendezvous

from zoo.host import console
from zoo.host.errors import UserError

T = TypeVar("T")
PATIENCE = timedelta(minutes=10)
"""How long a process waits for another one that is still there; one that died is noticed at
once."""
LOST = (
    "gloo",
    "Connection closed by peer",
    "Connection reset by peer",
    "Broken pipe",
    "remote process exiting",
    "NCCL communicator was aborted",
)
"""Words of the errors that a process gets when another one is gone."""
POLL_S = 0.2
"""Seconds between two looks at whether rank 0 is done with what the others wait for."""
TOLD = "told"
"""Key under which the first process that meets an error leaves its rank."""


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
    """(number of this process among those on its machine, how many these are)."""
    return (
        (int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"]))
        if world() > 1
        else (0, 1)
    )


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
    if (
        not dist.is_torchelastic_launched()
        or os.environ["WORLD_SIZE"] == "1"
        or dist.is_initialized()
    ):
        yield
        return
    store, own_rank, size = next(rendezvous("env://", timeout=PATIENCE))
    store = dist.PrefixStore(_meeting(store, own_rank, size), store)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    MEETING.store, MEETING.waits = store, 0
    dist.init_process_group(backend, store=store, rank=own_rank, world_size=size, timeout=PATIENCE)
    console.be_quiet(own_rank > 0)
    try:
        yield
    except (UserError, RuntimeError) as error:
        lost = not isinstance(error, UserError) and any(word in str(error) for word in LOST)
        if not (isinstance(error, UserError) or lost):
            raise
        if store.compare_set(TOLD, "", str(own_rank)) != str(own_rank).encode():
            raise SystemExit(UserError.exit_code) from None
        if lost:
            raise UserError(
                f"process {own_rank} of {size} lost contact with another one, which was killed or "
                "could not be reached. Run the same command again, and it goes on from the last "
                "checkpoint; torchrun --max-restarts 3 does that by itself."
            ) from error
        raise
    dist.destroy_process_group()
    console.be_quiet(False)


def _meeting(store: dist.Store, own_rank: int, size: int) -> str:
    """A name that the processes of this start have agreed on.

    After a restart, torchrun's store still has the entries of the processes that died, and who
    reads their addresses waits for them for ever. So each says hello with a token that it has just
    made, and takes only the answer to that.
    """
    own = secrets.token_hex(8)
    if own_rank > 0:
        store.set(f"hello/{own_rank}", own)
        name = store.get(f"answer/{own}").decode()
        store.set(f"{name}/{own_rank}", "here")
        return name
    others = range(1, size)
    while not store.check([f"{own}/{other}" for other in others]):
        for other in others:
            store.set(f"answer/{store.get(f'hello/{other}').decode()}", own)
        sleep(0.05)
    return own


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
        _wait_for(done)
    yield
    if first() and world() > 1:
        assert MEETING.store is not None
        MEETING.store.set(done, "")


def wait_for_first() -> None:
    """Go on when rank 0 has come this far, however long that takes: what it wrote before can be
    read."""
    with first_before_others():
        pass


def _wait_for(key: str) -> None:
    store = MEETING.store
    assert store is not None
    try:
        while not store.check([key]):
            if store.check([TOLD]):
                raise SystemExit(UserError.exit_code)
            sleep(POLL_S)
    except dist.DistError:
        # who kept the store has ended: torchrun, or rank 0 itself, which told why
        raise SystemExit(UserError.exit_code) from None


def mine(items: Sequence[T]) -> Sequence[T]:
    """This process's slice of what every process has, in order and of even size, give or take one.

    Where there are fewer items than processes, some get the first item: each then knows what a row
    of the result looks like, and `gathered` leaves theirs out.
    """
    start, end = bounds(len(items))
    return items[start:end] if end > start or not len(items) else items[:1]


def bounds(total: int, which: int | None = None) -> tuple[int, int]:
    """Where the slice of `total` items of a process begins and ends; of this one unless a rank is
    given."""
    which = rank() if which is None else which
    return which * total // world(), (which + 1) * total // world()


def gathered(rows: torch.Tensor, total: int) -> torch.Tensor:
    """The rows that all processes computed for their slices of `total` items: [total, ...], in
    order, in each of them.

    Nothing is padded, so whatever is counted over them counts each item once.
    """
    if world() == 1:
        return rows
    start, end = bounds(total)
    return torch.cat(
        _of_everyone(
            rows[: end - start],
            [bounds(total, which)[1] - bounds(total, which)[0] for which in range(world())],
        )
    )


def gathered_list(rows: list[T], total: int) -> list[T]:
    """The same for a list of what JSON can hold."""
    if world() == 1:
        return rows
    start, end = bounds(total)
    return [row for part in everyone(rows[: end - start]) for row in part]


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
    return [int(size) for size in sizes]


def _of_everyone(rows: torch.Tensor, sizes: Sequence[int]) -> list[torch.Tensor]:
    """The rows of every process, by rank; `sizes`: how many each has."""
    padded = rows.new_zeros((max(sizes), *rows.shape[1:]))
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(parts, padded)
    return [part[:size] for part, size in zip(parts, sizes, strict=True)]
