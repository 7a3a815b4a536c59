"""The queue between requests and the model: bounded, with deadlines, worked off by a few threads.

A request is answered by the model that was current when it was accepted, so that a swap never mixes
two versions. Pictures are decoded for these threads only: however many requests wait, at most
`workers` pictures are in memory. Each thread has a process that decodes, because a thread that
hangs in a decoder could not be ended.
"""

import math
import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar

import numpy as np

from serve.engine.decoders import Decoders, Killed, Unavailable
from serve.limits.budgets import Kills
from zoo.answer.predict import NoAnswer, Prediction, Predictor
from zoo.host import machine
from zoo.host.errors import BadImage

LARGE_PIXELS = 4_000_000
"""Larger pictures are answered one at a time: each pixel takes 10 to 25 bytes on its way."""
MAX_WORKERS = 4
DECODE_S = 10.0
"""Seconds that the decoder of a picture is given, unless the command line says otherwise."""
LEAST_DECODE_S = 1.0
"""A decoder is given so long also just before the deadline of its request. If good pictures that
come late had their decoders killed, starting new ones (0.2 s each) would make an overload worse."""
LEAST_SHARE = 16
"""Places in the queue that one address may have also where half of all is less: the pictures of one
request."""

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
class AnsweredPicture:
    """A picture and what a model says about it, for as long as `Work` takes."""

    pixels: np.ndarray
    """uint8 [H, W, 3] as decoded."""
    prediction: Prediction
    model: Model


Work = Callable[[AnsweredPicture], T]
"""What a worker makes of an answer: JSON, HTML, a picture. It must not keep the pixels."""


@dataclass(frozen=True, eq=False)
class _Job(Generic[T]):
    """What is to be done with the pictures of one request."""

    owner: str
    """The address that they came from; empty for the service itself."""
    model: Model
    work: Work[T]
    top: int
    deadline: float
    """On the clock of `time.monotonic`."""


@dataclass(frozen=True, eq=False)
class _Waiting:
    """A picture in the queue."""

    future: Future[Any]
    answer: Callable[[], Any]


