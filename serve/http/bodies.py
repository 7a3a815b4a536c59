"""Bodies of requests on their way in: counted while they arrive, and given up when they are too
large, late or much."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator

from starlette.exceptions import HTTPException
from starlette.types import Message, Receive

from serve.http.life import Life
from serve.limits import budgets

STREAM_LOOK_S = 0.5
"""Seconds between two looks of an event stream whether it is to end."""
LEAST_RATE, BEGIN_S = 1_000, 10.0
"""Bytes a second at which a body has to arrive on average, and seconds at its beginning that do not
count: one that trickles holds its place for these, however long the deadline is. A telephone on
GPRS sends 5,000."""
TOO_MUCH = "Too much is being sent at once; try again later."


class Bodies:
    """What all requests together may send at a time; final. For one event loop.

    `body_s` seconds until a whole body must have arrived, at `LEAST_RATE`; `rejected` counts
    refusals by their reason.
    """

    def __init__(self, body_s: float, rejected: Callable[[str], None]):
        self._body_s, self._rejected = body_s, rejected
        self._bytes = budgets.Bytes(budgets.BODIES_BYTES)

    def full(self) -> bool:
        """Tell whether no request with a picture is taken now, whoever sends it."""
        return not self._bytes.has_room(budgets.SMALL_BODY_BYTES, "")

    def has_room(self, length: int, address: str) -> bool:
        """Tell whether a body of `length` bytes fits beside those that have arrived so far."""
        return self._bytes.has_room(length, address)

    @contextlib.contextmanager
    def counted(
        self, receive: Receive, address: str, limit: int, *, in_memory: bool
    ) -> Iterator[Receive]:
        """`receive` that raises an HTTP error for more than `limit` bytes, for a late body, and,
        where it is held `in_memory`, for too much beside all others."""
        started, arrived, whole, held = time.monotonic(), 0, False, 0

        async def receive_counted() -> Message:
            nonlocal arrived, whole, held
            # what follows a body is only the end of the connection, which may take long
            if whole:
                return await receive()
            # grows with what has arrived, so that a slow sender who goes on is not cut off
            deadline = started + min(self._body_s, BEGIN_S + arrived / LEAST_RATE)
            try:
                async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                    message = await receive()
            except TimeoutError:
                self._rejected("body")
                raise HTTPException(
                    408, "The request did not arrive in time.", {"connection": "close"}
                ) from None
            count = len(message.get("body", b""))
            arrived += count
            whole = not message.get("more_body", False)
            if arrived > limit:
                self._rejected("body")
                raise HTTPException(413, too_large(limit), {"connection": "close"})
            if in_memory:
                if not self._bytes.take(count, address, already=held):
                    self._rejected("bodies")
                    raise HTTPException(503, TOO_MUCH, {"retry-after": "2", "connection": "close"})
                held += count
            return message

        try:
            yield receive_counted
        finally:
            self._bytes.give_back(held, address)


async def whole_body(receive: Receive) -> bytes:
    """Return the body of a request."""
    parts, more = [], True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


def until_over(life: Life, receive: Receive) -> Receive:
    """`receive` of an event stream, which breaks off when all streams are to end."""

    async def receive_until() -> Message:
        while not life.over:
            # looked at again and again: nothing wakes a stream that waits for its client
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STREAM_LOOK_S):
                    return await receive()
        return {"type": "http.disconnect"}

    return receive_until


def body_first(body: bytes, receive: Receive) -> Receive:
    """`receive` that gives this body, and then what the client does."""
    left = [body]

    async def receive_plain() -> Message:
        if left:
            return {"type": "http.request", "body": left.pop(), "more_body": False}
        return await receive()

    return receive_plain


def too_large(limit: int) -> str:
    """Return the sentence for a body of more than `limit` bytes."""
    return f"The request is too large: at most {limit / 1e6:g} MB are accepted."
