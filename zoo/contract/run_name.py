"""How a run's folder is called where the user gives no name."""

import hashlib
import re
from pathlib import Path

LONGEST_NAME = 200
"""Bytes of a run's default name; a folder has up to 255, and `-advised-1` comes after it."""


def default_name(data: str, base: str) -> str:
    """Name of a run's folder below `runs/`: `mydataset-vit_base_21k`; what a file name cannot hold
    becomes `-`."""
    data_name = Path(data).resolve().name
    base_name = base.removeprefix("hf-hub:").removeprefix("timm/")
    name = re.sub(r"[^\w.@-]+", "-", f"{data_name}-{base_name}").strip("-")
    octets = name.encode()
    if len(octets) <= LONGEST_NAME:
        return name
    # 9: a dash and 8 digits, which keep two long names apart that begin alike
    beginning = octets[: LONGEST_NAME - 9].decode(errors="ignore")
    return f"{beginning}-{hashlib.sha256(octets).hexdigest()[:8]}"
