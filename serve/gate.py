"""What every request passes before page or API: credentials, size, time, and whether the service is shutting down."""

import asyncio
import base64
import binascii
import contextlib
import hashlib
import hmac
import json
import re
import time
from dataclasses import dataclass
from typing import Any

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.life import Life
from serve.metrics import Metrics

OPEN = ("/healthz", "/readyz")
"""Answered without credentials."""
UPLOAD = "/gradio_api/upload"
UPLOAD_BYTES = 256_000_000
"""Limit of one upload of the page, which holds many pictures and goes to disk."""
HOST = re.compile(rb"[\w.:\[\]-]*")
"""The page builds its addresses from it."""
LINGER_S = 5.0
"""A refused upload is read and thrown away for so long, or its sender would see a broken connection, not the reason."""
_HEADERS = [(b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"same-origin")]


@dataclass(frozen=True)
class Limits:
    """What one request may need."""

    body_bytes: int
    body_s: float
    """Seconds until the whole body must have arrived."""


@dataclass(frozen=True)
class Keys:
    """What opens the service; neither = it is open."""

    auth: str | None = None
    """USER:PASSWORD, for Basic."""
    token: str | None = None
    """For Bearer, and for Basic as the password of any user."""


@dataclass(frozen=True)
class _Refusal:
    status: int
    reason: str
    """As metrics count it."""
    sentence: str
    headers: tuple[tuple[bytes, bytes], ...] = ()


_UNKNOWN = _Refusal(401, "auth", "Credentials are needed: Basic (user, password) or Bearer (token).",
                    ((b"www-authenticate", b'Basic realm="zootune", charset="UTF-8"'),))
_CLOSING = _Refusal(503, "draining", "The service is shutting down.",
                    ((b"retry-after", b"5"), (b"connection", b"close")))
_NO_HOST = _Refusal(400, "host", "Expected a host name in the header Host.")


class Gate:
    """ASGI middleware around everything; final.

    Refusals are JSON with one sentence: 401 without valid credentials, 413 for a body that says or turns out to be too
    large, 408 for one that does not arrive, 503 for new work while closing. `root_path` may be part of the path or
    stripped by the proxy.
    """

    def __init__(self, app: ASGIApp, life: Life, metrics: Metrics, *, limits: Limits, keys: Keys, root_path: str):
        self._app, self._life, self._metrics, self._limits, self._root = app, life, metrics, limits, root_path
        self._auth, self._token = (None if key is None else _digest(key.encode()) for key in (keys.auth, keys.token))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # nothing here speaks it
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path, started, status = self._under_root(scope), time.monotonic(), [0]

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                status[0] = message["status"]
                message = {**message, "headers": [*message.get("headers", []), *_HEADERS]}
            await send(message)

        self._life.active += scope["method"] == "POST"
        try:
            await self._pass(path, scope, receive, answer)
        finally:
            self._life.active -= scope["method"] == "POST"
            self._metrics.request(path, status[0], time.monotonic() - started)

    def _under_root(self, scope: Scope) -> str:
        """The path without the prefix; in the scope, with it, as ASGI wants it."""
        path = scope["path"]
        if not self._root:
            return path
        if path == self._root or path.startswith(self._root + "/"):
            path = path[len(self._root):] or "/"
        scope["root_path"], scope["path"] = self._root, self._root + path
        return path

    async def _pass(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        if not HOST.fullmatch(headers.get(b"host", b"")):
            await self._refuse(send, _NO_HOST)
            return
        if path not in OPEN and not self._may(headers.get(b"authorization", b"")):
            await self._refuse(send, _UNKNOWN)
            return
        if self._life.closing and scope["method"] == "POST":
            await self._refuse(send, _CLOSING)
            return
        limit = UPLOAD_BYTES if path == UPLOAD else self._limits.body_bytes
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > limit:
            large = _Refusal(413, "body", _too_large(limit), ((b"connection", b"close"),))
            await self._refuse(send, large, rest=receive)
            return
        await self._app(scope, self._counted(receive, limit), send)

    def _counted(self, receive: Receive, limit: int) -> Receive:
        """`receive` that ends a body which is larger than it said, or too slow, by an HTTP error."""
        deadline, seen, whole = time.monotonic() + self._limits.body_s, 0, False

        async def counted() -> Message:
            nonlocal seen, whole
            if whole:
                return await receive()
            try:
                async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                    message = await receive()
            except TimeoutError:
                self._metrics.rejected("body")
                raise HTTPException(408, "The request did not arrive in time.", {"connection": "close"}) from None
            seen += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if seen > limit:
                self._metrics.rejected("body")
                raise HTTPException(413, _too_large(limit), {"connection": "close"})
            return message

        return counted

    def _may(self, authorization: bytes) -> bool:
        """Whether these credentials are accepted; the comparison takes the same time for wrong ones."""
        if self._auth is None and self._token is None:
            return True
        scheme, _, given = authorization.partition(b" ")
        if scheme.lower() == b"bearer":
            return _same(given.strip(), self._token)
        if scheme.lower() != b"basic":
            return False
        try:
            pair = base64.b64decode(given.strip(), validate=True)
        except binascii.Error:
            return False
        by_user, by_token = _same(pair, self._auth), _same(pair.partition(b":")[2], self._token)
        return by_user or by_token

    async def _refuse(self, send: Send, refusal: _Refusal, *, rest: Receive | None = None) -> None:
        """Answer by a sentence; then throw the rest of the body away for a while, so that its sender reads it."""
        self._metrics.rejected(refusal.reason)
        body = json.dumps(error_body(refusal.sentence)).encode()
        await send({"type": "http.response.start", "status": refusal.status, "headers": [
            (b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *refusal.headers]})
        await send({"type": "http.response.body", "body": body, "more_body": rest is not None})
        if rest is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                while (await rest()).get("more_body"):
                    pass
        await send({"type": "http.response.body"})


def _digest(secret: bytes) -> bytes:
    return hashlib.sha256(secret).digest()


def _same(given: bytes, expected: bytes | None) -> bool:
    """Compared by digests, so that the time tells neither content nor length."""
    return hmac.compare_digest(_digest(given), expected or bytes(32)) and expected is not None


def _too_large(limit: int) -> str:
    return f"The request is too large: at most {limit / 1e6:g} MB are accepted."


def error_body(sentence: str) -> dict[str, Any]:
    """The body of every refusal of the API."""
    return {"error": sentence}
