"""What a repository held after the last push, so that what somebody changed there since is not
overwritten.

Two sources, because colleagues push to one repository from several machines:
- `pushes.json` beside `pins.json`: digests of what the last push of this user left there. With it,
  whatever another person pushed or edited in between is noticed.
- Without such an entry (another machine, a colleague's first push) the Hub's own history: the
  newest commit of a push (zoo/hub/commits.py), and what its lists of digests, `FINISHED.json` and
  those of the bundles, name as sent. What differs from that commit was edited by hand.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from zoo.contract import bundle, rundir
from zoo.files import checks, strict_json
from zoo.files.folders import is_plain, read_bytes
from zoo.host.errors import UserError
from zoo.hub.pins import pins_file

UNLISTED = re.compile(
    r"(?:bundles/[\w-]+/)?FINISHED\.json|bundles/[\w-]+/timing\.json|onnx/model\.onnx"
)
"""Files of a push that no list in the repository has the digest of."""
DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
EDITED = "edited"
"""Key of a published FINISHED.json: files that were kept as somebody had edited them on the Hub."""
DELETE = "Delete it: what was changed on the Hub is then told by the history of the repository."
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


def sent_digests(digests: Mapping[str, str], content: Callable[[str], Path]) -> dict[str, str]:
    """Name -> digest of what a push sent, of a commit that it made with these files (name -> digest
    as the Hub announces it); `content` gives one of its files.

    What it kept as somebody had edited it, and what lay there besides, is not its own.
    """
    own = {name for name in digests if UNLISTED.fullmatch(name)}
    for name in digests:
        folder, _, last = name.rpartition("/")
        if last == rundir.FINISHED and (
            not folder or re.fullmatch(rf"{bundle.BUNDLES}/[\w-]+", folder)
        ):
            above = name.removesuffix(last)
            own |= {above + file for file in _listed(content(name))}
    return {name: digest for name, digest in digests.items() if name in own}


def _listed(path: Path) -> set[str]:
    """The names in a list of files, without those that were kept."""
    try:
        octets = path.read_bytes()[: MOST_BYTES + 1]
        if len(octets) > MOST_BYTES:
            return set()
        manifest = strict_json.parse(octets)
        # these were not the push's own, so that they count as changed again
        return set(filter(is_plain, manifest["files"])) - set(manifest.get(EDITED, []))
    except (ValueError, KeyError, TypeError, AttributeError):
        return set()


def with_card(files: Mapping[str, Path], card: Path, into: Path) -> dict[str, Path]:
    """The files of a push with the card as it lies on the Hub, and with a list that says so,
    written below `into`."""
    manifest = rundir.read_json(files[rundir.FINISHED], kind=dict)
    # the list has to hold for what will lie there
    digests = manifest["files"] | {rundir.CARD: rundir.digest(card)}
    rundir.write_json(into / rundir.FINISHED, manifest | {"files": digests, EDITED: [rundir.CARD]})
    return {**files, rundir.CARD: card, rundir.FINISHED: into / rundir.FINISHED}


def refused(repo: str, changed: Iterable[str], *, known: bool) -> UserError:
    """The error that names what was changed on the Hub; not `known`: what may have been."""
    names = sorted(changed)
    shown = ", ".join(names[:MOST_SHOWN])
    if len(names) > MOST_SHOWN:
        shown += f" and {len(names) - MOST_SHOWN} more"
    seen = f"that somebody has changed {shown} there since"
    if not known:
        seen = (
            f"other content in {shown} there, and neither a record on this machine nor a commit of "
            "a push in the branch's history, so that somebody may have written it"
        )
    return UserError(
        f"{repo}: expected its files as the last push left them, seen {seen}. Nothing was sent, "
        "because a model's files belong together. Look at the commits on the Hub; --overwrite "
        "replaces these files, --revision NAME pushes to another branch."
    )
