"""Python in processes of its own that share one import of the heavy libraries: a server that has
them forks, for all workers of a test run.

    warm.run(warm.TORCH, ["-m", "zoo", "push", ...], env=env)   # as subprocess.run does
    warm.Process(warm.GRADIO, ["-m", "serve", ...])             # as subprocess.Popen does

What a test asserts about imports, about the start of the interpreter or about warnings needs a real
start instead. Importing timm or gradio takes about 6 CPU seconds on a machine where a fork takes
none to speak of.
"""

import atexit
import functools
import gc
import hashlib
import importlib
import json
import marshal
import os
import runpy
import secrets
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

from filelock import FileLock

ROOT = Path(__file__).parents[1]
TORCH = "timm safetensors.torch httpx2 tyro yaml"
HUB = "huggingface_hub.hf_api huggingface_hub.file_download numpy PIL.Image tyro yaml"
GRADIO = "gradio tyro"
"""Without ONNX Runtime, which starts a thread that a fork loses, and without transformers, which
copies settings of the Hub's client when it is imported; the client itself keeps them in one module,
which each process reads again."""


def run(
    imports: str,
    arguments: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path = ROOT,
    timeout: float | None = 120,
    check: bool = False,
) -> subprocess.CompletedProcess[str]:
    """The end of a process, with what it printed; arguments as of `subprocess.run`."""
    with Process(
        imports,
        arguments,
        env=env,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            stdout, stderr = process.communicate(timeout=timeout)
        finally:
            process.kill()
    done = subprocess.CompletedProcess(
        list(map(str, arguments)), process.returncode, stdout, stderr
    )
    if check:
        assert done.returncode == 0, done.stderr
    return done


class Process(subprocess.Popen[str]):
    """`subprocess.Popen` of this interpreter with `-m MODULE ...`, `-c CODE ...` or `SCRIPT ...`,
    in text. Final."""

    def __init__(
        self,
        imports: str,
        arguments: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path = ROOT,
        **streams: Any,
    ):
        self._order = {
            "arguments": list(map(str, arguments)),
            "env": dict(os.environ if env is None else env),
            "cwd": str(cwd),
            "cores": _cores(),
        }
        self._server = _server(imports)
        super().__init__([sys.executable, *self._order["arguments"]], text=True, **streams)

    def _execute_child(self, *how: Any) -> None:
        """Ask the server for the process, where Popen would fork this one; `how` ends in streams
        and their owners."""
        (
            child_reads,
            parent_writes,
            parent_reads,
            child_writes,
            parent_reads_errors,
            child_errors,
        ) = how[10:16]
        streams = [
            given if given != -1 else own
            for given, own in ((child_reads, 0), (child_writes, 1), (child_errors, 2))
        ]
        self._status, status = socket.socketpair()
        socket.send_fds(
            self._server, [json.dumps(self._order).encode()], [*streams, status.fileno()]
        )
        status.close()
        self.pid = int(self._status.recv(20))
        self._child_created = True
        self._close_pipe_fds(
            child_reads,
            parent_writes,
            parent_reads,
            child_writes,
            parent_reads_errors,  # type: ignore[attr-defined]
            child_errors,
        )

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        """The process is not a child of this one: its keeper sends its status."""
        try:
            status = self._status.recv(20, socket.MSG_DONTWAIT if wait_flags & os.WNOHANG else 0)
        except BlockingIOError:
            return 0, 0
        self._status.close()
        return self.pid, int(status)

    def _internal_poll(self, *_: Any, **__: Any) -> int | None:
        with self._waitpid_lock:  # type: ignore[attr-defined]
            if self.returncode is None:
                pid, status = self._try_wait(os.WNOHANG)
                if pid:
                    self._handle_exitstatus(status)  # type: ignore[attr-defined]
        return self.returncode


def _cores() -> list[int]:
    """Those that this process may use; none where the system cannot tell."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def _lock() -> FileLock:
    """Held while a server is looked for, started or given up."""
    return FileLock(Path(tempfile.gettempdir(), f"zootune-warm-{os.getuid()}.lock"))


@functools.cache
def _server(imports: str) -> socket.socket:
    """A socket to the server that has these imports. The worker that needs it first starts it; it
    ends when no worker is connected any more."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID") or secrets.token_hex()
    name = hashlib.sha256(f"{run} {imports}".encode()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir(), f"zootune-warm-{name}")
    ours = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    process = None
    with _lock():
        if not folder.exists():
            folder.mkdir(mode=0o700)
            process = _start_server(folder, imports)
        ours.connect(str(folder / "socket"))

    def stop() -> None:
        ours.close()
        if process:
            process.wait(20)

    atexit.register(stop)
    return ours


