"""What the Hub says of a stranger's repository: names, sizes, digests, licence; checked before
anything is used."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from zoo.files.folders import is_plain
from zoo.host.errors import UserError, first_line
from zoo.hub.calls import retried, timeouts
from zoo.hub.pins import Pin

HUB_FILES = ("model.safetensors", "pytorch_model.bin")
"""Weight files of a Hub repository, the preferred one first."""
CONFIG = "config.json"
MOST_SHOWN = 20
"""Names of files in an error."""
PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?"
REPOSITORY = re.compile(rf"(?!.*(?:--|\.\.))(?!.*\.git\Z){PART}/{PART}")
"""A name that the Hub takes (`validate_repo_id` of its client)."""
NAMES = (
    "A name has at most 96 letters, digits and . _ - only, begins with a letter or a digit, ends "
    "with neither . nor - nor .git, and has no -- and no .. in it."
)
"""The same in words."""
ALLOWED = re.compile(
    r"README\.md|LICENSE|FINISHED\.json|(model|bank)\.safetensors|metrics\.jsonl"
    r"|(config|preprocessor_config|decision|recipe|data|report)\.json"
    r"|figures/[\w-]+\.svg|onnx/model\.onnx"
    r"|bundles/[\w-]+/(model\.onnx|(bundle|parity|timing|FINISHED)\.json"
    r"|examples/(expected\.json|\d+\.(png|jpe?g|webp|bmp|gif|tiff?)))"
)
"""Names in the repository that a push may send, and that a pull takes."""
MOST_FILES = 10_000
"""timm's repositories have 4 files."""
MOST_BYTES = {"config.json": 8 << 20, "FINISHED.json": 16 << 20}
"""Of files that are read whole; timm's config.json has 1 kB, or 1 MB with the names of 21,000
classes."""
MOST_WEIGHT_BYTES = 64 << 30
"""Of any other file; timm's largest has 27 GB."""
MOST_PATH = 255
"""Characters of a file's path."""
MOST_LICENCE = 100
"""Characters of a licence's name."""


@contextmanager
def readable(repo: str) -> Iterator[None]:
    """Turn what the Hub's client raises for an answer of another form into a `UserError`."""
    from huggingface_hub.errors import HFValidationError, HTTPError

    try:
        yield
    except (json.JSONDecodeError, HFValidationError, HTTPError):
        raise  # explained in zoo/hub/calls.py
    except (TypeError, LookupError, AttributeError, ValueError, RecursionError) as error:
        raise UserError(
            f"{repo}: expected what a Hub tells of a repository, seen another answer "
            f"({type(error).__name__}: {first_line(error)[:100]}): check HF_ENDPOINT, and whether "
            "a proxy answers in its place."
        ) from None


def announced(repo: str, revision: str) -> tuple[Pin, dict[str, str]]:
    """What the Hub says of a repository, and name -> digest of its files."""
    from huggingface_hub import HfApi

    with readable(repo):
        info = retried(
            lambda: HfApi().model_info(
                repo, revision=revision or None, files_metadata=True, timeout=timeouts()
            )
        )
    # before its names are used as paths
    check_listing(repo, info)
    digests = digests_of(info.siblings or ())
    for name in HUB_FILES:
        if name in digests:
            sha256 = digests[name] if len(digests[name]) == 64 else None
            return Pin(str(info.sha), sha256, name, hub_licence(info), CONFIG in digests), digests
    raise _without_weights(repo, digests)


def _without_weights(repo: str, digests: Mapping[str, str]) -> UserError:
    names = sorted(digests)
    seen = ", ".join(names[:MOST_SHOWN]) or "no files"
    if len(names) > MOST_SHOWN:
        seen += f" and {len(names) - MOST_SHOWN} more"
    return UserError(
        f"{repo}: expected {' or '.join(HUB_FILES)}, seen {seen}: it is not a repository "
        "of timm weights; choose another base (python -m zoo list)."
    )


def digests_of(siblings: Any) -> dict[str, str]:
    """Name -> what the Hub announces of each file: the sha256 of a large one, git's sha1 of
    another."""
    return {file.rfilename: _digest_of(file) for file in siblings}


def _digest_of(file: Any) -> Any:
    return file.lfs.sha256 if file.lfs else file.blob_id or ""


def check_listing(repo: str, info: Any) -> None:
    """`UserError` unless the commit is one, and every file has a plain name, a digest and a size
    within bounds."""
    if not isinstance(info.sha, str) or not re.fullmatch(r"[0-9a-f]{40}", info.sha):
        raise _refused(repo, "no commit of 40 hexadecimal digits")
    files = info.siblings or []
    if len(files) > MOST_FILES:
        raise _refused(repo, f"{len(files):,} files, expected at most {MOST_FILES:,}")
    for file in files:
        if not is_plain_name(file.rfilename):
            raise _refused(
                repo, f"a file named {str(file.rfilename)[:60]!a}, which is not a plain path"
            )
        digest = _digest_of(file)
        if not isinstance(digest, str) or not re.fullmatch(r"([0-9a-f]{40}|[0-9a-f]{64})?", digest):
            raise _refused(repo, f"no digest of {file.rfilename}")
        size = (file.lfs.size if file.lfs else file.size) or 0
        most = MOST_BYTES.get(file.rfilename, MOST_WEIGHT_BYTES)
        # before it is fetched: the client would fill the disk
        if not isinstance(size, int) or not 0 <= size <= most:
            raise _refused(
                repo, f"{file.rfilename} of {str(size)[:20]} bytes, expected at most {most:,}"
            )
    # a dict by name would keep the last of them, and the client might fetch the first
    if len({file.rfilename for file in files}) != len(files):
        raise _refused(repo, "two files of one name")


def is_plain_name(name: Any) -> bool:
    """Whether a file's name is a relative path that stays where it is put, of characters that can
    be shown."""
    return is_plain(name) and len(name) <= MOST_PATH and name.isprintable()


def hub_licence(info: Any) -> str | None:
    """The licence of the repository's card, if it names one in short printable text."""
    from huggingface_hub import ModelCardData

    if not isinstance(info.card_data, ModelCardData):
        return None
    card = info.card_data.to_dict()
    named = card.get("license")
    # then the Hub has the licence's own name in another key
    if named == "other":
        named = card.get("license_name")
    if not isinstance(named, str) or not named.isprintable() or not 0 < len(named) <= MOST_LICENCE:
        return None
    return named


def _refused(repo: str, seen: str) -> UserError:
    return UserError(
        f"{repo}: expected a repository of weights, seen {seen}. It is not used: choose another "
        "base (python -m zoo list)."
    )
