"""Commands in processes of their own that share one import of the heavy libraries (see
tests/warm.py)."""

import base64
import gc
import os
import pickle
import runpy
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, TextIO

import pytest

from tests import warm
from tests.made_base import end_quickly

CODE = "import sys; from tests.finetune import forked; forked.carry_out(sys.argv[1])"


@dataclass(frozen=True)
class Command:
    """A process that leads a process group of its own."""

    process: warm.Process

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def stdout(self) -> TextIO:
        """What it prints, on stdout and on stderr, by line."""
        assert self.process.stdout is not None
        return self.process.stdout  # type: ignore[return-value]

    def is_alive(self) -> bool:
        return self.process.poll() is None

    def finish(self, timeout_s: float) -> tuple[int, str]:
        """Wait for its end: its exit code, and what was printed and not read yet."""
        printed = self.stdout.read()
        return self.process.wait(timeout_s), printed


@contextmanager
def started(work: Callable[..., object], *arguments: Any) -> Iterator[Command]:
    """`work(*arguments)` in a process of its own, but for the start of the interpreter and the
    imports.

    As in a real start of the interpreter, its own processes (those that decode pictures) are forks
    of it. With multiprocessing's fork server, which hands its start method down, each of them would
    import torch again.
    """
    order = base64.b64encode(pickle.dumps((work, arguments))).decode()
    with warm.Process(
        warm.TORCH,
        ["-c", CODE, order],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        yield Command(process)


def finetune(*arguments: str) -> AbstractContextManager[Command]:
    """`python -m finetune ARGUMENTS`; the run ends as the fixture `quick_end` says."""
    return started(_finetune, *arguments)


def _finetune(*arguments: str) -> None:
    end_quickly(pytest.MonkeyPatch())
    sys.argv = ["finetune", *arguments]
    runpy.run_module("finetune", run_name="__main__", alter_sys=True)


def torchrun(processes: int, *arguments: str) -> AbstractContextManager[Command]:
    """`torchrun --standalone --nproc-per-node PROCESSES -m finetune ARGUMENTS`."""
    return started(
        _torchrun, "--standalone", "--nproc-per-node", str(processes), "-m", "finetune", *arguments
    )


RANK = """
import os, runpy, sys
os.setsid()
assert sys.argv[1] == "-m"
module = sys.argv[2]
del sys.argv[1:3]
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""


def _torchrun(*arguments: str) -> None:
    """The launcher as it is, but that its processes are forks of it as it began, without a start of
    the interpreter."""
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.subprocess_handler.subprocess_handler import (
        SubprocessHandler,
    )

    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        ours.close()
        warm.serve(theirs)
        os._exit(0)
    theirs.close()
    warm._server = lambda imports: ours  # type: ignore[assignment]

    def popen(
        self: SubprocessHandler, command: tuple[str, ...], env: dict[str, str]
    ) -> warm.Process:
        interpreter, unbuffered, *words = command
        assert (interpreter, unbuffered) == (sys.executable, "-u")
        return warm.Process(warm.TORCH, ["-c", RANK, *words], env=env)

    SubprocessHandler._popen = popen
    run.main(list(arguments))


def carry_out(order: str) -> None:
    """What the new process does; `order` as `started` writes it."""
    os.setsid()
    work, arguments = pickle.loads(base64.b64decode(order))
    gc.freeze()  # what was imported stays: it is not looked through again
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    sys.stderr = sys.stdout
    work(*arguments)
