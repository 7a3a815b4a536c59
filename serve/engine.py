"""The queue between requests and the model: bounded, with deadlines, worked off by a few threads.

A request is answered by the model that was current when it was accepted, so that a swap never mixes two versions.
Pictures are decoded for these threads only: however many requests wait, at most `workers` pictures are in memory.
Each thread has a process that decodes, because a thread that hangs in a decoder could not be ended.
"""

import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np

from serve.decoders import Decoders, Unavailable
from zoo.errors import BadImage
from zoo.predictor import Prediction, Predictor

LARGE_PIXELS = 4_000_000
"""Larger pictures are answered one at a time: each pixel takes 10 to 25 bytes on its way."""
MAX_WORKERS = 4
DECODE_S = 10.0
"""Seconds that the decoder of a picture is given, unless the command line says otherwise."""
LEAST_DECODE_S = 1.0
"""A decoder is given so long also just before the deadline of its request. If good pictures that come late had
their decoders killed, starting new ones (0.2 s each) would make an overload worse."""

T = TypeVar("T")


class Busy(Exception):
    """The queue is full."""

    def __init__(self, retry_after_s: int):
        super().__init__(f"Too many pictures are waiting; try again in {retry_after_s} s.")
        self.retry_after_s = retry_after_s


class Late(Exception):
    """A request's deadline passed before its answer was there."""


@dataclass(frozen=True, eq=False)
class Model:
    """A loaded version of what is served."""

    predictor: Predictor
    name: str
    """Name of the run."""
    digest: str
    """sha256 of the model file."""
    stamp: str
    """sha256 of the bundle's FINISHED.json: of every file of it."""
    loaded_at: float = field(default_factory=time.time)
    """Seconds since 1970."""


@dataclass(frozen=True, eq=False)
class Answered:
    """A picture and what a model says about it, for as long as `Work` takes."""

    pixels: np.ndarray
    """uint8 [H, W, 3] as decoded."""
    prediction: Prediction
    model: Model


Work = Callable[[Answered], T]
"""What a worker makes of an answer: JSON, HTML, a picture. It must not keep the pixels."""


@dataclass(frozen=True, eq=False)
class _Job(Generic[T]):
    """What is to be done with the pictures of one request."""

    model: Model
    work: Work[T]
    top: int
    deadline: float
    """On the clock of `time.monotonic`."""


class Engine:
    """Threads that answer pictures; final. Threads may share it.

    `waiting` pictures may stand in the queue besides those that `workers` (0 = one per core) answer; `deadline_s`
    is how long a request may take; `max_pixels` of one picture. `decoders` (one for each worker) are closed with it;
    without them it starts its own.
    """

    def __init__(self, model: Model, *, workers: int, waiting: int, deadline_s: float, max_pixels: int,
                 decoders: Decoders | None = None):
        self.model, self.deadline_s, self.max_pixels = model, deadline_s, max_pixels
        self.workers = workers or default_workers()
        self.decoders = decoders or Decoders(self.workers, max_pixels)
        self.decode_s = DECODE_S
        """Seconds that the decoder of one picture is given."""
        self.capacity = self.workers + waiting
        self.outstanding = 0
        """Pictures that wait or are being answered."""
        self._picture_s = 0.05  # moving average, for Retry-After
        self._lock, self._large = threading.Lock(), threading.Lock()
        self._pool = ThreadPoolExecutor(self.workers, thread_name_prefix="answer")

    @property
    def full(self) -> bool:
        return self.outstanding >= self.capacity

    def submit(self, pictures: Sequence[bytes], work: Work[T], *, top: int = 5,
               deadline: float | None = None) -> list[Future[T]]:
        """Queue all pictures of a request or none: `Busy`. The futures raise `BadImage` and `Late`.

        `deadline` on the clock of `time.monotonic` (None: `deadline_s` from now).
        """
        deadline = time.monotonic() + self.deadline_s if deadline is None else deadline
        job, count = _Job(self.model, work, top, deadline), len(pictures)
        with self._lock:
            if self.outstanding + count > self.capacity:
                raise Busy(max(1, math.ceil(self.outstanding * self._picture_s / self.workers)))
            self.outstanding += count
        names = [f"picture {place + 1}" if count > 1 else "picture" for place in range(count)]
        futures = [self._pool.submit(self._answer, job, data, name)
                   for data, name in zip(pictures, names, strict=True)]
        for future in futures:
            future.add_done_callback(self._leave)
        return futures

    def answer(self, picture: bytes, work: Work[T], *, top: int = 5) -> T:
        """The answer to one picture, waited for. Raises `Busy`, `Late`, `BadImage`."""
        future, = self.submit([picture], work, top=top)
        try:
            return future.result(self.deadline_s)
        except TimeoutError:
            future.cancel()
            raise Late from None

    def close(self) -> None:
        """Forget what waits, and end what is being decoded."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self.decoders.close()

    def _answer(self, job: _Job[T], data: bytes, name: str) -> T:
        started = time.monotonic()
        if started > job.deadline:
            raise Late
        with ExitStack() as alone:
            pixels = self._decode(data, name, alone, deadline=job.deadline)
            if time.monotonic() > job.deadline:
                raise Late
            result = job.work(Answered(pixels, job.model.predictor.predict(pixels, top=job.top), job.model))
        self._picture_s += 0.1 * (time.monotonic() - started - self._picture_s)
        return result

    def _decode(self, data: bytes, name: str, alone: ExitStack, *, deadline: float) -> np.ndarray:
        """The decoded picture, uint8 [H, W, 3]; a large one holds a lock until `alone` is closed."""
        try:
            return self._decode_within(data, name, min(LARGE_PIXELS, self.max_pixels), deadline=deadline)
        except BadImage as error:  # its header was enough to know that, so that trying again costs little
            if self.max_pixels <= LARGE_PIXELS or not error.reason.startswith("too large"):
                raise
        if not self._large.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise Late
        alone.callback(self._large.release)
        return self._decode_within(data, name, self.max_pixels, deadline=deadline)

    def _decode_within(self, data: bytes, name: str, max_pixels: int, *, deadline: float) -> np.ndarray:
        left = max(LEAST_DECODE_S, deadline - time.monotonic())
        try:
            return self.decoders.decode(data, name, max_pixels=max_pixels, seconds=min(self.decode_s, left))
        except Unavailable:
            raise Busy(1) from None

    def _leave(self, _: Future[T]) -> None:
        with self._lock:
            self.outstanding -= 1


def default_workers() -> int:
    """One per core that this process may use, 4 at most."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MAX_WORKERS)