def _start_server(folder: Path, imports: str) -> subprocess.Popen[bytes]:
    """It takes orders from who connects to the socket in this folder, at once or before the imports
    are done."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(folder / "socket"))
        listener.listen()
        return subprocess.Popen(
            [sys.executable, "-m", "tests.warm", str(listener.fileno()), folder, *imports.split()],
            cwd=ROOT,
            pass_fds=[listener.fileno()],
            stdin=subprocess.DEVNULL,
        )


def _compile_once(folder: Path) -> None:
    """Let the processes take the code of our modules from this folder, where the first of them that
    imports one leaves it. With PYTHONDONTWRITEBYTECODE each would compile all of them again, for up
    to a second."""
    real = SourceFileLoader.source_to_code

    def source_to_code(loader: Any, data: Any, path: Any, **how: Any) -> Any:
        if not isinstance(data, bytes) or ROOT not in Path(path).parents:
            return real(loader, data, path, **how)
        kept = folder / hashlib.sha256(path.encode() + data).hexdigest()
        if kept.exists():
            return marshal.loads(kept.read_bytes())
        code = real(loader, data, path, **how)
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
            file.write(marshal.dumps(code))
        os.replace(file.name, kept)
        return code

    SourceFileLoader.source_to_code = source_to_code  # type: ignore[assignment,method-assign]


def _serve_all(listener: socket.socket, folder: Path, imports: Sequence[str]) -> None:
    """Fork for each order of those who connect, until the last of them has left. Imports only what
    the processes may have imported."""
    for name in imports:
        __import__(name)
    gc.collect()
    # or each process looks through all of it when it collects, and copies its memory by that
    gc.freeze()
    connections = [listener.accept()[0]]
    while connections:
        with selectors.DefaultSelector() as ready:
            for source in (listener, *connections):
                ready.register(source, selectors.EVENT_READ)
            events = ready.select()
        for key, _ in events:
            if key.fileobj is listener:
                connections.append(listener.accept()[0])
            elif not _carried_out(key.fileobj, (listener, *connections)):
                connections.remove(key.fileobj)
                key.fileobj.close()
        if not connections:
            connections = _last_call(listener, folder)


def _last_call(listener: socket.socket, folder: Path) -> list[socket.socket]:
    """Who connected meanwhile; if nobody did, nobody can any more."""
    listener.setblocking(False)
    with _lock():
        try:
            connection, _ = listener.accept()
        except BlockingIOError:
            shutil.rmtree(folder)
            return []
    listener.setblocking(True)
    connection.setblocking(True)
    return [connection]


def serve(connection: socket.socket) -> None:
    """Fork for each order, until the other end closes."""
    while _carried_out(connection, (connection,)):
        pass


def _carried_out(connection: socket.socket, others: Sequence[socket.socket]) -> bool:
    """Fork for the next order; whether there was one. The new process has none of the sockets."""
    content, streams, *_ = socket.recv_fds(connection, 1 << 20, 4)
    while _reaped():
        pass
    if not content:
        return False
    if os.fork() == 0:
        for other in others:
            other.close()
        _keep(json.loads(content), streams)
    for stream in streams:
        os.close(stream)
    return True


def _reaped() -> bool:
    """Whether a keeper had ended."""
    try:
        return os.waitpid(-1, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return False


def _keep(order: dict[str, Any], streams: Sequence[int]) -> None:
    """Fork the process, and send its id and in the end its status: the keeper, whose child it
    is."""
    *standard, status = streams
    if order["cores"]:  # those of the worker, which need not have started the server
        os.sched_setaffinity(0, order["cores"])
    pid = os.fork()
    if pid == 0:
        os.close(status)
        _carry_out(order, standard)
        sys.exit(0)
    for stream in standard:
        os.close(stream)
    # of a group: they are for the process
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.write(status, str(pid).encode())
    os.write(status, str(os.waitpid(pid, 0)[1]).encode())
    os._exit(0)


def _carry_out(order: dict[str, Any], standard: Sequence[int]) -> None:
    """What the interpreter does with its command line."""
    for number, stream in enumerate(standard):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(order["env"])
    os.chdir(order["cwd"])
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 (of the whole process)
    sys.stdout = sys.__stdout__ = open(1, "w", encoding="utf-8", closefd=False)  # type: ignore[misc] # noqa: SIM115
    how: Any = {"errors": "backslashreplace", "buffering": 1}
    errors: Any = open(2, "w", encoding="utf-8", closefd=False, **how)  # noqa: SIM115
    sys.stderr = sys.__stderr__ = errors
    if settings := sys.modules.get("huggingface_hub.constants"):
        importlib.reload(settings)
    arguments = list(order["arguments"])
    while arguments[0] == "-W":
        warnings._setoption(arguments[1])  # type: ignore[attr-defined]
        del arguments[:2]
    option = arguments[0]
    path = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
    sys.path[:1] = [str(Path(option).parent) if option[0] != "-" else os.getcwd(), *path]
    if option == "-m":
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    elif option == "-c":
        sys.argv = ["-c", *arguments[2:]]
        exec(compile(arguments[1], "<string>", "exec"), vars(sys.modules["__main__"]))
    else:
        sys.argv = arguments
        runpy.run_path(option, run_name="__main__")


if __name__ == "__main__":
    _compile_once(Path(sys.argv[2]))
    _serve_all(socket.socket(fileno=int(sys.argv[1])), Path(sys.argv[2]), sys.argv[3:])
