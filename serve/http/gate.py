"""What every request passes before page or API: origin, credentials, routes, size, time, how much
is held at once."""

import asyncio
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.http import refusals, routes
from serve.http.bodies import Bodies, body_first, too_large, until_over, whole_body
from serve.http.events import Events, Refused
from serve.http.headers import ALWAYS_SENT, passed_on
from serve.http.life import Life
from serve.http.metrics import Metrics
from serve.http.refusals import Refusal
from serve.limits import budgets
from serve.limits.logins import Keys, Logins
from serve.limits.origins import Origins, are_hosts, preflight, without_foreign
from serve.limits.uploads import Full, Uploads, files_in

OPEN = ("/healthz", "/readyz")
"""Answered without credentials, and whatever else is going on."""


@dataclass(frozen=True)
class Limits:
    """What one request may need."""

    body_bytes: int
    body_s: float
    """Seconds until the whole body must have arrived."""


@dataclass(frozen=True)
class Page:
    """What the gate knows of the page."""

    events: Events
    uploads: Uploads
    is_awaited: Callable[[str], bool]
    """Whether there are answers for a session or an event."""


@dataclass(frozen=True)
class Door:
    """How the service is reached, and by whom."""

    limits: Limits
    keys: Keys
    origins: Origins
    root_path: str
    page: Page | None
    """None with --api-only."""


@dataclass(frozen=True)
class _Call:
    """One request on its way."""

    path: str
    address: str
    scope: Scope
    receive: Receive
    send: Send


