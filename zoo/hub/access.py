"""Where the Hub is asked, and with which token: what the environment says of both, checked before
the first request."""

import re
from urllib.parse import urlsplit

from zoo.host.errors import UserError

ADDRESS = re.compile(r"https?://[^\s/?#]+(?:/[^\s?#]*)?", re.IGNORECASE)
TOKEN = re.compile(r"[!-~]+")
"""What can stand in the header of a request."""


def check_access() -> None:
    """`UserError` for a HF_ENDPOINT that is no address of the web, and for a token that no request
    can carry."""
    from huggingface_hub import constants

    if not _is_address(constants.ENDPOINT):
        raise UserError(
            f"HF_ENDPOINT: expected an address such as https://huggingface.co, seen "
            f"{constants.ENDPOINT!r}. Correct it, or unset it to use the Hub itself."
        )
    token = _token()
    if token and not TOKEN.fullmatch(token):
        raise UserError(
            "the token of the Hub: expected letters, digits and signs of ASCII on one line, seen a "
            "blank, a line break or another character in it. Copy it again: hf auth login, or set "
            "HF_TOKEN."
        )


def _is_address(endpoint: str) -> bool:
    try:
        port = urlsplit(endpoint).port
    except ValueError:  # a port that is none, an address of IPv6 without its end
        return False
    return port != 0 and ADDRESS.fullmatch(endpoint) is not None


def _token() -> str | None:
    """The token that the client finds in the environment or in its file."""
    from huggingface_hub import constants, get_token

    try:
        return get_token()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{constants.HF_TOKEN_PATH}: expected a file that holds a token, seen "
            f"{type(error).__name__}. Delete it, or set HF_HOME to a folder; then run: hf auth "
            "login"
        ) from None
