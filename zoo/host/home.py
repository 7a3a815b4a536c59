"""Where this program keeps what it should not have to fetch or read again."""

import os
from pathlib import Path


def cache_home() -> Path:
    """The folder `$ZOOTUNE_HOME`, by default `~/.cache/zootune`; it may be removed at any time."""
    return Path(os.environ.get("ZOOTUNE_HOME") or "~/.cache/zootune").expanduser()
