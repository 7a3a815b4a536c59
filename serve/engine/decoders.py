"""The processes that decode uploads, one for each worker: killed when a picture takes too long,
then replaced.

A decoder is not trusted: of its answer, sizes are compared with what was asked for, and text is
made printable.
"""

import contextlib
import io
import logging
import math
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np

from serve.engine.decoder import ANSWER, MAX_BYTES, MAX_REASON, PIXELS, READY, REFUSED, REQUEST
from zoo.host.errors import BadImage, UserError

log = logging.getLogger("serve")
MODULE = "serve.engine.decoder"
START_S = 30.0
"""A decoder must be ready after so long; it takes about 0.2 s."""
TICK_S = 0.05
"""Between two looks for decoders whose time is over."""
BUFFER_BYTES = 1 << 16
"""Of requests and answers: most pictures of a phone's preview pass at once."""
TRIES = 3
"""A request waits for so many new decoders that end before they are ready."""

SECRETS = ("ZOOTUNE_AUTH", "ZOOTUNE_TOKEN", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
"""Variables that a decoder does not get."""


class Unavailable(Exception):
    """There is no decoder: none could be started, or the service is shutting down."""


class Killed(BadImage):
    """A picture brought its decoder to an end: by the time that it took, its memory, or a crash."""


class Decoders:
    """`count` decoder processes for pictures of at most `max_pixels`; final. Threads may share it.

    They start at once, without being waited for. `command`: what to start instead of
    `serve.engine.decoder`; tests use it.
    """

    def __init__(self, count: int, max_pixels: int, *, command: Sequence[str] | None = None):
        self.count, self.max_pixels = count, max_pixels
        self.ended: Counter[str] = Counter({"time": 0, "memory or crash": 0})
        """Decoders that a picture brought to their end, by the reason."""
        # -P: the folder in which the service was started is nothing to import from
        self._command = command or [sys.executable, "-P", "-m", MODULE, str(max_pixels)]
        self._children: set[_Child] = set()
        # the last is taken first: new ones, which are not ready yet, come in front
        self._idle: list[_Child] = []
        self._changed, self._closed, self._look = threading.Condition(), False, threading.Event()
        # daemon: a service that fails while it starts must not wait for it
        self._keeper = threading.Thread(target=self._keep, name="decoders", daemon=True)
        self._keeper.start()

    def decode(self, data: bytes, name: str, *, max_pixels: int, seconds: float) -> np.ndarray:
        """Decode a picture to uint8 [H, W, 3]. Raises `BadImage` (`Killed` for one that takes
        longer than `seconds`), or `Unavailable`."""
        child, answer = self._take(), None
        with self._changed:
            child.deadline = time.monotonic() + seconds
        try:
            # one byte more than is accepted, so that the decoder says that it is too large
            answer = child.ask(data[: MAX_BYTES + 1], max_pixels)
        except _Ended:
            if self._closed:
                raise BadImage(name, "not decoded, because the service is shutting down") from None
            raise Killed(name, self._why(child, seconds)) from None
        finally:
            # its answer was not read to the end, and would be taken for that of the next picture
            if answer is None:
                self._drop(child)
            else:
                self._give(child)
        if isinstance(answer, str):
            raise BadImage(name, answer)
        return answer

    def wait(self) -> None:
        """Wait until all are ready; `UserError` if they do not start."""
        children = []
        try:
            for _ in range(self.count):
                children.append(self._take())
        except Unavailable:
            raise UserError(
                f"{' '.join(self._command)}: expected the process that decodes pictures to start, "
                "seen its end; what it printed stands above. Does python start from here, with "
                "NumPy and Pillow?"
            ) from None
        finally:
            for child in children:
                self._give(child)

    def close(self) -> None:
        """End all decoders at once; threads that wait for them get `BadImage` or `Unavailable`."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._look.set()
        self._keeper.join()
        for child in list(self._children):
            child.process.kill()
            child.process.wait()
        with self._changed:
            idle, self._idle = self._idle, []
        for child in idle:  # those in use are closed by the threads that read from them
            child.close()

    def _why(self, child: "_Child", seconds: float) -> str:
        """Return the reason why a picture brought its decoder to an end, which is counted."""
        reason = "memory or crash"
        if child.late:
            reason = "time"
        with self._changed:
            self.ended[reason] += 1
        if child.late:
            return f"took longer than {seconds:.3g} s to decode"
        return "could not be decoded within the memory that a picture of its size may need"

    def _take(self) -> "_Child":
        """Return a decoder that is ready, for this thread alone until `_give` or `_drop`."""
        last, failed = time.monotonic() + START_S, 0
        while failed < TRIES:
            with self._changed:
                # also woken by `close`, after which nobody gives one back
                self._changed.wait_for(lambda: self._idle or self._closed, last - time.monotonic())
                if self._closed or not self._idle:
                    break
                child = self._idle.pop()
                child.deadline = last
            was_ready = child.ready
            if child.wait():
                return child
            self._drop(child)
            failed += not was_ready  # one that died while nobody used it is no failure to start
        raise Unavailable

    def _give(self, child: "_Child") -> None:
        """Put a decoder back."""
        with self._changed:
            child.deadline = math.inf
            if not child.late and not self._closed:
                self._idle.append(child)
                self._changed.notify()
                return
        self._drop(child)  # its time was over in the moment of its answer

    def _drop(self, child: "_Child") -> None:
        """End a decoder; the keeper replaces it."""
        child.close()
        with self._changed:
            self._children.discard(child)
        self._look.set()

    def _keep(self) -> None:
        """The keeper's thread: kills those whose time is over, and starts what is missing."""
        failing = False
        while not self._closed:
            with self._changed:
                now, missing = time.monotonic(), self.count - len(self._children)
                for child in self._children:
                    if child.deadline < now:
                        child.late = True
                        child.process.kill()
            try:
                # here only: Linux ends a decoder together with the thread that started it
                for _ in range(missing):
                    self._start()
                failing = False
            except OSError as error:
                if not failing:
                    log.error(
                        "a process that decodes pictures cannot be started: %s", error.strerror
                    )
                failing = True
            self._look.wait(TICK_S)
            self._look.clear()

    def _start(self) -> None:
        child = _Child(self._command)
        with self._changed:
            self._children.add(child)
            self._idle.insert(0, child)
            self._changed.notify()


class _Ended(Exception):
    """A decoder died, or answered what it may not."""


class _Child:
    """One decoder process and its pipes; final. One thread uses it at a time; any thread may kill
    it."""

    def __init__(self, command: Sequence[str]):
        self.process = subprocess.Popen(
            command,
            bufsize=BUFFER_BYTES,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=_environment(),
        )
        assert self.process.stdin
        assert self.process.stdout
        self._requests, self._answers = (
            self.process.stdin,
            cast(io.BufferedReader, self.process.stdout),
        )
        self.ready, self.late, self.deadline = False, False, math.inf
        """`late`: it was killed because its `deadline`, on the clock of `time.monotonic`,
        passed."""

    def wait(self) -> bool:
        """Wait until it is ready, and tell whether it is: False if it is dead."""
        if self.ready:
            return self.process.poll() is None
        # blocks until it is ready or dead; the keeper kills it when its deadline passes
        self.ready = self._answers.read(ANSWER.size) == ANSWER.pack(READY, 0, 0)
        return self.ready

    def ask(self, data: bytes, max_pixels: int) -> np.ndarray | str:
        """Return the pixels of an encoded picture, uint8 [H, W, 3], or the reason why there are
        none."""
        with contextlib.suppress(OSError):  # it died while it was written to
            self._requests.write(REQUEST.pack(len(data), max_pixels))
            self._requests.write(data)
            self._requests.flush()
            head = self._answers.read(ANSWER.size)
            if len(head) == ANSWER.size:
                return self._answer(*ANSWER.unpack(head), max_pixels=max_pixels)
        raise _Ended

    def _answer(self, kind: int, first: int, second: int, *, max_pixels: int) -> np.ndarray | str:
        """Read the rest of an answer with these numbers in its head; `_Ended` for one that cannot
        be."""
        if kind == PIXELS and 0 < first * second <= max_pixels:
            # made here, of a size that was asked for: the decoder cannot make this process take
            # more
            pixels = np.empty((first, second, 3), np.uint8)
            if self._answers.readinto(pixels.data.cast("B")) == pixels.nbytes:
                return pixels
        if kind == REFUSED and 0 < first <= MAX_REASON:
            # of a decoder that a picture may have taken over
            reason = self._answers.read(first).decode(errors="replace")
            return "".join(character if character.isprintable() else "?" for character in reason)
        raise _Ended

    def close(self) -> None:
        """Kill it and close its pipes."""
        self.process.kill()
        self.process.wait()
        for pipe in (self._requests, self._answers):
            with contextlib.suppress(OSError):  # the rest of a request that it can no longer take
                pipe.close()


def _environment() -> dict[str, str]:
    """Where the packages are, also for a folder that is not installed; no secrets, and no threads
    that nothing uses."""
    paths = [
        str(Path(__file__).resolve().parents[2]),
        *filter(None, [os.environ.get("PYTHONPATH")]),
    ]
    inherited = {name: value for name, value in os.environ.items() if name not in SECRETS}
    return inherited | {
        "PYTHONPATH": os.pathsep.join(paths),
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }
