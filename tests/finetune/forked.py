"""Commands in processes of their own that share one import: a server that has imported everything forks them."""

import multiprocessing
import os
import runpy
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from typing import Any, TextIO

import pytest

from tests.made_base import end_quickly


@dataclass(frozen=True)
class Command:
    """A process that leads a process group of its own."""

    process: ForkServerProcess
    stdout: TextIO
    """What it prints, on stdout and on stderr, by line."""

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def finish(self, timeout_s: float) -> tuple[int, str]:
        """Wait for its end: its exit code, and what was printed and not read yet."""
        printed = self.stdout.read()
        self.process.join(timeout_s)
        assert self.process.exitcode is not None
        return self.process.exitcode, printed


@contextmanager
def started(work: Callable[..., object], *arguments: Any) -> Iterator[Command]:
    """`work(*arguments)` in a process of its own, but for the start of the interpreter and the imports."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["finetune.pipeline"])
    reader, writer = context.Pipe(duplex=False)
    process = context.Process(target=_carry_out, args=(work, arguments, writer))
    process.start()
    writer.close()
    with reader, open(os.dup(reader.fileno()), encoding="utf-8") as stdout:
        yield Command(process, stdout)
    process.join()
    process.close()


def finetune(*arguments: str) -> AbstractContextManager[Command]:
    """`python -m finetune ARGUMENTS`; the run ends as the fixture `quick_end` says."""
    return started(_finetune, *arguments)


def _finetune(*arguments: str) -> None:
    end_quickly(pytest.MonkeyPatch())
    sys.argv = ["finetune", *arguments]
    runpy.run_module("finetune", run_name="__main__", alter_sys=True)


def _carry_out(work: Callable[..., object], arguments: tuple[Any, ...], output: Connection) -> None:
    os.setsid()
    for stream in (1, 2):
        os.dup2(output.fileno(), stream)
    output.close()
    sys.stdout = sys.stderr = open(1, "w", buffering=1, encoding="utf-8", closefd=False)  # noqa: SIM115 (of the whole process)
    work(*arguments)
