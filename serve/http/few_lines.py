"""The log of the process: what strangers can cause over and over is written a few times a minute,
then counted."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

LOGGERS = ("uvicorn.error", "asyncio")
"""Loggers whose lines requests can cause: an upgrade that is not offered, bytes that are no HTTP,
too many files."""
LINES, WINDOW_S = 5, 60.0
"""Lines of one message that are written in one window of time."""
MESSAGES = 200
"""Messages that are told apart; uvicorn and asyncio have some dozens."""


@dataclass
class _Count:
    """Of one message in the present window."""

    began: float
    lines: int = 0


class FewLines(logging.Filter):
    """Lets `LINES` of a message pass in `WINDOW_S`; the first of the next window says how many were
    not written. Final.

    `clock` in seconds. Handlers hold a lock of their own, so no line is lost or doubled between
    threads but a count.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        super().__init__()
        self._clock = clock
        self._counts: dict[tuple[str, int, str], _Count] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether this line is written."""
        now, key = self._clock(), (record.name, record.levelno, str(record.msg))
        if key not in self._counts and len(self._counts) >= MESSAGES:
            key = (record.name, record.levelno, "")
        count = self._counts.setdefault(key, _Count(now))
        if now - count.began >= WINDOW_S:
            if (left := count.lines - LINES) > 0:
                record.msg, record.args = (
                    f"{record.getMessage()} ({left:,} more lines like it were not written)",
                    None,
                )
            count.began, count.lines = now, 0
        count.lines += 1
        return count.lines <= LINES


def bound() -> None:
    """Bound the lines of `LOGGERS` from now on."""
    few = FewLines()
    for name in LOGGERS:
        logging.getLogger(name).addFilter(few)


def write_no_more() -> None:
    """Write no line of `LOGGERS` from now on: what is broken off when the service has to end at
    once is no error."""
    for name in LOGGERS:
        logging.getLogger(name).disabled = True
