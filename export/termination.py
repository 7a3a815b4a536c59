"""SIGTERM ends an export as Ctrl-C does: what is half made is removed, and it is said."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from zoo.host.errors import UserError


class Terminated(UserError):
    """SIGTERM asked the program to end."""

    exit_code = 128 + 15
    """As shells report the end by SIGTERM."""


class _Stop(BaseException):
    """Raised wherever the program is; no error, so that no part of the export takes it for one."""


@contextmanager
def cleaning_up() -> Iterator[None]:
    """Inside, SIGTERM unwinds the program; `Terminated` once everything is removed. A second one
    ends the process at once."""
    # only the main thread gets signals; who ignores SIGTERM for us wants it ignored
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    ):
        yield
        return
    signal.signal(signal.SIGTERM, _stop)
    try:
        yield
    except _Stop:
        raise Terminated(
            "stopped by SIGTERM: what was half made is removed, and what was finished before is "
            "whole. Type the same command again."
        ) from None
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _stop(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    raise _Stop
