"""What one address, and all of them together, may hold at a time: connections, event streams,
requests, bytes."""

import asyncio
import contextlib
import ipaddress
import math
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields

from starlette.types import Scope, Send

from serve.insides import of_uvicorn
from serve.limits.logins import ADDRESSES, LONGEST_WAIT_S, remember
from zoo.host.errors import UserError

CONNECTIONS = 800
"""Open connections at most."""
SILENT = 200
"""Connections at most that have not sent the head of a request: of more, those that wait longest
are closed."""
STREAMS, STREAMS_EACH = 300, 64
"""Open event streams of the page: in all, and of one address. A page that is open holds one, two
while it works."""
REQUESTS, REQUESTS_EACH = 260, 210
"""Other requests that are being received or answered: in all, and of one address.

With `STREAMS` and `SILENT` they leave 40 of the 800 `CONNECTIONS` for /healthz and /readyz.
"""
OTHER_FILES = 100
"""Files that are open besides connections and what their requests open: model, decoders, log,
libraries; 57 were seen with four workers."""
LEAST_FILES = 192
"""Open files without which the service does not start: it could take 33 connections."""
BURST_SHARE, BACKLOG_SHARE = 4, 16
"""Parts of the open files, 1 / so many: left free for sudden bursts, and connections that are
accepted at once.

asyncio accepts a whole backlog before it looks at what it accepted, twice over: with what is
answered by 503 above the limit, three backlogs at most."""
WANTED_FILES = 4096
"""Open files that are asked for where the system gives them: room for more than the budgets, for
sudden bursts."""
BODIES_BYTES = 100_000_000
"""Bytes of bodies in memory, of all requests that are not answered yet; a single larger request is
taken alone."""
SMALL_BODY_BYTES = 1_000_000
"""A usual picture: where it finds no room, the service is not ready."""
FREE_KILLS, KILLS_S = 2, 60.0
"""After so many killed decoders an address waits; one is forgotten so many seconds after it, or
after its wait."""
KILL_WAIT_S = 10.0
"""Seconds of the first wait; doubled by each further kill up to `logins.LONGEST_WAIT_S`."""
ANSWER_S = 120.0
"""Seconds in which an answer must have been taken: longer holds a connection for nothing. Event
streams apart."""


@dataclass(frozen=True)
class Room:
    """How many connections there may be, and of which kind."""

    connections: int = CONNECTIONS
    silent: int = SILENT
    streams: int = STREAMS
    streams_each: int = STREAMS_EACH
    requests: int = REQUESTS
    requests_each: int = REQUESTS_EACH
    backlog: int = WANTED_FILES // BACKLOG_SHARE
    """Connections that wait to be accepted, and are accepted at once."""


