"""What the gate is told: how the service is reached, by whom, and what a request may need."""

from collections.abc import Callable
from dataclasses import dataclass

from serve.http.page_calls import PageCalls
from serve.limits.logins import Keys
from serve.limits.origins import Origins
from serve.limits.uploads import Uploads


@dataclass(frozen=True)
class DoorLimits:
    """What one request may need."""

    body_bytes: int
    body_s: float
    """Seconds until the whole body must have arrived."""


@dataclass(frozen=True)
class Page:
    """What the gate knows of the page."""

    calls: PageCalls
    uploads: Uploads
    is_awaited: Callable[[str], bool]
    """Whether there are answers for a session or an event."""


@dataclass(frozen=True)
class Door:
    """How the service is reached, and by whom."""

    limits: DoorLimits
    keys: Keys
    origins: Origins
    root_path: str
    page: Page | None
    """None with --api-only."""
