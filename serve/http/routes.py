"""The routes for programs; and of Gradio's, which are let through, and which are known and refused,
as all others are.

The paths are written as Gradio writes them, so that a test can compare both lists with those of the
installed version.
"""

import re
from dataclasses import dataclass
from typing import Literal

Kind = Literal["plain", "stream", "event", "upload", "file"]
"""What the gate does with it: nothing more; count it as an open stream; rewrite its body; make
room; check the path."""
SMALL_BODY = 10_000
"""Bytes of a body that holds next to nothing."""
EVENT_BODY = 500_000
"""Bytes of an event's body: the paths of 200 uploads and their addresses, 600 bytes each, and as
much again."""
UPLOAD_BODY = 256_000_000
"""Bytes of one upload of the page, which holds many pictures and goes to disk."""


@dataclass(frozen=True)
class Route:
    """One route that is let through."""

    method: str
    template: str
    """As Gradio writes it: /gradio_api/heartbeat/{session_hash}."""
    why: str
    kind: Kind = "plain"
    query: tuple[str, ...] = ()
    """Parameters that are passed on; others are dropped."""
    body_bytes: int = SMALL_BODY
    fixed: bytes = b""
    """What is asked for in any case."""


API = {
    "/v1/predict": "POST",
    "/v1/models": "GET",
    "/healthz": "GET",
    "/readyz": "GET",
    "/metrics": "GET",
    "/version": "GET",
    "/openapi.json": "GET",
}
"""The routes for programs, with their method."""

ALLOWED = (
    Route("GET", "/", "the page", query=("__theme",)),
    Route("GET", "/config", "what gradio_client reads first"),
    Route("GET", "/assets/{path:path}", "scripts and styles of the page"),
    Route("GET", "/static/{path:path}", "fonts and icons of the page"),
    Route("GET", "/theme.css", "colours of the page"),
    Route("GET", "/gradio_api/theme.css", "the same, as the page asks for it"),
    Route("GET", "/favicon.ico", "what every browser asks for"),
    Route("GET", "/manifest.json", "what browsers ask for before a page is installed"),
    # without `page` Gradio keeps the first answer for all, with the host that the first one named
    Route(
        "GET", "/gradio_api/info", "what gradio_client reads to know the functions", fixed=b"page="
    ),
    Route("GET", "/gradio_api/startup-events", "how the page begins"),
    Route("GET", "/gradio_api/heartbeat/{session_hash}", "tells that a page was closed", "stream"),
    Route("GET", "/gradio_api/queue/data", "answers of the page", "stream", ("session_hash",)),
    Route("GET", "/gradio_api/call/{api_name}/{event_id}", "answers for programs", "stream"),
    Route("GET", "/gradio_api/upload_progress", "how far an upload is", "stream", ("upload_id",)),
    Route("GET", "/gradio_api/file={path_or_url:path}", "heat maps, examples and tables", "file"),
    Route("POST", "/gradio_api/queue/join", "asks for an answer", "event", (), EVENT_BODY),
    Route("POST", "/gradio_api/call/{api_name}", "the same, for programs", "event", (), EVENT_BODY),
    Route(
        "POST",
        "/gradio_api/run/{api_name}",
        "shows an example: the one function without a queue",
        "event",
        (),
        EVENT_BODY,
    ),
    Route("POST", "/gradio_api/upload", "pictures arrive", "upload", ("upload_id",), UPLOAD_BODY),
    Route("POST", "/gradio_api/cancel", "a page takes a question back"),
    Route("POST", "/gradio_api/reset", "older clients of Gradio end an event with it"),
)