class Gate:
    """ASGI middleware around everything; final.

    Refusals are JSON with one sentence: 403 for web pages of other sites, 401 without valid
    credentials, 429 after too many wrong ones or for too many event streams, 404 for what is not
    let through, 405 for another method of what is, 413 for a body that says or turns out to be too
    large, 408 for one that does not arrive, 507 for an upload that does not fit, 503 for new work
    while closing or when too much is held. HEAD is answered as GET without its body. The root path
    may be part of the path or stripped by the proxy.
    """

    def __init__(self, app: ASGIApp, life: Life, metrics: Metrics, door: Door):
        self._app, self._life, self._metrics = app, life, metrics
        self._limits, self._origins, self._root, self._page = (
            door.limits,
            door.origins,
            door.root_path,
            door.page,
        )
        self._logins = Logins(door.keys)
        self._streams = budgets.Slots(life.room.streams, life.room.streams_each)
        self._requests = budgets.Slots(life.room.requests, life.room.requests_each)
        self._bodies = Bodies(door.limits.body_s, metrics.rejected)
        life.full = lambda: self._bodies.full() or self._requests.full()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # nothing here speaks it
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path, started, status, whole = self._under_root(scope), time.monotonic(), [0], [False]
        headers = dict(scope["headers"])
        own_headers = [*ALWAYS_SENT, *self._origins.on_answer(headers)]

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                status[0] = message["status"]
                message = {
                    **message,
                    "headers": [*without_foreign(message.get("headers", [])), *own_headers],
                }
            whole[0] = message["type"] == "http.response.body" and not message.get(
                "more_body", False
            )
            await send(message)

        if self._origins.is_preflight(scope["method"], headers):
            await _answer_nothing(send, [*own_headers, *preflight()])
            return
        self._life.active += scope["method"] == "POST"
        try:
            with ExitStack() as held:
                if scope["method"] == "HEAD" and "HEAD" in routes.methods(
                    path, page=self._page is not None
                ):
                    # uvicorn keeps its own scope, and sends no body
                    scope = {**scope, "method": "GET"}
                route = routes.find(scope["method"], path) if self._page else None
                streams = route is not None and route.kind == "stream"
                if not streams:
                    held.enter_context(
                        budgets.answered_in(budgets.ANSWER_S + 2 * self._limits.body_s, send)
                    )
                await self._pass(
                    _Call(path, budgets.address(scope), scope, receive, answer), route, held
                )
            if self._life.over and status[0] and not whole[0]:
                await send({"type": "http.response.body"})  # the end of an event stream
        except asyncio.CancelledError:
            if not self._life.draining:
                raise  # only while stopping does uvicorn cancel; it would log a traceback of each
        finally:
            self._life.active -= scope["method"] == "POST"
            self._metrics.request(path, status[0], time.monotonic() - started)

    def _under_root(self, scope: Scope) -> str:
        """The path without the prefix; in the scope, with it, as ASGI wants it."""
        path = scope["path"]
        if not self._root:
            return path
        if path == self._root or path.startswith(self._root + "/"):
            path = path[len(self._root) :] or "/"
        scope["root_path"], scope["path"] = self._root, self._root + path
        return path

    async def _pass(self, call: _Call, route: routes.Route | None, held: ExitStack) -> None:
        """Refuse, or let through; `held` gives back what the request holds."""
        headers = dict(call.scope["headers"])
        refusal = self._refusal(call, headers, route)
        if refusal is None and call.path not in OPEN:
            streams = route is not None and route.kind == "stream"
            slots = self._streams if streams else self._requests
            if not held.enter_context(slots.one(call.address)):
                refusal = refusals.STREAMS if streams else refusals.REQUESTS
        if refusal is not None:
            await self._refuse(call.send, refusal)
            return
        limit = route.body_bytes if route else self._limits.body_bytes
        in_memory = route is None or route.kind != "upload"
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or len(length) > 18 or int(length) > limit:
            large = Refusal(413, "body", too_large(limit), (refusals.CLOSE,))
            await self._refuse(call.send, large, rest=call.receive)
            return
        if in_memory and not self._bodies.has_room(int(length), call.address):
            await self._refuse(call.send, refusals.BODIES, rest=call.receive)
            return
        if route is not None and route.kind == "stream":
            call = replace(call, receive=until_over(self._life, call.receive))
        receive = held.enter_context(
            self._bodies.counted(call.receive, call.address, limit, in_memory=in_memory)
        )
        if route is None:
            await self._app(call.scope, receive, call.send)
        else:
            await self._to_page(call, route, receive, held)

    def _refusal(
        self, call: _Call, headers: dict[bytes, bytes], route: routes.Route | None
    ) -> Refusal | None:
        """Why this request is refused by its head, or None."""
        method = call.scope["method"]
        if not are_hosts(headers):
            return refusals.NO_HOST
        if method not in ("GET", "HEAD") and not self._origins.may_change(headers):
            return refusals.FOREIGN
        if call.path not in OPEN and (
            unknown := self._unknown(call.address, headers.get(b"authorization", b""))
        ):
            return unknown
        if self._life.closing and method == "POST":
            return refusals.CLOSING
        if len(call.scope["query_string"]) > refusals.LONGEST_QUERY:
            return refusals.LONG
        return None if route is not None else self._wrong_way(method, call.path)

    def _wrong_way(self, method: str, path: str) -> Refusal | None:
        """Why a request that no route of the page takes is refused; None for those of the API."""
        page = self._page is not None
        methods = routes.methods(path, page=page)
        if not methods:
            return (
                refusals.NO_SLASH
                if path.endswith("/") and routes.methods(path.rstrip("/"), page=page)
                else refusals.NO_ROUTE
            )
        if path in routes.API and method in methods:
            return None
        return Refusal(
            405,
            "method",
            f"Expected the method {' or '.join(methods)} for this path.",
            ((b"allow", ", ".join(methods).encode()),),
        )

    def _unknown(self, address: str, authorization: bytes) -> Refusal | None:
        """Why these credentials are not accepted, or None."""
        if self._logins.open:
            return None
        if not authorization:
            return refusals.UNKNOWN
        if wait_s := self._logins.wait_s(address):
            sentence = f"Too many wrong credentials; the next are looked at in {wait_s} s."
            return Refusal(429, "auth", sentence, ((b"retry-after", str(wait_s).encode()),))
        return None if self._logins.check(address, authorization) else refusals.UNKNOWN

    async def _to_page(
        self, call: _Call, route: routes.Route, receive: Receive, held: ExitStack
    ) -> None:
        """Pass a request on to Gradio with what the route takes, and nothing else."""
        assert self._page is not None
        scope = call.scope
        scope["query_string"] = routes.kept_query(route, scope["query_string"])
        headers = passed_on(scope["headers"])
        if not self._exists(route, call.path, scope["query_string"]):
            await self._refuse(call.send, refusals.NO_ROUTE)
            return
        if route.kind == "upload":
            size = int(dict(headers).get(b"content-length", route.body_bytes))
            try:
                held.enter_context(self._page.uploads.room(size, files_in(size), call.address))
            except Full:
                await self._refuse(call.send, refusals.FULL, rest=receive)
                return
        if route.kind == "event":
            try:
                body = self._page.events.plain(await whole_body(receive), call.path)
            except (Refused, HTTPException) as error:
                status = error.status_code if isinstance(error, HTTPException) else 422
                sentence = str(error.detail) if isinstance(error, HTTPException) else str(error)
                await self._refuse(call.send, Refusal(status, "event", sentence))
                return
            headers = [
                (name, value)
                for name, value in headers
                if name not in (b"content-length", b"content-type")
            ]
            headers += [
                (b"content-type", b"application/json"),
                (b"content-length", str(len(body)).encode()),
            ]
            receive = body_first(body, receive)
        await self._app({**scope, "headers": headers}, receive, call.send)

    def _exists(self, route: routes.Route, path: str, query: bytes) -> bool:
        """Whether there is what the route is asked for: a file of the folder, or answers to a
        question."""
        assert self._page is not None
        if route.kind == "file":
            return self._page.uploads.inside(path.partition("=")[2]) is not None
        if route.template.endswith("/queue/data"):
            return self._page.is_awaited(query.decode("ascii").partition("=")[2])
        if route.template.endswith("/{event_id}"):
            return self._page.is_awaited(path.rpartition("/")[2])
        return bool(query) or not route.template.endswith("/upload_progress")

    async def _refuse(self, send: Send, refusal: Refusal, *, rest: Receive | None = None) -> None:
        self._metrics.rejected(refusal.reason)
        await refusals.answer(send, refusal, rest=rest)


async def _answer_nothing(send: Send, headers: list[tuple[bytes, bytes]]) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body"})
