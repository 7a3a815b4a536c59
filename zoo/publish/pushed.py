"""What a repository held after the last push, so that what somebody changed there since is not
overwritten.

Two sources, because colleagues push to one repository from several machines:
- `pushes.json` beside `pins.json`: digests of what the last push of this user left there. With it,
  whatever another person pushed or edited in between is noticed.
- Without such an entry (another machine, a colleague's first push) the lists of digests that every
  push leaves in the repository itself, `FINISHED.json` and those of the bundles: what differs from
  them was edited by hand.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from zoo.contract import bundle, rundir
from zoo.files import checks, strict_json
from zoo.files.folders import SHA256, is_plain, read_bytes
from zoo.host.errors import UserError
from zoo.hub.pins import pins_file

UNLISTED = re.compile(
    r"(?:bundles/[\w-]+/)?FINISHED\.json|bundles/[\w-]+/timing\.json|onnx/model\.onnx"
)
"""Files of a push that no list in the repository has the digest of."""
DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
EDITED = "edited"
"""Key of a published FINISHED.json: files that were kept as somebody had edited them on the Hub."""
DELETE = "Delete it: what was changed on the Hub is then told by the lists that lie there."
MOST_BYTES = 4_000_000
"""Of a list that is read from a repository."""
MOST_SHOWN = 10
"""Names of files in an error."""


def pushes_file() -> Path:
    """`pushes.json` in `$ZOOTUNE_HOME`, by default `~/.cache/zootune`."""
    return pins_file().with_name("pushes.json")


def _key(endpoint: str, kind: str, repo: str, revision: str) -> str:
    # the endpoint too: a mirror may hold another repository of that name
    return f"{endpoint} {kind} {repo} {revision}"


def read_digests(endpoint: str, kind: str, repo: str, revision: str) -> dict[str, str] | None:
    """Name -> digest, as the Hub announced it after the last push of this user; None if there was
    none.

    Raises `UserError` if the file holds something else.
    """
    entry = _entries().get(_key(endpoint, kind, repo, revision))
    if entry is None:
        return None
    with checks.of(pushes_file(), DELETE):
        for digest in entry.values():
            if not isinstance(digest, str) or not DIGEST.fullmatch(digest):
                raise ValueError("expected the digests of files")
        return dict(entry)


def write_digests(
    endpoint: str, kind: str, repo: str, revision: str, digests: Mapping[str, str]
) -> None:
    """Record what a push left there: name -> digest of each of its files."""
    pushes_file().parent.mkdir(parents=True, exist_ok=True)
    rundir.write_json(
        pushes_file(), _entries() | {_key(endpoint, kind, repo, revision): dict(digests)}
    )


def _entries() -> dict[str, Any]:
    if not pushes_file().exists():
        return {}
    with checks.of(pushes_file(), DELETE):
        entries = strict_json.parse(read_bytes(pushes_file(), rundir.MOST_BYTES))
        if not isinstance(entries, dict):
            raise TypeError(f"expected an object, seen {type(entries).__name__}")
        return entries


def listed_digests(names: Iterable[str], content: Callable[[str], Path]) -> dict[str, str]:
    """Name -> sha256 of what the lists in a repository with these files say; `content` gives one of
    its files.

    A list that is none of ours says nothing: what it should list then counts as changed.
    """
    found: dict[str, str] = {}
    for name in names:
        folder, _, last = name.rpartition("/")
        if last == rundir.FINISHED and (
            not folder or re.fullmatch(rf"{bundle.BUNDLES}/[\w-]+", folder)
        ):
            above = name.removesuffix(last)
            for file, sha256 in _files(content(name)).items():
                found[above + file] = sha256
    return found


def _files(path: Path) -> dict[str, str]:
    try:
        octets = path.read_bytes()[: MOST_BYTES + 1]
        if len(octets) > MOST_BYTES:
            return {}
        manifest = strict_json.parse(octets)
        # these were not the push's own, so that they count as changed again
        edited = manifest.get(EDITED, [])
        digests = {}
        for name, sha256 in manifest["files"].items():
            if not isinstance(sha256, str) or not SHA256.fullmatch(sha256):
                continue
            if name not in edited and is_plain(name):
                digests[name] = sha256
        return digests
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def with_card(files: Mapping[str, Path], card: Path, into: Path) -> dict[str, Path]:
    """The files of a push with the card as it lies on the Hub, and with a list that says so,
    written below `into`."""
    manifest = rundir.read_json(files[rundir.FINISHED], kind=dict)
    # the list has to hold for what will lie there
    digests = manifest["files"] | {rundir.CARD: rundir.digest(card)}
    rundir.write_json(into / rundir.FINISHED, manifest | {"files": digests, EDITED: [rundir.CARD]})
    return {**files, rundir.CARD: card, rundir.FINISHED: into / rundir.FINISHED}


def refused(repo: str, changed: Iterable[str], *, recorded: bool) -> UserError:
    """The error that names what was changed on the Hub; not `recorded`: what may have been."""
    names = sorted(changed)
    shown = ", ".join(names[:MOST_SHOWN])
    if len(names) > MOST_SHOWN:
        shown += f" and {len(names) - MOST_SHOWN} more"
    if recorded:
        seen = f"that somebody has changed {shown} there since"
    else:
        verb = "is" if len(names) == 1 else "are"
        seen = f"that {shown} there {verb} not what a known push left"
    return UserError(
        f"{repo}: expected its files as the last push left them, seen {seen}. Nothing was sent, "
        "because a model's files belong together. Look at the commits on the Hub; --overwrite "
        "replaces these files, --revision NAME pushes to another branch."
    )
