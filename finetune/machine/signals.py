"""SIGTERM, SIGINT (Ctrl-C) and SIGUSR1 stop a run without losing a step.

    with raised():                    a signal raises `Stopped` at once, wherever the program is:
                                      for code that has nothing to finish
    with held() as signal_number:     a signal is only noted: the code inside asks for it after each
                                      step, then saves and raises `Stopped` itself

A second signal ends the process at once, if it comes at least a second after the first. A signal
that comes sooner counts as the first one, delivered twice: Ctrl-C reaches a launcher and its
processes, and the launcher passes it on to them.
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
"""Slurm can send SIGUSR1 ahead of a time limit (`--signal=USR1@120`); Windows does not have it."""
SAME_S = 1.0
"""Signals that come within this many seconds after the first count as the first one."""


class Stopped(SystemExit):
    """Ends the program because a signal asked for it; exit code 130 after SIGINT, else 143."""

    def __init__(self, number: int):
        super().__init__(exit_code(number))
        self.name = signal.Signals(number).name


def exit_code(number: int) -> int:
    """130 for SIGINT, as shells report it; 143, that of SIGTERM, for the others."""
    return 130 if number == signal.SIGINT else 143


_first: list[tuple[int, float]] = []
"""The first signal, and when it came (monotonic, seconds); empty while there was none."""


def _note(number: int, _: FrameType | None) -> None:
    if not _first:
        _first.append((number, monotonic()))
    elif monotonic() - _first[0][1] >= SAME_S:
        # not SystemExit, with which every `finally` block would run first
        os._exit(exit_code(number))


def _raise(number: int, frame: FrameType | None) -> None:
    noted_before = bool(_first)
    _note(number, frame)
    # a second `Stopped` would be raised while the first one is being handled
    if not noted_before:
        raise Stopped(number)


@contextmanager
def _handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    # Python lets only the main thread set handlers
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
        # the next run in this process is not stopped by the signal that ended this one
        if outermost:
            _first.clear()


@contextmanager
def raised() -> Iterator[None]:
    """Inside, a signal raises `Stopped`; one that was noted before raises it on entry."""
    with _handled(_raise):
        if _first:
            raise Stopped(_first[0][0])
        yield


@contextmanager
def held() -> Iterator[Callable[[], int]]:
    """Inside, a signal is only noted; the function that this yields gives its number, or 0."""
    with _handled(_note):
        yield _noted
    # it came after the last call of that function, so within `raised` nobody else would act on it
    if _first and signal.getsignal(_first[0][0]) is _raise:
        raise Stopped(_first[0][0])


def _noted() -> int:
    """The number of the first signal; 0 if none came."""
    return _first[0][0] if _first else 0


def ignore(_: int = 0) -> None:
    """Ignore these signals in a process that decodes pictures; it ends with its parent, which it
    watches."""
    # a signal often goes to the whole group, and the step being finished still needs its batches
    for number in STOPS:
        signal.signal(number, signal.SIG_IGN)
