"""What is borrowed from uvicorn. Tried with uvicorn 0.54.0, with its parsers h11 and httptools.

uvicorn accepts any number of connections, waits for the head of a request for ever, and lets an
application neither see nor drop a connection. Its public settings start later: limit_concurrency
counts requests, timeout_keep_alive begins with the first answer.
"""

import asyncio
import contextlib
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Send
from uvicorn.protocols.http.auto import AutoHTTPProtocol

Connection = Any
"""uvicorn's protocol object of one connection, which has no public type."""


class _TooMany(asyncio.Protocol):
    """A connection that is closed at once, because there are too many even to answer; final."""

    def connection_made(self, transport: Any) -> None:
        transport.abort()


def bounded_protocol(most: int) -> Callable[..., asyncio.Protocol]:
    """Return what `uvicorn.Config` takes as `http`: uvicorn's own protocol for at most `most`
    connections, of which further ones are closed at once.

    Borrowed: the class that uvicorn picks for "auto", and the keyword `server_state` with which it
    is called for each connection, whose `connections` are those that are open.
    """
    return partial(_protocol, most)


def _protocol(most: int, **keywords: Any) -> asyncio.Protocol:
    if len(keywords["server_state"].connections) >= most:
        return _TooMany()
    return AutoHTTPProtocol(**keywords)


def answer_errors_with(no_http: bytes, overloaded: ASGIApp) -> None:
    """Have uvicorn answer what is no HTTP with `no_http`, the bytes of a whole answer, and requests
    above its limit by the application `overloaded`: its own answers are plain text.

    Borrowed: `send_400_response` of the class that uvicorn picks for "auto", and
    `service_unavailable`, an application, in the module of that class.
    """

    def answer_no_http(connection: Connection, _: str) -> None:
        connection.transport.write(no_http)
        connection.transport.close()

    protocol: Any = AutoHTTPProtocol
    module: Any = sys.modules[protocol.__module__]
    protocol.send_400_response, module.service_unavailable = answer_no_http, overloaded


def silent_connections(server: uvicorn.Server) -> set[Connection]:
    """Return the open connections that wait for the head of a request.

    Borrowed: `server_state.connections`; and `cycle` of a connection, the request that it answers
    or answered last (None before the first), with its `response_complete`.
    """
    connections: set[Connection] = {*server.server_state.connections}
    return {
        connection
        for connection in connections
        if connection.cycle is None or connection.cycle.response_complete
    }


def close(connection: Connection) -> None:
    """Close a connection, which may have ended meanwhile.

    Borrowed: `transport` of a connection.
    """
    with contextlib.suppress(AttributeError):  # without one: closed meanwhile
        connection.transport.close()


def transport_of(send: Send) -> asyncio.Transport | None:
    """Return the transport of the connection to which an application's `send` writes; None under
    any other server.

    ASGI has no way to drop a connection, and closing it would wait for a reader who does not read.
    Borrowed: `send` is a method of an object with the attribute `transport`.
    """
    return getattr(getattr(send, "__self__", None), "transport", None)
