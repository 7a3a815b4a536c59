"""How this project talks to the Hub: trying again as it asks, and saying in words what went wrong.

The Hub's client retries uploads and file downloads itself, but neither `model_info` nor the start
of a commit.
"""

import json
import logging
import math
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from zoo.host import disk, minimum
from zoo.host.errors import UserError, first_line
from zoo.hub import access

logger = logging.getLogger(__name__)
Result = TypeVar("Result")

ATTEMPTS = 5
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 60.0
"""Doubled after each attempt, unless the Hub says how long to wait; longer than the longest is
told, not waited."""
CONNECT_S, ANSWER_S = 2.5, 10.0
"""Without a connection after so long there is no network; a connected Hub may take longer to
answer."""
SILENT_S = 60.0
"""A Hub that sends or takes nothing for so long in the middle of a request is asked again."""
BUSY = (429, 500, 502, 503, 504)
"""HTTP states that pass by themselves."""
STATUS = "https://status.huggingface.co shows the Hub's state"
ADVICE = {
    401: "the token is not valid; log in again with hf auth login, or remove HF_TOKEN",
    403: "the token may not read this repository; log in with one that may: hf auth login",
    429: "too many requests; wait some minutes, or log in (hf auth login) for a higher limit",
}
"""HTTP state of a pull -> what to do."""


def timeouts() -> Any:
    """Of one request for the state of a repository: quick to notice that there is no network."""
    from httpx2 import Timeout

    return Timeout(ANSWER_S, connect=CONNECT_S)


def limit_requests() -> None:
    """Give every request of the Hub's client a limit: most of them have none of their own, and
    would wait for ever for a Hub that is silent."""
    from httpx2 import Timeout
    from huggingface_hub import get_session

    get_session().timeout = Timeout(SILENT_S, connect=ANSWER_S)


def retried(call: Callable[[], Result], *, sleep: Callable[[float], None] = time.sleep) -> Result:
    """What `call` returns, tried again while the Hub is busy or a connection breaks; never without
    any connection."""
    from huggingface_hub import errors

    limit_requests()
    # the last attempt stands below the loop, so that its error reaches the caller
    for attempt in range(1, ATTEMPTS):
        try:
            return call()
        except errors.HTTPError as error:
            wait_s = _wait_s(error, attempt)
            if wait_s is None:
                raise
            logger.warning(
                "%s: trying again in %.0f s (%d of %d).",
                _seen(error),
                wait_s,
                attempt,
                ATTEMPTS - 1,
            )
            sleep(wait_s)
    return call()


def _wait_s(error: Any, attempt: int) -> float | None:
    """Seconds to wait before the next attempt; None = do not try again."""
    from httpx2 import ConnectError, ConnectTimeout, TooManyRedirects
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(error, HfHubHTTPError):
        if error.response.status_code not in BUSY:
            return None
        asked_s = asked_wait_s(error.response.headers)
        if asked_s is not None and asked_s > LONGEST_WAIT_S:
            return None
        if asked_s is not None:
            return asked_s
    elif isinstance(error, ConnectError | ConnectTimeout | TooManyRedirects):
        return None
    # a connection that was there and broke is worth another try
    return FIRST_WAIT_S * 2 ** (attempt - 1)


def asked_wait_s(headers: Any) -> float | None:
    """What `Retry-After` or the Hub's own `ratelimit` header ask for, in seconds; None if neither
    does."""
    from huggingface_hub.utils import parse_ratelimit_headers

    asked = headers.get("Retry-After") or ""
    if re.fullmatch(r"[0-9]{1,9}", asked):
        return float(asked)
    if (until_s := _seconds_until(asked)) is not None:
        return until_s
    limit = parse_ratelimit_headers(headers)
    if limit and limit.remaining == 0:
        # one second more, because the header has whole ones
        return limit.reset_in_seconds + 1.0
    return None


