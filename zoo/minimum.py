"""The oldest versions of libraries that may read what strangers made, and what the versions before them let in."""

import importlib.metadata
import re
from dataclasses import dataclass

from zoo.errors import UserError


@dataclass(frozen=True)
class Minimum:
    """One library's oldest version without a known way in."""

    package: str
    version: str
    avoids: str
    """CVE numbers, and what they are."""


ROWS = (
    Minimum("torch", "2.10", "CVE-2025-32434, CVE-2026-24747: code run and memory overwritten by torch.load, also with "
                             "weights_only=True"),
    Minimum("onnx", "1.21", "CVE-2025-51480, CVE-2026-27489, CVE-2026-28500, CVE-2026-34445: external data outside the "
                            "model's folder, attributes set from a file"),
    Minimum("gradio", "6.7", "CVE-2026-28414, CVE-2026-28416: files of the server read, requests sent in its name"),
    Minimum("Pillow", "12.3", "CVE-2026-25990, CVE-2026-42311, CVE-2026-40192, CVE-2026-59203: memory overwritten, "
                              "decompression bombs and endless loops in decoders"),
)
"""Sources: the advisories of the projects. pyproject.toml asks for at least these versions, which a test compares."""


def require(package: str) -> None:
    """`UserError` if the installed version of one of `ROWS` is older than its minimum."""
    row = next(row for row in ROWS if row.package == package)
    installed = importlib.metadata.version(package)
    if numbers(installed) < numbers(row.version):
        raise UserError(f"{package} {installed} is installed, expected {row.version} or newer ({row.avoids}): "
                        f'pip install -U "{package}>={row.version}"')


def numbers(version: str) -> tuple[int, ...]:
    """(2, 14, 1) of `2.14.1+cu130`."""
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0])[:3])