class AnswerQueue:
    """Threads that answer pictures; final. Threads may share it.

    `waiting` pictures may stand in the queue besides those that `workers` (0 = one per core)
    answer; `deadline_s` is how long a request may take; `max_pixels` of one picture. `decoders`
    (one for each worker) are closed with it; without them it starts its own. The owner of a picture
    is the address that it came from (empty: the service itself): owners are answered in turn, and
    one has at most half of all places.
    """

    def __init__(
        self,
        model: Model,
        *,
        workers: int,
        waiting: int,
        deadline_s: float,
        max_pixels: int,
        decoders: Decoders | None = None,
    ):
        self.model, self.deadline_s, self.max_pixels = model, deadline_s, max_pixels
        self.workers = workers or default_workers()
        self.decoders = decoders or Decoders(self.workers, max_pixels)
        self.decode_s = DECODE_S
        """Seconds that the decoder of one picture is given."""
        self.capacity = self.workers + waiting
        # half, so that nobody alone can fill the queue
        self.share = max(LEAST_SHARE, math.ceil(self.capacity / 2))
        """Places that one owner may have."""
        self.closing: Callable[[], bool] = lambda: False
        """Whether the service is shutting down, so that what takes long should stop."""
        self.outstanding = 0
        """Pictures that wait or are being answered."""
        self._picture_s = 0.05  # moving average, for Retry-After
        self._of: Counter[str] = Counter()  # `outstanding` by owner
        # the owner whose turn is next comes first
        self._lines: OrderedDict[str, deque[_Waiting]] = OrderedDict()
        self._kills = Kills()
        self._lock, self._large = threading.Lock(), threading.Lock()
        self._pool = ThreadPoolExecutor(self.workers, thread_name_prefix="answer")

    @property
    def full(self) -> bool:
        return self.outstanding >= self.capacity

    def submit(
        self,
        pictures: Sequence[bytes],
        work: Work[T],
        *,
        top: int = 5,
        deadline: float | None = None,
        owner: str = "",
    ) -> list[Future[T]]:
        """Queue all pictures of a request or none: `Busy`. The futures raise `BadImage`, `Late`,
        and `Busy` where other pictures of the owner had to be killed meanwhile.

        `deadline` on the clock of `time.monotonic` (None: `deadline_s` from now).
        """
        if deadline is None:
            deadline = time.monotonic() + self.deadline_s
        job, count = _Job(owner, self.model, work, top, deadline), len(pictures)
        names = ["picture"]
        if count != 1:
            names = [f"picture {place + 1}" for place in range(count)]
        futures: list[Future[T]] = [Future() for _ in pictures]
        self._refuse_killers(owner)
        with self._lock:
            if self.outstanding + count > self.capacity or (
                owner and self._of[owner] + count > self.share
            ):
                raise Busy(max(1, math.ceil(self.outstanding * self._picture_s / self.workers)))
            self.outstanding += count
            self._of[owner] += count
            self._lines.setdefault(owner, deque()).extend(
                _Waiting(future, partial(self._answer, job, data, name))
                for future, data, name in zip(futures, pictures, names, strict=True)
            )
        for future in futures:
            future.add_done_callback(partial(self._leave, owner))
            # filled by `_next`: whose turn it is when a thread is free, nobody knows yet
            begun: list[Future[Any]] = []
            self._pool.submit(self._next, begun).add_done_callback(partial(_hand_on, begun))
        return futures

    def answer(self, picture: bytes, work: Work[T], *, top: int = 5, owner: str = "") -> T:
        """Wait for the answer to one picture, and return it. Raises `Busy`, `Late`, `BadImage`."""
        (future,) = self.submit([picture], work, top=top, owner=owner)
        try:
            return future.result(self.deadline_s)
        except TimeoutError:
            future.cancel()
            raise Late from None

    def close(self) -> None:
        """Forget what waits, and end what is being decoded."""
        # not waited for: a thread in a decoder ends when its decoder is killed, below
        self._pool.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            forgotten = [waiting.future for line in self._lines.values() for waiting in line]
            self._lines.clear()
        for future in forgotten:
            future.cancel()
        self.decoders.close()

    def _next(self, begun: list[Future[Any]]) -> Any:
        """Answer the picture whose turn it is, and put its future into `begun`."""
        with self._lock:
            if not self._lines:  # closed
                return None
            owner, line = self._lines.popitem(last=False)
            waiting = line.popleft()
            # put back at the end: the next picture of this owner waits for all other owners
            if line:
                self._lines[owner] = line
        # taken back by a request that is gone or late
        if not waiting.future.set_running_or_notify_cancel():
            return None
        begun.append(waiting.future)
        return waiting.answer()

    def _refuse_killers(self, owner: str) -> None:
        """Raise `Busy` for an owner whose pictures brought decoders to their end."""
        if owner and (wait_s := self._kills.wait_s(owner)):
            raise Busy(wait_s)

    def _answer(self, job: _Job[T], data: bytes, name: str) -> T:
        """Return what the work of a job makes of one of its pictures."""
        started = time.monotonic()
        # nobody waits for it any more, so it is not decoded
        if started > job.deadline:
            raise Late
        self._refuse_killers(job.owner)
        with ExitStack() as alone:
            pixels = self._decode(job, data, name, alone)
            left_s = job.deadline - time.monotonic()
            if left_s < 0:
                raise Late
            try:
                prediction = job.model.predictor.predict(pixels, top=job.top, limit_s=left_s)
            except NoAnswer:
                raise Late from None
            result = job.work(AnsweredPicture(pixels, prediction, job.model))
        # without a lock: a lost update of an average does no harm
        self._picture_s += 0.1 * (time.monotonic() - started - self._picture_s)
        return result

    def _decode(self, job: _Job[Any], data: bytes, name: str, alone: ExitStack) -> np.ndarray:
        """Decode a picture to uint8 [H, W, 3]; a large one holds a lock until `alone` is
        closed."""
        try:
            # as a small one first: only its header tells how large a picture is
            return self._decode_within(job, data, name, min(LARGE_PIXELS, self.max_pixels))
        except BadImage as error:
            # its header was enough to know that, so that trying again costs little
            if self.max_pixels <= LARGE_PIXELS or not error.reason.startswith("too large"):
                raise
        if not self._large.acquire(timeout=max(0.0, job.deadline - time.monotonic())):
            raise Late
        alone.callback(self._large.release)
        return self._decode_within(job, data, name, self.max_pixels)

    def _decode_within(self, job: _Job[Any], data: bytes, name: str, max_pixels: int) -> np.ndarray:
        """Decode a picture of at most `max_pixels` in the time that its request has left."""
        seconds = min(self.decode_s, max(LEAST_DECODE_S, job.deadline - time.monotonic()))
        try:
            return self.decoders.decode(data, name, max_pixels=max_pixels, seconds=seconds)
        except Killed:
            # a good one may need what is less
            if job.owner and seconds >= min(self.decode_s, 2 * LEAST_DECODE_S):
                self._kills.add(job.owner)
            raise
        except Unavailable:
            raise Busy(1) from None

    def _leave(self, owner: str, _: Future[T]) -> None:
        """Give the place of a picture back, whatever became of it."""
        with self._lock:
            self.outstanding -= 1
            self._of[owner] -= 1
            if not self._of[owner]:
                del self._of[owner]


def _hand_on(begun: Sequence[Future[Any]], done: Future[Any]) -> None:
    """Give what became of a picture to the one who waits for it."""
    for future in begun:
        if error := done.exception():
            future.set_exception(error)
        else:
            future.set_result(done.result())


def default_workers() -> int:
    """One per core that this process may use, 4 at most."""
    return min(machine.cpu_cores(), MAX_WORKERS)
