"""The oldest versions of libraries that may read what strangers made, and what the versions before
them let in.

Sources: CVE records (github.com/CVEProject/cvelistV5), PyPI's advisories
(github.com/pypa/advisory-database), and where a project writes none, its release notes; as of
November 2026. pyproject.toml asks for at least these versions.
"""

import importlib.metadata
import re
from dataclasses import dataclass

from zoo.host.errors import UserError


@dataclass(frozen=True)
class Minimum:
    """One library's oldest version without a known way in."""

    package: str
    version: str
    avoids: str
    """CVE numbers, and what they are."""
    optional: bool = False
    """Whether what uses it also works without it."""


ROWS = (
    Minimum(
        "torch",
        "2.10",
        "CVE-2025-32434, CVE-2026-24747: code run and memory overwritten by torch.load, also with "
        "weights_only=True",
    ),
    Minimum(
        "onnx",
        "1.21",
        "CVE-2025-51480, CVE-2026-27489, CVE-2026-28500, CVE-2026-34445: external data outside the "
        "model's folder, attributes set from a file",
    ),
    Minimum(
        "protobuf", "6.33.5", "CVE-2025-4565, CVE-2026-0994: endless recursion in nested messages"
    ),
    Minimum(
        "onnxruntime",
        "1.27",
        "no CVE; microsoft/onnxruntime #26776, #28408, #28709: a model reads files outside "
        "its folder, and memory at any address",
    ),
    Minimum(
        "Pillow",
        "12.3",
        "CVE-2026-25990, CVE-2026-42311, CVE-2026-40192, CVE-2026-59203: memory overwritten, "
        "decompression bombs and endless loops in decoders",
    ),
    Minimum(
        "pillow-heif",
        "1.4",
        "CVE-2026-28231, CVE-2026-32740, CVE-2026-32741: memory read and overwritten, by its "
        "libheif before 1.22",
        optional=True,
    ),
    Minimum(
        "filelock",
        "4.2.1",
        "CVE-2025-68146, CVE-2026-22701, CVE-2026-112914: files overwritten through a link in "
        "place of the lock",
    ),
    Minimum(
        "Jinja2",
        "3.1.6",
        "CVE-2024-34064, CVE-2025-27516: attributes and code from what is put into a template",
    ),
    Minimum("httpx2", "2.12", "CVE-2026-84378, CVE-2026-84382: decompression bombs in answers"),
    Minimum(
        "starlette",
        "1.3.1",
        "CVE-2025-62727, CVE-2026-48710, CVE-2026-54283: quadratic Range headers, paths "
        "changed by a Host header, forms without limits",
    ),
    Minimum("h11", "0.16", "CVE-2025-43859: requests smuggled in chunked bodies"),
    Minimum(
        "python-multipart",
        "0.0.31",
        "CVE-2026-24486, CVE-2026-40347, CVE-2026-42561, CVE-2026-53539, "
        "CVE-2026-53540: files written by their names, forms that take all time and "
        "memory",
    ),
    Minimum(
        "gradio",
        "6.20",
        "CVE-2026-28414, CVE-2026-28416, CVE-2026-48545, CVE-2026-49119, CVE-2026-59806: files "
        "of the server read, requests sent in its name",
    ),
    Minimum("orjson", "3.11.6", "CVE-2025-67221: endless recursion in nested JSON"),
    Minimum("anyio", "4.14.2", "CVE-2026-63374: the certificate of another host accepted"),
    Minimum("idna", "3.15", "CVE-2026-45409: host names that take all time"),
    Minimum("brotli", "1.2.1", "CVE-2026-111497: memory overwritten by a compressed answer"),
)

PICTURES = ("Pillow", "pillow-heif")
TRAIN = (*PICTURES, "filelock", "Jinja2")
"""What a run reads pictures, locks its folder and writes its report with."""
SERVE = (*PICTURES, "starlette", "h11", "python-multipart")
PAGE = ("gradio", "Jinja2", "orjson", "anyio", "idna", "brotli")
"""What the page needs besides `SERVE`; anyio, idna and brotli are where Gradio fetches
addresses."""
HUB = ("httpx2", "anyio", "idna", "brotli")


def require(*packages: str) -> None:
    """`UserError` if the installed version of one of these `ROWS` is older than its minimum, or
    there is none."""
    for package in packages:
        try:
            installed = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            # an optional one that is missing reads nothing
            if not _row(package).optional:
                raise UserError(
                    f"{package} is not installed, expected {_row(package).version} or newer: "
                    f"{_install(package, package)}"
                ) from None
        else:
            check_version(package, installed)


def check_version(package: str, installed: str, *, name: str = "") -> None:
    """`UserError` if version `installed` of one of `ROWS` is too old; `name`: what pip calls it, if
    not `package`."""
    row = _row(package)
    if version_numbers(installed) < version_numbers(row.version):
        name = name or package
        raise UserError(
            f"{name} {installed} is installed, expected {row.version} or newer ({row.avoids}): "
            f"{_install(package, name)}"
        )


def bounds(*packages: str) -> list[str]:
    """These `ROWS` as pip reads them; without those that are optional."""
    return [
        f"{package.lower()}>={_row(package).version}"
        for package in packages
        if not _row(package).optional
    ]


def version_numbers(version: str) -> tuple[int, ...]:
    """(2, 14, 1) of `2.14.1+cu130`."""
    # what stands behind + names a build, such as cu130; the first three numbers are the release
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0])[:3])


def _row(package: str) -> Minimum:
    return next(row for row in ROWS if row.package == package)


def _install(package: str, name: str) -> str:
    return f'pip install -U "{name}>={_row(package).version}"'
