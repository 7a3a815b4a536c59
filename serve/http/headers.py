"""The headers that the gate adds to every answer, and those of a request that reach Gradio."""

from collections.abc import Iterable

from starlette.types import Message, Send

from serve.limits.origins import Headers, without_foreign

POLICY = "; ".join(
    (
        "default-src 'self'",
        "img-src 'self' data: blob:",
        "media-src 'self' blob:",
        "font-src 'self' data:",
        "connect-src 'self'",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'self' https://huggingface.co",
        # Gradio's page starts from an inline script, its gr.HTML compiles templates, its components
        # have inline styles
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
    )
)
"""The Content-Security-Policy: nothing is fetched from, or sent to, any other host."""
ALWAYS_SENT = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"content-security-policy", POLICY.encode()),
]
_PASSED_ON = frozenset(
    (
        b"host",
        b"content-type",
        b"content-length",
        b"accept",
        b"accept-encoding",
        b"accept-language",
        b"cookie",
        b"user-agent",
        b"if-none-match",
    )
)
"""Headers that Gradio gets. From others it would build addresses, or answer in parts, or allow
other origins."""


def passed_on(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return what Gradio gets of these headers: of those by which a proxy describes itself, only
    that it speaks https."""
    return [
        (name, value)
        for name, value in headers
        if name in _PASSED_ON or (name == b"x-forwarded-proto" and value == b"https")
    ]


def of_json(headers: Headers, length: int) -> Headers:
    """Return the headers of a request whose body was replaced by JSON of so many bytes."""
    others = [
        (name, value) for name, value in headers if name not in (b"content-length", b"content-type")
    ]
    return [
        *others,
        (b"content-type", b"application/json"),
        (b"content-length", str(length).encode()),
    ]


class Reply:
    """An answer on its way out, to which `own_headers` are added; final."""

    def __init__(self, connection: Send, own_headers: Headers):
        self.connection, self.own_headers = connection, own_headers
        self.status = 0
        """0 until the answer begins."""
        self.is_whole = False
        """Whether its last part was sent."""

    async def send(self, message: Message) -> None:
        """Send a part of the answer, as ASGI's `send` does."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            # only the gate says which other origins may read an answer
            headers = [*without_foreign(message.get("headers", [])), *self.own_headers]
            message = {**message, "headers": headers}
        is_body = message["type"] == "http.response.body"
        self.is_whole = is_body and not message.get("more_body", False)
        await self.connection(message)
