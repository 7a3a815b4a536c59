"""The address of the Hub, as the environment gives it: whether it is one.

Here, on the ground floor, because the Hub's client cannot be imported with some that are none, and
timm and gradio import it.
"""

import os
import re
from urllib.parse import urlsplit

ADDRESS = re.compile(r"https?://[^\s/?#]+(?:/[^\s?#]*)?", re.IGNORECASE)


def is_address(endpoint: str) -> bool:
    """Whether it is an address of the web, without a query."""
    try:
        parts = urlsplit(endpoint)
        port = parts.port
        # as the client does before it asks for the address: an empty or a long part is an error
        (parts.hostname or "").encode("idna")
    except ValueError:  # a port that is none, an address of IPv6 without its end
        return False
    return port != 0 and ADDRESS.fullmatch(endpoint) is not None


def words(endpoint: str) -> str:
    """What to say of an address that is none."""
    return (
        f"HF_ENDPOINT: expected an address such as https://huggingface.co, seen {endpoint!r}. "
        "Correct it, or unset it to use the Hub itself."
    )


def wrong() -> str | None:
    """The address in the environment if it is none; else None."""
    endpoint = os.environ.get("HF_ENDPOINT")
    if endpoint is None or is_address(endpoint):
        return None
    return endpoint