def _seconds_until(date: str) -> float | None:
    """Seconds from now to a date of HTTP (`Sun, 06 Nov 1994 08:49:37 GMT`), 0 if it is over; None
    if it is no date."""
    try:
        then = parsedate_to_datetime(date)
        # without a time zone it is that of HTTP
        moment = then.timestamp() if then.tzinfo else then.replace(tzinfo=UTC).timestamp()
    except (ValueError, OverflowError):
        return None
    return max(0.0, float(math.ceil(moment - time.time())))


def _seen(error: BaseException) -> str:
    """One clause for an error of the Hub's client."""
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(error, HfHubHTTPError):
        return f"HTTP status {error.response.status_code} from {error.response.request.url.host}"
    return f"{type(error).__name__}: {first_line(error)}"


@dataclass(frozen=True)
class Words:
    """What errors about a repository say."""

    repo: str
    """`user/name`."""
    no_network: str
    """What to do without a network."""
    revision: str
    """The revision that was asked for, and what to do if it is not there."""
    absent: str = "check the name (python -m zoo list), or log in: hf auth login"
    """What to do if there is no such repository."""
    advice: tuple[tuple[int, str], ...] = tuple(ADVICE.items())
    """HTTP state -> what to do."""


@contextmanager
def explained(words: Words) -> Iterator[None]:
    """Turn what the Hub's client raises into one clear `UserError`."""
    from huggingface_hub import constants, errors

    # here, because every request to the Hub passes through this block
    minimum.require(*minimum.HUB)
    access.check_access()
    page = f"{constants.ENDPOINT}/{words.repo}"
    try:
        yield
    # before RepositoryNotFoundError, of which it is a subclass
    except errors.GatedRepoError as error:
        raise UserError(
            f"{words.repo} is gated: expected an account that has accepted its terms. Accept them "
            f"at {page}, then run: hf auth login"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise UserError(f"{page} has no revision {words.revision}.") from error
    except errors.RepositoryNotFoundError as error:
        raise UserError(f"{page} does not exist, or is private: {words.absent}") from error
    except (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError) as error:
        cause = error.__cause__ or error
        if isinstance(cause, errors.HfHubHTTPError) and cause is not error:
            raise UserError(_refused(page, words, cause)) from error  # the Hub has answered
        raise UserError(_no_network(words, cause)) from error
    except (errors.RemoteEntryNotFoundError, errors.HFValidationError) as error:
        raise UserError(
            f"{words.repo}: expected org/name of a repository that holds its own listing, seen: "
            f"{first_line(error)}. Check the name."
        ) from error
    except errors.HfHubHTTPError as error:
        raise UserError(_refused(page, words, error)) from error
    except errors.HTTPError as error:
        raise UserError(_no_network(words, error)) from error
    except json.JSONDecodeError as error:
        raise UserError(
            f"{constants.ENDPOINT} does not answer like a Hub (no JSON): check HF_ENDPOINT, and "
            "whether a proxy asks for a login."
        ) from error
    except OSError as error:
        lack = disk.no_room(error)
        if lack is None:
            raise
        raise UserError(
            f"{words.repo} in {constants.HF_HUB_CACHE}: {lack.cause}: {lack.advice}, or set "
            "HF_HOME to a larger disk."
        ) from error


def _refused(page: str, words: Words, error: Any) -> str:
    status = error.response.status_code
    advice = dict(words.advice).get(status, f"try again later; {STATUS}")
    text = f"{page}: expected an answer, seen HTTP status {status}: {advice}."
    if status in BUSY and (asked_s := asked_wait_s(error.response.headers)):
        text += f" It asks to wait {asked_s:.0f} s."
    return text


def _no_network(words: Words, error: BaseException) -> str:
    from huggingface_hub import constants

    return (
        f"cannot reach the Hub for {words.repo}: expected it at {constants.ENDPOINT}, seen "
        f"{type(error).__name__}: {first_line(error)}.\n{words.no_network}"
    )
