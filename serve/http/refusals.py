"""What the gate answers to a request that it does not let through: a status and one sentence."""

import asyncio
import contextlib
import json
from dataclasses import dataclass
from typing import Any

from starlette.exceptions import HTTPException
from starlette.types import Receive, Send

from serve.http.bodies import TOO_MUCH
from serve.limits import uploads

LINGER_S = 5.0
"""A refused upload is read and thrown away for so long, or its sender would see a broken
connection, not the reason."""
LONGEST_QUERY = 4_000
"""Bytes of a query string at most."""


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


async def answer(send: Send, refusal: Refusal, *, rest: Receive | None = None) -> None:
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
