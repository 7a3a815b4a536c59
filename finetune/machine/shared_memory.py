"""Batches from the processes that decode pictures: the shared memory that they need, and how long
the wait for one may take.

PyTorch passes each batch through a file in /dev/shm. Docker gives a container 64 MB of it. A batch
that does not fit is lost: the process that wrote it ends or prints an error, and the process that
waits for it waits for ever. So the space is counted before such processes are started, and every
wait has a limit.
"""

import errno
import multiprocessing
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from finetune.machine import distributed
from zoo.host import console
from zoo.host.errors import UserError, first_line

FOLDER = Path("/dev/shm")
PREFETCH = 2
"""Batches that each process prepares ahead; the default of torch's DataLoader."""
HELD, HELD_PINNED = 2, 1
"""Batches that the training process itself holds beside these: the one that it works on and the
next. For a GPU they are copied into pinned memory as they come, so one is enough."""
LEAST_WAIT_S, WAIT_A_PICTURE_S = 300.0, 5.0
"""Longest wait for one batch: for its first picture, and for each further one. A photograph of 50
megapixels takes a second, and a network drive half a minute to wake up; after ten times that,
something is broken rather than slow."""
LARGER = (
    "More of it: docker run --shm-size 8g, or --ipc host; in Kubernetes an emptyDir of medium "
    "Memory at /dev/shm"
)


def free_bytes() -> int | None:
    """Free space for batches; None where the system does not keep them in /dev/shm (macOS,
    Windows)."""
    if not FOLDER.is_dir():
        return None
    return shutil.disk_usage(FOLDER).free


def needed_bytes(workers: int, batch_bytes: int, *, pinned: bool) -> int:
    """Shared memory, at most, of a loader with `workers` processes."""
    if not workers:
        return 0
    held = HELD_PINNED if pinned else HELD
    return (workers * PREFETCH + held) * batch_bytes


def most_workers(wanted: int, free: int, batch_bytes: int, *, pinned: bool) -> int:
    """The largest number of processes, up to `wanted`, whose batches fit into `free` bytes."""
    workers = wanted
    while needed_bytes(workers, batch_bytes, pinned=pinned) > free:
        workers -= 1
    return workers


def planned_workers(wanted: int, batch_bytes: int, *, pinned: bool) -> int:
    """How many of the `wanted` processes a run has space for, with a warning if these are fewer;
    `UserError` if there is not space for one.

    `batch_bytes`: the sum over the loaders that are open together, each with as many processes.
    """
    free = free_bytes()
    if not wanted or free is None:
        return wanted
    # the training processes of one run share the space of their machine
    _, processes = distributed.on_this_machine()
    workers = most_workers(wanted, free // processes, batch_bytes, pinned=pinned)
    needed = needed_bytes(wanted, batch_bytes, pinned=pinned) * processes
    lack = (
        f"{FOLDER} has {_mb(free)} free, and {wanted} processes that decode pictures need "
        f"{_mb(needed)}"
    )
    if not workers:
        raise UserError(
            f"{lack}; it does not hold the batches of a single one. {LARGER}. Or start again with "
            "--workers 0 (this process decodes, which is slower), or with a smaller --image-size."
        )
    if workers < wanted:
        console.warn(f"{lack}: the run goes on as with --workers {workers}. {LARGER}.")
    return workers


def workers_now(planned: int, batch_bytes: int, *, pinned: bool) -> int:
    """How many of the `planned` processes a loader can use with the space that is free now, with a
    warning if these are fewer.

    Other programs may have filled /dev/shm since the run was planned. A run of hours does not stop
    for that: where no space is left, the training process decodes the pictures itself.
    """
    free = free_bytes()
    if not planned or free is None:
        return planned
    workers = most_workers(planned, free, batch_bytes, pinned=pinned)
    if workers < planned:
        needed = needed_bytes(planned, batch_bytes, pinned=pinned)
        console.warn(
            f"{FOLDER} has {_mb(free)} free now, and {planned} processes that decode pictures need "
            f"{_mb(needed)}: this pass uses {workers} of them, which makes it slower and changes "
            f"nothing else. {LARGER}."
        )
    return workers


def longest_wait_s(pictures: int) -> float:
    """Seconds after which a batch of that many pictures counts as lost."""
    return LEAST_WAIT_S + WAIT_A_PICTURE_S * pictures


@contextmanager
def workers_killed_at_error() -> Iterator[None]:
    """Kill the processes that were started inside if a `RuntimeError` is raised there."""
    before = set(multiprocessing.active_children())
    try:
        yield
    except RuntimeError:
        for child in set(multiprocessing.active_children()) - before:
            # they ignore signals that ask for an end (`signals.ignore`), and Python waits for them
            child.kill()
            # torch's handler raises the death; later it would do so in a `__del__`, as a warning
            with suppress(RuntimeError):
                child.join()
        raise


@contextmanager
def lost_batches_explained() -> Iterator[None]:
    """Turn what torch raises into a `UserError` where a process that decodes died, a batch did not
    come, or no file could be opened for one.

    torch notices a death by a signal. So the error is raised at whatever line the program is, not
    only where it asks for the next batch.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENFILE):
            raise
        raise UserError(_too_many_files()) from None
    except RuntimeError as error:
        # the number of the signal is in the first of the two texts
        text = f"{error} {error.__cause__ or ''}"
        if "DataLoader timed out" in text:
            raise UserError(_late(error)) from None
        if "DataLoader worker" not in text:
            raise
        if "Too many open files" in text:
            raise UserError(_too_many_files()) from None
        death = first_line(error.__cause__ or error)
        raise UserError(
            f"a process that decodes pictures died ({death}). {_cause(text)} The same command goes "
            "on from the last checkpoint; with --workers 0 no such process is started."
        ) from None


def _late(error: RuntimeError) -> str:
    return (
        f"a batch of pictures did not come ({first_line(error)}): a process that decodes pictures "
        "stands still, or lost it. Check the disk or network drive of the pictures, and the space "
        f"in {FOLDER}. {LARGER}. With --workers 0 this process decodes, and an error of the disk "
        "is shown as it is."
    )


def _too_many_files() -> str:
    return (
        "too many files are open at once for processes that decode pictures (the limit that ulimit "
        "-n shows). Raise it (ulimit -n 4096), or start fewer processes (--workers 1, or 0 for "
        "none)."
    )


def _cause(text: str) -> str:
    if "Bus error" in text or "shared memory" in text:
        return f"{FOLDER} was full. {LARGER}."
    if "Killed" in text:
        return (
            "It was ended from outside, as the system does when memory runs out: give the machine "
            "or the container more memory, or start fewer processes (--workers 1)."
        )
    return "Its last words stand above."


def _mb(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
