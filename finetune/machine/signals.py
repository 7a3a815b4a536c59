"""SIGTERM, SIGINT (Ctrl-C) and SIGUSR1 stop a run without losing a step.

    with raised():            a signal raises `Stopped` where the program stands: it has nothing to
                              finish there
    with held() as asked:     a signal is noted only; who finished a step asks, saves, and raises
                              `Stopped`

A second signal, a second or more after the first, ends the process at once. Sooner it is the same
one, come twice:
Ctrl-C reaches a launcher and its processes, and the launcher passes it on.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from types import FrameType
from typing import Any

STOPS = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGUSR1") if hasattr(signal, name)
)
"""SIGUSR1 is what Slurm sends ahead of a time limit (`--signal=USR1@120`); Windows has none."""
SAME_S = 1.0
"""Signals closer to the first than this are the first one again."""


class Stopped(SystemExit):
    """A signal asked for the end: exit code 130 after SIGINT, else 143."""

    def __init__(self, number: int):
        super().__init__(exit_code(number))
        self.name = signal.Signals(number).name


def exit_code(number: int) -> int:
    """130 for SIGINT, as shells give it; 143 for the others, which ask for the same end."""
    return 130 if number == signal.SIGINT else 143


_first: list[tuple[int, float]] = []
"""The first signal, and when it came (monotonic, seconds); empty while there was none."""


def _note(number: int, _: FrameType | None) -> None:
    if not _first:
        _first.append((number, monotonic()))
    elif monotonic() - _first[0][1] >= SAME_S:
        os._exit(exit_code(number))


def _raise(number: int, frame: FrameType | None) -> None:
    again = bool(_first)  # then a Stopped is on its way already
    _note(number, frame)
    if not again:
        raise Stopped(number)


@contextmanager
def _handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    # signals reach the main thread only
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[int, Any] = {number: signal.signal(number, handler) for number in STOPS}
    outermost = not {_note, _raise} & set(before.values())
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
        if outermost:
            _first.clear()


@contextmanager
def raised() -> Iterator[None]:
    """Inside, a signal raises `Stopped`, also one that was noted before."""
    with _handled(_raise):
        if _first:
            raise Stopped(_first[0][0])
        yield


@contextmanager
def held() -> Iterator[Callable[[], int]]:
    """Inside, a signal is noted; the function that this yields gives its number, 0 = none came.

    One that came after the last question raises `Stopped` at the end, where this stands within
    `raised`: else nobody would answer it.
    """
    with _handled(_note):
        yield _noted
    if _first and signal.getsignal(_first[0][0]) is _raise:
        raise Stopped(_first[0][0])


def _noted() -> int:
    """The number of the first signal, 0 = none came."""
    return _first[0][0] if _first else 0


def ignore(_: int = 0) -> None:
    """For processes that decode: a signal to the whole group must not take them from the step that
    is being finished.

    They end with their parent, which they watch."""
    for number in STOPS:
        signal.signal(number, signal.SIG_IGN)
