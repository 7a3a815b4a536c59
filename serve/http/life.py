"""The process: listening, told to stop, answering what is in flight, gone; and connections that
never send anything."""

import asyncio
import errno
import signal
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import uvicorn

from serve.http import few_lines
from serve.insides import of_uvicorn
from serve.limits.budgets import Room
from zoo.host.errors import UserError

GRACE_S = 1.0
"""After SIGTERM new requests are still taken for so long, while load balancers read the 503 of
/readyz."""
HEAD_S = 15.0
"""Seconds until a connection must have sent the head of a request."""
SILENT_LOOK_S = 0.25
"""Seconds between two looks for them."""
STREAMS_S = 2
"""Seconds that open event streams of the page (they never end) are given at the end."""


@dataclass
class Life:
    """How far the process is."""

    draining: bool = False
    """Told to stop: /readyz says 503."""
    closing: bool = False
    """New work is refused."""
    over: bool = False
    """Event streams of the page end: all that was in flight is answered."""
    active: int = 0
    """POST requests that have begun and are not answered."""
    idle: Callable[[], bool] = field(default=lambda: True)
    """Whether no picture waits or is being answered."""
    full: Callable[[], bool] = field(default=lambda: False)
    """Whether so much is arriving that no further picture is taken."""
    room: Room = field(default_factory=Room)
    """Connections that there may be."""
    patience_s: float = 30.0
    """What is in flight is waited for at most so long."""


def serve(app: Any, life: Life, *, host: str, port: int, ready: Callable[[int], None]) -> None:
    """Listen until SIGTERM or SIGINT; `ready` is called with the port once requests are taken.

    `UserError` if the address cannot be had.

    The first signal: /readyz says 503 at once, all that is in flight is answered, then this
    returns. A second one stops at once.
    """
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            ws="none",
            http=of_uvicorn.bounded_protocol(  # type: ignore[arg-type]  # it calls what it gets
                life.room.connections + life.room.backlog
            ),
            limit_concurrency=life.room.connections,
            backlog=life.room.backlog,
            timeout_graceful_shutdown=STREAMS_S,
        )
    )
    few_lines.bound()
    with _listen(host, port) as listening:
        asyncio.run(_serve(server, listening, life, partial(ready, listening.getsockname()[1])))


def _listen(host: str, port: int) -> socket.socket:
    """Open the socket; `UserError` if the address cannot be had."""
    family = socket.AF_INET
    if ":" in host:
        family = socket.AF_INET6
    try:
        listening = socket.create_server((host, port), family=family, backlog=1024)
        # connections inherit it; asyncio sets it only for those that it opened itself, and without
        # it the second part of each answer waits 40 ms for an acknowledgement
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listening
    except OSError as error:
        advice = "Name an address of this machine, such as 127.0.0.1 or ::1."
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            advice = "Choose another port; 0 is any free one."
        raise UserError(
            f"--host {host} --port {port}: expected an address that is free, seen: "
            f"{str(error.strerror).partition(' (while')[0]}. {advice}"
        ) from None


async def _serve(
    server: uvicorn.Server, listening: socket.socket, life: Life, ready: Callable[[], None]
) -> None:
    """Run the server in this event loop until it stops; call `ready` once it takes requests."""
    serving = asyncio.create_task(server.serve([listening]))
    while not server.started and not serving.done():
        await asyncio.sleep(0.005)
    if serving.done():
        return await serving
    tasks = {asyncio.create_task(_close_silent(server, life.room.silent))}

    def stop() -> None:
        if life.draining:
            few_lines.write_no_more()
            server.force_exit = server.should_exit = True
        else:
            life.draining = True
            tasks.add(asyncio.create_task(_drain(server, life)))

    # in place of uvicorn's, which stops listening first
    on_signals(asyncio.get_running_loop(), stop)
    ready()
    try:
        await serving
    finally:
        for task in tasks:
            task.cancel()


def on_signals(loop: asyncio.AbstractEventLoop, stop: Callable[[], None]) -> None:
    """Have `stop` called in the loop at SIGTERM, SIGINT and Windows' SIGBREAK; for the main thread.

    The event loops of Windows have no `add_signal_handler`.
    """
    numbers = [signal.SIGTERM, signal.SIGINT]
    if hasattr(signal, "SIGBREAK"):
        numbers.append(signal.SIGBREAK)
    for number in numbers:
        try:
            loop.add_signal_handler(number, stop)
        except NotImplementedError:
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop))


async def _drain(server: uvicorn.Server, life: Life) -> None:
    """Take new work for a moment, wait for what is in flight, then let the server stop."""
    await asyncio.sleep(GRACE_S)
    life.closing = True
    last = time.monotonic() + life.patience_s
    while (life.active or not life.idle()) and time.monotonic() < last:
        await asyncio.sleep(0.02)
    server.should_exit = True
    await asyncio.sleep(STREAMS_S / 4)  # the last answers are still on their way
    life.over = True


async def _close_silent(server: uvicorn.Server, most: int) -> None:
    """Close connections that do not send the head of a request, and of more than `most` those that
    wait longest: uvicorn has no timeout for them."""
    since: dict[Any, float] = {}
    while True:
        await asyncio.sleep(SILENT_LOOK_S)
        silent = of_uvicorn.silent_connections(server)
        now = time.monotonic()
        since = {connection: since.get(connection, now) for connection in silent}
        for connection in _waited_too_long(since, now, most):
            of_uvicorn.close(connection)


def _waited_too_long(since: Mapping[Any, float], now: float, most: int) -> list[Any]:
    """Of connections and when each was first seen silent, those to close at `now`.

    What is seen for the first time is spared: nobody knows in which order connections of one look
    came, and the newest may be that of a request whose head is on its way.
    """
    longest_first = sorted(since, key=lambda connection: since[connection])
    spare = len(longest_first) - most
    return [
        connection
        for place, connection in enumerate(longest_first)
        if now - since[connection] > HEAD_S or (place < spare and since[connection] < now)
    ]
