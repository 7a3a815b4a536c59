"""Where the Hub is asked, and with which token: what the environment says of both, checked before
the first request."""

import re

from zoo.host import hub_address
from zoo.host.errors import UserError

TOKEN = re.compile(r"[!-~]+")
"""What can stand in the header of a request."""


def check_access() -> None:
    """`UserError` for a HF_ENDPOINT that is no address of the web, and for a token that no request
    can carry."""
    from huggingface_hub import constants

    if not hub_address.is_address(constants.ENDPOINT):
        raise UserError(hub_address.words(constants.ENDPOINT))
    token = _token()
    if token and not TOKEN.fullmatch(token):
        raise UserError(
            "the token of the Hub: expected letters, digits and signs of ASCII on one line, seen a "
            "blank, a line break or another character in it. Copy it again: hf auth login, or set "
            "HF_TOKEN."
        )


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
