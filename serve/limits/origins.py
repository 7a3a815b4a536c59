"""Which web pages may use the service from a browser: its own, and those that `--allow-origin`
names.

A browser sends what any page asks it to send, with the user's credentials and from inside the
user's network. It names the page's origin in the header Origin, which no script can change; so
whatever changes something is refused unless its origin is the service's own. What is only read
needs no refusal: without the headers that are given here, a browser keeps the answer from the page.
(fetch.spec.whatwg.org, "HTTP extensions")
"""

import re
from collections.abc import Mapping, Sequence

from zoo.host.errors import UserError

HOST = re.compile(rb"(?:[\w.-]{0,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::\d{0,5})?")
"""A host with or without port; the page builds its addresses from it."""
ORIGIN = re.compile(r"https?://(?:[a-z0-9_.-]+|\[[0-9a-f:.]+\])(?::\d{1,5})?")
"""An origin as browsers write it."""
PREFLIGHT_S = 600
"""Seconds for which a browser need not ask again whether a page that is named may send a
request."""
ALLOWED_HEADERS = b"authorization, content-type"
READABLE_HEADERS = b"retry-after"
_DEFAULT_PORTS = {b"http": b":80", b"https": b":443"}

Headers = list[tuple[bytes, bytes]]


class Origins:
    """Whose requests are taken, and who may read the answers; final.

    `allowed` are other origins, such as https://pets.example. `UserError` for what is none.
    """

    def __init__(self, allowed: Sequence[str] = ()):
        for origin in allowed:
            if not ORIGIN.fullmatch(origin):
                raise UserError(
                    f"--allow-origin {origin}: expected scheme and host of a web page, in small "
                    "letters, such as https://pets.example or http://10.0.0.5:8080: no path, no *."
                )
        self._allowed = frozenset(map(_as_sent, allowed))

    def may_change(self, headers: Mapping[bytes, bytes]) -> bool:
        """Tell whether a request with these headers may change something: no browser sent it, or a
        page that may."""
        origin, site = headers.get(b"origin"), headers.get(b"sec-fetch-site")
        # named pages first: for a browser they are other sites
        if origin in self._allowed:
            return True
        # before the names: only the browser knows scheme and host as they were before a proxy
        if site is not None:
            # none: the user typed the address, or followed a bookmark
            return site in (b"same-origin", b"none")
        # a program: browsers send Origin with every POST to another site
        if origin is None:
            return True
        scheme, _, host = origin.partition(b"://")
        if scheme not in _DEFAULT_PORTS or not host:
            return False
        return _plain(host, scheme) == _plain(headers.get(b"host", b""), scheme)

    def is_preflight(self, method: str, headers: Mapping[bytes, bytes]) -> bool:
        """Tell whether a browser asks for a page that is named whether it may send a request."""
        asked = b"access-control-request-method" in headers
        return method == "OPTIONS" and asked and headers.get(b"origin") in self._allowed

    def on_answer(self, headers: Mapping[bytes, bytes]) -> Headers:
        """Return what the answer to a request with these headers says about who may read it."""
        if not self._allowed:
            return []
        vary = [(b"vary", b"Origin")]
        origin = headers.get(b"origin", b"")
        if origin not in self._allowed:
            return vary
        return [
            *vary,
            (b"access-control-allow-origin", origin),
            (b"access-control-expose-headers", READABLE_HEADERS),
        ]


def preflight() -> Headers:
    """Return what a page that is named may send."""
    return [
        (b"access-control-allow-methods", b"GET, HEAD, POST"),
        (b"access-control-allow-headers", ALLOWED_HEADERS),
        (b"access-control-max-age", str(PREFLIGHT_S).encode()),
    ]


def are_hosts(headers: Mapping[bytes, bytes]) -> bool:
    """Tell whether the headers that name the service hold nothing but host names."""
    # each proxy on the way adds its own
    forwarded = headers.get(b"x-forwarded-host", b"").split(b",")
    return all(HOST.fullmatch(name.strip()) for name in (headers.get(b"host", b""), *forwarded))


def without_foreign(headers: Headers) -> Headers:
    """Return an answer's headers without what the application says about other origins: only the
    gate says that."""
    return [
        (name, value) for name, value in headers if not name.lower().startswith(b"access-control-")
    ]


def joined_headers(headers: Headers) -> dict[bytes, bytes]:
    """Return the headers by name. What differs under one name is joined, as RFC 9110 (5.3) has it:
    two hosts or origins are then none, whichever of them another program would look at."""
    by_name: dict[bytes, bytes] = {}
    for name, value in headers:
        before = by_name.setdefault(name, value)
        if before != value:
            by_name[name] = before + b", " + value
    return by_name


def _as_sent(origin: str) -> bytes:
    """Return an origin as browsers send it: without the port of its scheme."""
    scheme, _, host = origin.encode().partition(b"://")
    return scheme + b"://" + _plain(host, scheme)


def _plain(host: bytes, scheme: bytes) -> bytes:
    """Return a host as it can be compared: browsers leave out the port of their scheme, some
    proxies add it."""
    return host.lower().removesuffix(_DEFAULT_PORTS[scheme])