REFUSED = {
    "/login": "credentials are asked for by the gate",
    "/login/": "the same",
    "/logout": "the same",
    "/config/": "the same as /config",
    "/gradio_api/user": "the same",
    "/gradio_api/user/": "the same",
    "/gradio_api/login_check": "the same",
    "/gradio_api/login_check/": "the same",
    "/gradio_api/token": "tokens of a login that there is not",
    "/gradio_api/token/": "the same",
    "/gradio_api/app_id": "for reloading while a page is written",
    "/gradio_api/app_id/": "the same",
    "/gradio_api/dev/reload": "the same",
    "/gradio_api/vibe-edit": "writes code",
    "/gradio_api/vibe-edit/": "the same",
    "/gradio_api/undo-vibe-edit": "the same",
    "/gradio_api/undo-vibe-edit/": "the same",
    "/gradio_api/vibe-code": "the same",
    "/gradio_api/vibe-code/": "the same",
    "/gradio_api/vibe-starter-queries": "the same",
    "/gradio_api/vibe-starter-queries/": "the same",
    "/gradio_api/deep_link": "writes the state of a page to disk",
    "/gradio_api/runs": "a history that is not kept",
    "/gradio_api/runs/": "the same",
    "/gradio_api/info/": "the same as info",
    "/gradio_api/openapi.json": "describes routes that are refused",
    "/gradio_api/custom_component/{id}/{environment}/{type}/{file_name}": "there are none",
    "/gradio_api/proxy={url_path:path}": "asks other hosts",
    "/gradio_api/file/{path:path}": "the old form of file=",
    "/gradio_api/stream/{event_id}": "sound and video",
    "/gradio_api/stream/{event_id}/close": "the same",
    "/gradio_api/stream/{session_hash}/{run}/{component_id}/playlist.m3u8": "the same",
    "/gradio_api/stream/{session_hash}/{run}/{component_id}/{segment_id}.{ext}": "the same",
    "/gradio_api/stream/{session_hash}/{run}/{component_id}/playlist-file": "the same",
    "/gradio_api/process_recording": "the same",
    "/gradio_api/reset/": "the same as reset",
    "/gradio_api/api/{api_name}": "calls a function without the queue",
    "/gradio_api/api/{api_name}/": "the same",
    "/gradio_api/run/{api_name}/": "the same as run",
    "/gradio_api/call/{api_name}/": "the same as call",
    "/gradio_api/call/v2/{api_name}": "a second form of call",
    "/gradio_api/call/v2/{api_name}/": "the same",
    "/gradio_api/call/v2/{api_name}/{event_id}": "the same",
    "/gradio_api/component_server": "calls methods of components",
    "/gradio_api/component_server/": "the same",
    "/gradio_api/queue/status": "tells who is waiting",
    "/monitoring": "tells who asked what",
    "/monitoring/summary": "the same",
    "/monitoring/{key}": "the same",
    "/svelte/{path:path}": "parts for custom components",
    "/robots.txt": "the page is not for search engines of Gradio's choice",
    "/pwa_icon": "there is no app to install",
    "/pwa_icon/{size}": "the same",
}
"""Why a route of Gradio is answered by 404, by its path, whatever the method."""

_WORD = r"[\w-]{1,64}"
_PATH = r"[\w@+-][\w.@+-]*(?:/[\w@+-][\w.@+-]*){0,9}"


def find_route(method: str, path: str) -> Route | None:
    """Return the route of Gradio that is let through for this request, or None."""
    if len(path) > 2048:
        return None
    for route, pattern in _PATTERNS:
        if route.method == method and pattern.fullmatch(path):
            return route
    return None


def methods(path: str, *, page: bool) -> tuple[str, ...]:
    """Return the methods that this path answers, in the service with or without the page; none:
    there is no such path.

    What answers GET answers HEAD too, which the gate asks for as GET; streams apart, which never
    end.
    """
    if path in API:
        if API[path] == "GET":
            return ("GET", "HEAD")
        return (API[path],)
    names: list[str] = []
    if not page:
        return ()
    read, sent = find_route("GET", path), find_route("POST", path)
    if read:
        names.append("GET")
    if sent:
        names.append("POST")
    if read and read.kind != "stream":
        names.append("HEAD")
    return tuple(names)


def kept_query(route: Route, query: bytes) -> bytes:
    """Return the parameters that the route passes on, each once and with a plain value."""
    # a query of 4,000 bytes could have 4,000 parts
    pairs = [pair.partition(b"=") for pair in query.split(b"&", 50)[:50]]
    # a dict: of a parameter that stands twice, Gradio and the gate could take different ones
    kept = {
        name: value
        for name, _, value in pairs
        if name.decode("latin-1") in route.query and re.fullmatch(rb"[\w-]{1,64}", value)
    }
    passed = [name + b"=" + value for name, value in kept.items()]
    if route.fixed:
        passed.append(route.fixed)
    return b"&".join(passed)


def _pattern(route: Route) -> re.Pattern[str]:
    if route.kind == "file":  # any characters: the path is compared with the folder of uploads
        return re.compile(r"/gradio_api/file=.+", re.DOTALL)
    # with the braces kept, so that names can be told from what is literal
    parts = re.split(r"(\{[^}]*\})", route.template)
    return re.compile("".join(_part(part) for part in parts), re.ASCII)


def _part(part: str) -> str:
    if not part.startswith("{"):
        return re.escape(part)
    if part == "{api_name}":
        return rf"(?!v2\b){_WORD}"  # a second form of calls lies below call/v2/
    if part.endswith(":path}"):
        return _PATH
    return _WORD


_PATTERNS = tuple((route, _pattern(route)) for route in ALLOWED)
