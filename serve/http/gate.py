"""What every request passes before page or API: origin, credentials, routes, size, time, how much
is held at once."""

import asyncio
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from serve.http import refusals, routes
from serve.http.bodies import Bodies, body_first, too_large, until_over, whole_body
from serve.http.door import Door
from serve.http.headers import ALWAYS_SENT, Reply, of_json, passed_on
from serve.http.life import Life
from serve.http.page_calls import RefusedCall
from serve.http.prometheus import Metrics
from serve.http.refusals import Refusal
from serve.limits import budgets
from serve.limits.logins import Logins
from serve.limits.origins import are_hosts, joined_headers, preflight
from serve.limits.uploads import Full, files_in

OPEN = ("/healthz", "/readyz")
"""Answered without credentials, and whatever else is going on."""


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
    let through, 405 for another method of what is, 415 for a compressed body, 413 for one that says
    or turns out to be too large, 408 for one that does not arrive, 507 for an upload that does not
    fit, 503 for new work while closing or when too much is held. HEAD is answered as GET without
    its body. The root path may be part of the path or stripped by the proxy.
    """

    def __init__(self, app: ASGIApp, life: Life, metrics: Metrics, door: Door):
        self._app, self._life, self._metrics = app, life, metrics
        self._limits, self._origins = door.limits, door.origins
        self._root, self._page = door.root_path, door.page
        self._logins = Logins(door.keys)
        self._streams = budgets.Slots(life.room.streams, life.room.streams_each)
        self._requests = budgets.Slots(life.room.requests, life.room.requests_each)
        self._bodies = Bodies(door.limits.body_s, metrics.rejected)
        # /readyz asks `life`, which does not know this gate
        life.full = lambda: self._bodies.full() or self._requests.full()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # the service has none
            await send({"type": "websocket.close", "code": 1008})
            return
        # the start and the end of the application
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # first of all: every list of routes is written without the prefix
        path, started = self._under_root(scope), time.monotonic()
        headers = joined_headers(scope["headers"])
        reply = Reply(send, [*ALWAYS_SENT, *self._origins.on_answer(headers)])
        if self._origins.is_preflight(scope["method"], headers):
            await _answer_nothing(send, [*reply.own_headers, *preflight()])
            return
        is_post = scope["method"] == "POST"
        # a POST is work; GETs of streams never end, and would keep the process alive
        self._life.active += is_post
        try:
            await self._to_route(scope, path, receive, reply)
            if self._life.over and reply.status and not reply.is_whole:
                await send({"type": "http.response.body"})  # the end of an event stream
        except asyncio.CancelledError:
            if not self._life.draining:
                raise  # only while stopping does uvicorn cancel; it would log a traceback of each
        finally:
            self._life.active -= is_post
            self._metrics.request(path, reply.status, time.monotonic() - started)

    async def _to_route(self, scope: Scope, path: str, receive: Receive, reply: Reply) -> None:
        """Find the route of a request, and pass it on within the time that an answer may take."""
        has_page = self._page is not None
        if scope["method"] == "HEAD" and "HEAD" in routes.methods(path, page=has_page):
            # uvicorn keeps its own scope, and sends no body
            scope = {**scope, "method": "GET"}
        route = None
        if has_page:
            route = routes.find_route(scope["method"], path)
        with ExitStack() as held:
            if not _is_stream(route):
                seconds = budgets.ANSWER_S + 2 * self._limits.body_s
                held.enter_context(budgets.answered_in(seconds, reply.connection))
            call = _Call(path, budgets.address(scope), scope, receive, reply.send)
            await self._pass(call, route, held)

    def _under_root(self, scope: Scope) -> str:
        """Return the path without the prefix; in the scope, with it, as ASGI wants it."""
        path = scope["path"]
        if not self._root:
            return path
        if path == self._root or path.startswith(self._root + "/"):
            path = path[len(self._root) :] or "/"
        scope["root_path"], scope["path"] = self._root, self._root + path
        return path

    async def _pass(self, call: _Call, route: routes.Route | None, held: ExitStack) -> None:
        """Refuse a request, or let it through; `held` gives back what it holds."""
        headers = joined_headers(call.scope["headers"])
        # by the head alone first: a slot is not taken for what is refused anyhow
        refusal = self._refusal(call, headers, route) or self._no_slot(call, route, held)
        if refusal is not None:
            await self._refuse(call.send, refusal)
            return
        limit = self._limits.body_bytes
        if route is not None:
            limit = route.body_bytes
        # an upload of the page goes to disk while it arrives, where it has a budget of its own
        in_memory = route is None or route.kind != "upload"
        refusal = _encoded(headers) or _too_long(headers, limit)
        if refusal is None and in_memory:
            refusal = self._no_room(headers, call.address)
        if refusal is not None:
            await self._refuse(call.send, refusal, rest=call.receive)
            return
        if _is_stream(route):
            call = replace(call, receive=until_over(self._life, call.receive))
        receive = held.enter_context(
            self._bodies.counted(call.receive, call.address, limit, in_memory=in_memory)
        )
        call = replace(call, send=refusals.OneSentence(call.send).send)
        if route is None:
            await self._app(call.scope, receive, call.send)
        else:
            await self._to_page(call, route, receive, held)

    def _no_slot(self, call: _Call, route: routes.Route | None, held: ExitStack) -> Refusal | None:
        """Take a slot for the request, until `held` ends; the refusal if there is none."""
        if call.path in OPEN:
            return None
        slots, refusal = self._requests, refusals.REQUESTS
        if _is_stream(route):
            slots, refusal = self._streams, refusals.STREAMS
        if held.enter_context(slots.one(call.address)):
            return None
        return refusal

    def _no_room(self, headers: Mapping[bytes, bytes], address: str) -> Refusal | None:
        """Say why a body of this length is not taken into memory now, or None."""
        if self._bodies.has_room(int(headers.get(b"content-length", b"0")), address):
            return None
        return refusals.BODIES

    def _refusal(
        self, call: _Call, headers: dict[bytes, bytes], route: routes.Route | None
    ) -> Refusal | None:
        """Say why this request is refused by its head, or None."""
        method = call.scope["method"]
        if not are_hosts(headers):
            return refusals.NO_HOST
        if method not in ("GET", "HEAD") and not self._origins.may_change(headers):
            return refusals.FOREIGN
        # credentials before everything that tells what there is: routes, files, methods
        if call.path not in OPEN and (
            unknown := self._unknown(call.address, headers.get(b"authorization", b""))
        ):
            return unknown
        if self._life.closing and method == "POST":
            return refusals.CLOSING
        if len(call.scope["query_string"]) > refusals.LONGEST_QUERY:
            return refusals.LONG
        if route is None:
            return self._wrong_way(method, call.path)
        return None

    def _wrong_way(self, method: str, path: str) -> Refusal | None:
        """Say why a request that no route of the page takes is refused; None for those of the
        API."""
        page = self._page is not None
        methods = routes.methods(path, page=page)
        if not methods:
            if path.endswith("/") and routes.methods(path.rstrip("/"), page=page):
                return refusals.NO_SLASH
            return refusals.NO_ROUTE
        if path in routes.API and method in methods:
            return None
        return Refusal(
            405,
            "method",
            f"Expected the method {' or '.join(methods)} for this path.",
            ((b"allow", ", ".join(methods).encode()),),
        )

    def _unknown(self, address: str, authorization: bytes) -> Refusal | None:
        """Say why these credentials are not accepted, or None."""
        if self._logins.open:
            return None
        if not authorization:
            return refusals.UNKNOWN
        # before the credentials are compared, so that a guess meanwhile tells nothing
        if wait_s := self._logins.wait_s(address):
            sentence = f"Too many wrong credentials; the next are looked at in {wait_s} s."
            return Refusal(429, "auth", sentence, ((b"retry-after", str(wait_s).encode()),))
        if self._logins.check(address, authorization):
            return None
        return refusals.UNKNOWN

    async def _to_page(
        self, call: _Call, route: routes.Route, receive: Receive, held: ExitStack
    ) -> None:
        """Pass a request on to Gradio with what the route takes, and nothing else."""
        assert self._page is not None
        scope = call.scope
        # Gradio gets what the route is known to take, and nothing that a later version might
        scope["query_string"] = routes.kept_query(route, scope["query_string"])
        headers = passed_on(scope["headers"])
        if not self._exists(route, call.path, scope["query_string"]):
            await self._refuse(call.send, refusals.NO_ROUTE)
            return
        if route.kind == "upload":
            # without a length, room is made for the largest
            size = int(dict(headers).get(b"content-length", route.body_bytes))
            try:
                held.enter_context(self._page.uploads.room(size, files_in(size), call.address))
            except Full:
                await self._refuse(call.send, refusals.FULL, rest=receive)
                return
        if route.kind == "event":
            body = await self._plain_event(call, receive)
            if isinstance(body, Refusal):
                await self._refuse(call.send, body)
                return
            headers = of_json(headers, len(body))
            receive = body_first(body, receive)
        await self._app({**scope, "headers": headers}, receive, call.send)

    async def _plain_event(self, call: _Call, receive: Receive) -> bytes | Refusal:
        """Return the body of a call of one of the page's functions in plain form, or why it is
        refused."""
        assert self._page is not None
        try:
            return self._page.calls.plain(await whole_body(receive), call.path)
        except RefusedCall as error:
            return Refusal(422, "event", str(error))
        except HTTPException as error:  # from the count of the body while it arrives
            return Refusal(error.status_code, "event", str(error.detail))

    def _exists(self, route: routes.Route, path: str, query: bytes) -> bool:
        """Tell whether what the route is asked for exists: a file of the folder, or the answers to
        a question."""
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
        await refusals.send_refusal(send, refusal, rest=rest)


def _is_stream(route: routes.Route | None) -> bool:
    """Tell whether the answer of this route never ends by itself."""
    return route is not None and route.kind == "stream"


def _encoded(headers: Mapping[bytes, bytes]) -> Refusal | None:
    """Say why a body is refused by its form, or None: nothing here unpacks what is sent."""
    if headers.get(b"content-encoding", b"").strip().lower() in (b"", b"identity"):
        return None
    return refusals.ENCODED


def _too_long(headers: Mapping[bytes, bytes], limit: int) -> Refusal | None:
    """Say why a body is refused by the length that its headers name, or None."""
    length = headers.get(b"content-length", b"0")
    # of very many digits, int() would take its time
    if length.isdigit() and len(length) <= 18 and int(length) <= limit:
        return None
    return Refusal(413, "body", too_large(limit), (refusals.CLOSE,))


async def _answer_nothing(send: Send, headers: list[tuple[bytes, bytes]]) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body"})