def room(files: int) -> Room:
    """Return the budgets that fit `files` open files: a connection is one, and each request may
    open one more.

    Bodies of the API stay in memory, and an upload of the page writes one file at a time.
    `UserError` below `LEAST_FILES`.
    """
    if files < LEAST_FILES:
        raise UserError(
            f"expected that this process may open {LEAST_FILES} files at least, seen a limit of "
            f"{files}: raise it (ulimit -n 4096, or LimitNOFILE= of the systemd unit)."
        )
    # all budgets shrink alike, so that none of them is reached first
    share = min(1.0, (files - files // BURST_SHARE - OTHER_FILES) / (CONNECTIONS + REQUESTS))
    whole = Room()
    shares = {field.name: max(1, int(share * getattr(whole, field.name))) for field in fields(Room)}
    return Room(**shares | {"backlog": min(whole.backlog, files // BACKLOG_SHARE)})


def open_files() -> int:
    """Return how many files this process may open, after asking the system for `WANTED_FILES`."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows, which has no such limit for sockets
        return WANTED_FILES
    # the soft limit is often 1,024, though the process may raise it
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED_FILES
    if hard != resource.RLIM_INFINITY:
        wanted = min(WANTED_FILES, hard)
    if soft == resource.RLIM_INFINITY:
        return WANTED_FILES
    if soft < wanted:
        # macOS has a second limit, which it does not tell
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    return soft


class Slots:
    """So many at a time, in all and of each address; final. For one event loop."""

    def __init__(self, total: int, each: int):
        self._total, self._each = total, each
        self._held: Counter[str] = Counter()
        self._count = 0

    def full(self) -> bool:
        """Tell whether nobody is given a slot now."""
        return self._count >= self._total

    @contextlib.contextmanager
    def one(self, address: str) -> Iterator[bool]:
        """Whether there is a slot, which is held until the block ends."""
        # False counts as 0 below, so that nothing is given back that was not taken
        free = self._count < self._total and self._held[address] < self._each
        self._count += free
        self._held[address] += free
        try:
            yield free
        finally:
            self._count -= free
            self._held[address] -= free
            if not self._held[address]:
                del self._held[address]  # or the table of addresses would grow for ever


class Bytes:
    """Bytes that are held in memory, half of `limit` at most by one address; final. For one event
    loop."""

    def __init__(self, limit: int):
        self._limit, self.held = limit, 0
        self._of: Counter[str] = Counter()

    def take(self, count: int, address: str, *, already: int) -> bool:
        """Tell whether a request that holds `already` bytes may hold `count` more.

        The only one of its address may be larger than its share, the only one there is larger than
        the limit.
        """
        own = self._of[address]
        # own > already: other requests of this address hold something, too
        if own > already and own + count > self._limit // 2:
            return False
        if self.held > already and self.held + count > self._limit:
            return False
        self.held += count
        self._of[address] += count
        return True

    def has_room(self, count: int, address: str) -> bool:
        """Tell whether a new request may hold `count` bytes beside what is held now."""
        own = self._of.get(address, 0)
        alone, sole = not self.held, not own
        return (sole or own + count <= self._limit // 2) and (
            alone or self.held + count <= self._limit
        )

    def give_back(self, count: int, address: str) -> None:
        """A request of this address that held `count` bytes has ended."""
        self.held -= count
        self._of[address] -= count
        if not self._of[address]:
            del self._of[address]


class Kills:
    """How long an address waits whose pictures brought decoders to an end; final. Threads may share
    it.

    `clock` in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock, self._lock = clock, threading.Lock()
        # how many, and when the last was
        self._of: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def add(self, address: str) -> None:
        """A decoder was killed for a picture of this address."""
        now = self._clock()
        with self._lock:
            count, last = self._of.get(address, (0, now))
            # the time in which the address had to wait does not count as good conduct
            if now - last > KILLS_S + _wait_s(count):
                count = 0
            remember(self._of, address, (count + 1, now), ADDRESSES)

    def wait_s(self, address: str) -> int:
        """Return the whole seconds for which pictures of this address are refused; 0 = they are
        taken."""
        with self._lock:
            count, last = self._of.get(address, (0, 0.0))
        if not count:
            return 0
        return max(0, math.ceil(last + _wait_s(count) - self._clock()))


def _wait_s(kills: int) -> float:
    if kills < FREE_KILLS:
        return 0.0
    return min(LONGEST_WAIT_S, KILL_WAIT_S * 2 ** min(kills - FREE_KILLS, 30))


def address(scope: Scope) -> str:
    """Return who asks: the address as text, for IPv6 its /64 network, which one machine usually has
    to itself."""
    host, _ = scope.get("client") or ("", None)
    return network_of(host)


def network_of(host: str) -> str:
    """Return the same for an address as text, which may hold anything."""
    try:
        known = ipaddress.ip_address(host)
    except ValueError:  # what a proxy wrote into X-Forwarded-For
        return "unknown"
    if isinstance(known, ipaddress.IPv6Address):
        if known.ipv4_mapped:
            return str(known.ipv4_mapped)
        # who has one address of IPv6 usually has 2^64, and would have as many budgets
        return str(ipaddress.ip_network((int(known) >> 64 << 64, 64)))
    return str(known)


@contextlib.contextmanager
def answered_in(seconds: float, send: Send) -> Iterator[None]:
    """Drop the connection if the block takes longer than `seconds`."""
    # under a server of tests there is none
    transport = of_uvicorn.transport_of(send)
    if transport is None:
        yield
        return
    timer = asyncio.get_running_loop().call_later(seconds, transport.abort)
    try:
        yield
    finally:
        timer.cancel()
