"""What the gate answers to a request that it does not let through: a status and one sentence; and
the same form for errors that a framework answers on its own."""

import asyncio
import contextlib
import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope, Send

from serve.http.bodies import TOO_MUCH
from serve.limits import uploads

LINGER_S = 5.0
"""A refused upload is read and thrown away for so long, or its sender would see a broken
connection, not the reason."""
LONGEST_QUERY = 4_000
"""Bytes of a query string at most."""
SENTENCES = {
    403: "Not allowed.",
    404: "Not found.",
    422: "Expected a request of the form that this path takes.",
    500: "The service failed to answer; its log says why.",
}
"""Instead of what a framework says about these statuses; of others it is the status's name."""


@dataclass(frozen=True)
class Refusal:
    """Why a request is not let through, and what is answered."""

    status: int
    reason: str
    """As metrics count it."""
    sentence: str
    headers: tuple[tuple[bytes, bytes], ...] = ()


UNKNOWN = Refusal(
    401,
    "auth",
    "Credentials are needed: Basic (user, password) or Bearer (token).",
    ((b"www-authenticate", b'Basic realm="zootune", charset="UTF-8"'),),
)
CLOSE = (b"connection", b"close")
CLOSING = Refusal(503, "draining", "The service is shutting down.", ((b"retry-after", b"5"), CLOSE))
NO_HOST = Refusal(400, "host", "Expected host names in the headers Host and X-Forwarded-Host.")
FOREIGN = Refusal(
    403,
    "origin",
    "Web pages of other sites may not use this service; its owner can name them with "
    "--allow-origin, and a proxy must pass the header Host on.",
    (CLOSE,),
)
LONG = Refusal(
    414, "query", f"The query is too long: at most {LONGEST_QUERY} characters are accepted."
)
NO_ROUTE = Refusal(404, "route", "Not found.")
NO_SLASH = Refusal(404, "route", "Not found: this path has no slash at its end.")
ENCODED = Refusal(
    415,
    "encoding",
    "Expected a body that is not compressed: send it without the header Content-Encoding.",
)
STREAMS = Refusal(
    429,
    "streams",
    "Too many event streams are open; close some or try again later.",
    ((b"retry-after", b"10"), CLOSE),
)
REQUESTS = Refusal(
    503,
    "requests",
    "Too many requests are being answered; try again later.",
    ((b"retry-after", b"2"), CLOSE),
)
BODIES = Refusal(503, "bodies", TOO_MUCH, ((b"retry-after", b"2"), CLOSE))
FULL = Refusal(507, "uploads", uploads.FULL, ((b"retry-after", b"60"), CLOSE))


async def send_refusal(send: Send, refusal: Refusal, *, rest: Receive | None = None) -> None:
    """Answer by a sentence; then throw the rest of the body away for a while, so that its sender
    reads it."""
    body = json.dumps(error_body(refusal.sentence)).encode()
    await send(
        {
            "type": "http.response.start",
            "status": refusal.status,
            "headers": [
                (b"content-type", b"application/json"),
                (b"content-length", str(len(body)).encode()),
                *refusal.headers,
            ],
        }
    )
    # more_body: a server that has sent the whole answer would close the connection at once
    await send({"type": "http.response.body", "body": body, "more_body": rest is not None})
    if rest is None:
        return
    with contextlib.suppress(TimeoutError, HTTPException):
        async with asyncio.timeout(LINGER_S):
            while (await rest()).get("more_body"):
                pass
    await send({"type": "http.response.body"})


def error_body(sentence: str) -> dict[str, Any]:
    """Return the body of every refusal of the API."""
    return {"error": sentence}


async def overloaded(_: Scope, __: Receive, send: Send) -> None:
    """Answer a request, as an ASGI application, that the server itself does not take."""
    await send_refusal(send, REQUESTS)


def no_http() -> bytes:
    """Return the whole answer to bytes that are no HTTP."""
    # written out as HTTP, because no application is asked for what could not be parsed
    body = json.dumps(error_body("Expected a well-formed HTTP request.")).encode()
    head = (
        "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body


class OneSentence:
    """`send` for an application whose errors, also those that its framework answers on its own,
    are to hold one sentence; final.

    An error whose body is no JSON object with the key `error` gets another body.
    """

    def __init__(self, send: Send):
        self._send = send
        self._start: Message | None = None
        """The head of an error, held back until its body is known."""
        self._body = b""

    async def send(self, message: Message) -> None:
        """Send a part of the answer, as ASGI's `send` does."""
        # held back: whether its body is a sentence is not known before it is there
        if message["type"] == "http.response.start" and message["status"] >= 400:
            self._start = message
            return
        # an answer, not an error: nothing of it is held in memory
        if self._start is None:
            await self._send(message)
            return
        self._body += message.get("body", b"")
        if not message.get("more_body", False):
            start, self._start = self._start, None
            await self._send_error(start)

    async def _send_error(self, start: Message) -> None:
        """Send head and body of an error."""
        if not _has_sentence(self._body):
            self._body = sentence_of(start["status"])
            start = {**start, "headers": _of_body(start.get("headers", []), self._body)}
        await self._send(start)
        await self._send({"type": "http.response.body", "body": self._body})


def sentence_of(status: int) -> bytes:
    """Return the body of an error of which only the status is known."""
    sentence = SENTENCES.get(status) or f"{HTTPStatus(status).phrase}."
    return json.dumps(error_body(sentence)).encode()


def _has_sentence(body: bytes) -> bool:
    """Tell whether an error is one of our own: a JSON object with a sentence."""
    try:
        content = json.loads(body)
    except ValueError:
        return False
    return isinstance(content, dict) and isinstance(content.get("error"), str)


def _of_body(headers: list[tuple[bytes, bytes]], body: bytes) -> list[tuple[bytes, bytes]]:
    """Return the headers of an answer whose body was replaced by this JSON."""
    ours = {
        b"content-type": b"application/json",
        b"content-length": str(len(body)).encode(),
    }
    return [*((name, value) for name, value in headers if name not in ours), *ours.items()]
