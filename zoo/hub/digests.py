"""The digests of what is pulled: of the two kinds that the Hub announces, and what is refused when
one differs."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from zoo.contract import rundir
from zoo.host.errors import UserError
from zoo.hub import pins
from zoo.hub.cache import digest_in_name
from zoo.hub.pins import Pin, pins_file

SHA256_DIGITS = 64
"""Of the digest of a large file; that of another has git's 40."""


def digest_as_git(path: Path) -> str:
    """git's sha1 of a file, which the Hub announces of those that are not large."""
    # git hashes a header with the size before the content
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def digest_like(announced: str, path: Path) -> str:
    """The digest of a file, of the kind that was announced of it."""
    return rundir.digest(path) if len(announced) == SHA256_DIGITS else digest_as_git(path)


def refuse_damaged(hub_id: str, path: Path, seen: str, announced: str | None) -> None:
    """`UserError` unless a weight file has the digest that the Hub announced, now or, as its name
    in the cache says, at the download."""
    expected = {announced, digest_in_name(path)} - {None}
    # both, where both are known: a mirror could announce what it sends
    if expected - {seen}:
        refuse_copy(hub_id, path, " and ".join(sorted(map(str, expected))), seen)


def refuse_copy(hub_id: str, path: Path, expected: str, seen: str) -> None:
    """Delete a damaged file from the cache, so that the next pull fetches it again, and raise."""
    # the blob first: the path in the cache is a link to it
    path.resolve().unlink(missing_ok=True)
    path.unlink(missing_ok=True)
    raise UserError(
        f"{hub_id}: {path.name} is damaged: expected digest {expected} (as the Hub announced it), "
        f"seen {seen}. The damaged copy was deleted: pull again. If that does not help, a proxy or "
        "mirror changes files on the way."
    )


def refuse_other_files(
    hub_id: str, folder: Path, expected: Mapping[str, str | None], seen: Mapping[str, str]
) -> None:
    """`UserError` if a file of a run has another digest than expected."""
    for name, digest in seen.items():
        if name in expected and expected[name] != digest:
            refuse_copy(hub_id, folder / name, str(expected[name]), digest)


def refuse_other_than_pinned(
    hub_id: str, pin: Pin | None, seen: str | None, path: Path | None
) -> None:
    """`UserError` if a weight file is not the one of the first pull; `path` is None while it is
    only announced."""
    if pin and seen and pin.sha256 != seen:
        raise UserError(
            f"{hub_id}: {pin.filename} is not the file of the first pull: expected sha256 "
            f"{pin.sha256} (commit {pin.commit}, recorded in {pins_file()}), seen {seen} "
            f"({path or 'announced by the Hub'}). To accept it {pins.advice(hub_id)}."
        )
