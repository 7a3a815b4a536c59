"""The standard streams of a command, and what other libraries write to them: log records, warnings,
the traceback of an error of ours."""

import io
import logging
import os
import stat
import sys
import traceback
import warnings
from typing import Any

from zoo.host.text import printable


def encodable(text: str, stream: Any) -> str:
    """`text` with escapes for what the stream's encoding lacks."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


class CleanRecord(logging.LogRecord):
    """A log record whose message, and the traceback with it, are `printable`."""

    def getMessage(self) -> str:
        """The message with its arguments."""
        return printable(super().getMessage())


def _record(*args: Any, **named: Any) -> logging.LogRecord:
    record = CleanRecord(*args, **named)
    if record.exc_info and record.exc_info[0] is not None:
        record.exc_text = printable("".join(traceback.format_exception(*record.exc_info))).rstrip(
            "\n"
        )
    return record


def guard() -> None:
    """From now on log records, warnings and uncaught errors of this process are `printable`,
    whoever wrote them, and no character is one that the output's encoding cannot take. A stream
    that the caller closed, or whose reader has gone (`| head`), takes all and keeps nothing, so
    that a training of hours does not end with the program that showed its lines."""
    _reopen_closed()
    sys.stdout, sys.stderr = _lasting(sys.stdout), _lasting(sys.stderr)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # bars and help draw lines that ASCII lacks
            stream.reconfigure(errors="backslashreplace")
    # of every record, because handlers that libraries add format it by themselves
    logging.setLogRecordFactory(_record)
    sys.excepthook = _uncaught
    warnings.formatwarning = _warning
    # the parser of the command line repeats it as it is
    if any(printable(word) != word for word in sys.argv):
        sys.stdout, sys.stderr = _Clean(sys.stdout), _Clean(sys.stderr)


def _reopen_closed() -> None:
    """Give the standard streams that are closed, as a service manager may start a program, to the
    null device."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # the next file to be opened would take it, and get what libraries print
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115


def _lasting(stream: Any) -> Any:
    """Return the stream, as one that outlives its reader where it is a pipe or a socket."""
    try:
        mode = os.fstat(stream.fileno()).st_mode
    except (OSError, ValueError):  # no stream of the system: a test's
        return stream
    if not isinstance(stream, io.TextIOWrapper) or isinstance(stream, _Pipe):
        return stream
    if not stat.S_ISFIFO(mode) and not stat.S_ISSOCK(mode):
        return stream
    # before its successor writes, or lines would come in another order
    stream.flush()
    # the stream itself stays as it was for whoever holds it already
    same = io.BufferedWriter(io.FileIO(stream.fileno(), "w", closefd=False))
    return _Pipe(same, encoding=stream.encoding, line_buffering=stream.line_buffering)


class _Pipe(io.TextIOWrapper):
    """A pipe that takes all and keeps nothing as soon as nobody reads it any more."""

    def write(self, text: str) -> int:
        """Write to the pipe, or to nowhere."""
        try:
            return super().write(text)
        except BrokenPipeError:
            self._let_go()
            return len(text)

    def flush(self) -> None:
        """Flush to the pipe, or to nowhere."""
        try:
            super().flush()
        except BrokenPipeError:
            self._let_go()

    def _let_go(self) -> None:
        # the descriptor itself is replaced: what is still in the buffer is flushed when Python
        # ends, and would fail again
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self.fileno())
        os.close(null)


class _Clean(io.TextIOBase):
    """A stream that writes what is printable, and is no terminal: no colours, no bars; final."""

    def __init__(self, stream: Any):
        self._stream = stream

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Of the stream itself."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        """Write `printable(text)`."""
        self._stream.write(encodable(printable(text), self._stream))
        return len(text)

    def flush(self) -> None:
        """Flush the stream itself."""
        self._stream.flush()

    def fileno(self) -> int:
        """Of the stream itself."""
        return int(self._stream.fileno())

    def writable(self) -> bool:
        """It is."""
        return True


_format_warning = warnings.formatwarning


def _warning(*args: Any, **named: Any) -> str:
    return printable(_format_warning(*args, **named))


def _uncaught(kind: type[BaseException], value: BaseException, trace: Any) -> None:
    sys.stderr.write(
        encodable(printable("".join(traceback.format_exception(kind, value, trace))), sys.stderr)
    )
