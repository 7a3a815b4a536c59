"""The headers that the gate adds to every answer, and those of a request that reach Gradio."""

from collections.abc import Iterable

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
    """What Gradio gets of these headers: of those by which a proxy describes itself, only that it
    speaks https."""
    return [
        (name, value)
        for name, value in headers
        if name in _PASSED_ON or (name == b"x-forwarded-proto" and value == b"https")
    ]
