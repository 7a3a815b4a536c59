"""Commands in processes of their own that share one import: a server that has imported everything forks them."""

import multiprocessing
import os
import runpy
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from typing import TextIO

from finetune import finish


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
def finetune(*arguments: str, page: bool = True) -> Iterator[Command]:
    """`python -m finetune ARGUMENTS`, but for the start of the interpreter and the imports.

    `page`: whether the run draws its report.html, which takes as long as a short training.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["finetune.job"])
    reader, writer = context.Pipe(duplex=False)
    process = context.Process(target=_carry_out, args=(arguments, page, writer))
    process.start()
    writer.close()
    with reader, open(os.dup(reader.fileno()), encoding="utf-8") as stdout:
        yield Command(process, stdout)
    process.join()
    process.close()


def _carry_out(arguments: tuple[str, ...], page: bool, output: Connection) -> None:
    os.setsid()
    for stream in (1, 2):
        os.dup2(output.fileno(), stream)
    output.close()
    sys.stdout = sys.stderr = open(1, "w", buffering=1, encoding="utf-8", closefd=False)  # noqa: SIM115 (of the whole process)
    if not page:
        finish.write_report = lambda folder, data_root: None
    sys.argv = ["finetune", *arguments]
    runpy.run_module("finetune", run_name="__main__", alter_sys=True)
