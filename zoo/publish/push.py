"""Sending files to the Hugging Face Hub: one atomic commit on top of a known one, read back and
compared by digest.

Whatever stops a push, typing it again completes it: large files that have arrived are not sent
again, a commit whose answer was lost is recognised by the digests of its files, and no commit is
made twice.
"""

import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.contract import rundir
from zoo.host.errors import UserError, first_line
from zoo.hub.cache import download
from zoo.hub.calls import BUSY, STATUS, Words, explained, retried
from zoo.hub.commits import newest_push, title
from zoo.hub.digests import digest_like
from zoo.hub.listing import readable
from zoo.hub.of_huggingface_hub import is_failed_upload, is_refused_content
from zoo.publish import pushed
from zoo.publish.repository import Goal, Head, check_token, head_of, head_or_create

logger = logging.getLogger(__name__)

AGAIN = "Type the same command again: what has arrived is not sent again."
ADVICE = {
    401: "the token is not valid; log in again with hf auth login, or set HF_TOKEN",
    403: "no right to write there; use a token with write access (hf auth login), a name of your "
    "own, or --pr",
    404: "no such place there; check HF_ENDPOINT (a mirror may take no push), and the name of the "
    "branch",
    409: "the name is taken, or somebody writes there at this moment; choose another name, or try "
    "again",
    412: "somebody changed the repository during this push; look at it, then type the same command "
    "again",
    413: "a file or the whole push is too large for it; a smaller base makes smaller files",
    429: "too many requests; wait as long as it asks, then type the same command again",
}
"""HTTP state of a push -> what to do."""


@dataclass(frozen=True)
class Pushed:
    """What a push did."""

    url: str
    """Of the repository, or of the pull request."""
    commit: str
    """That holds the files: 40 hexadecimal digits."""
    sent: bool
    """False: everything was there already."""
    kept: tuple[str, ...] = ()
    """Files that were left as somebody had edited them there."""


def push(goal: Goal, files: Mapping[str, Path], *, run: str) -> Pushed:
    """Make the branch hold these files (name in the repository -> file) of the run of this name,
    and compare what arrived by digest.

    Files that an earlier push sent and this one does not are deleted; whatever else lies there is
    left alone. What somebody has changed there since the last push is not touched unless
    `goal.overwrite`: an edited card is kept, and for any other file nothing is sent. Raises
    `UserError`; see ADVICE.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    words = Words(
        goal.repo,
        f"A push needs the network; --dry-run does not. {AGAIN}",
        f"{goal.revision}: expected a branch",
        "check the name, and whether the token may see it: hf auth whoami",
        tuple(ADVICE.items()),
    )
    with explained(words), tempfile.TemporaryDirectory() as temporary:
        check_token(api, goal)
        head = head_or_create(api, goal)
        before = _Before.of(api, goal, head, files)
        kept = before.changed(goal, head, files)
        # a card is prose that people improve; other files belong together, and are refused
        if kept == [rundir.CARD] and rundir.CARD in head.digests and goal.kind == "model":
            card = download(goal.repo, rundir.CARD, head.commit)
            files = pushed.with_card(files, card, Path(temporary))
        elif kept:
            raise pushed.refused(goal.repo, kept, known=before.known)
        stale = before.stale(head, files)
        if not stale and not _differing(head, files):
            done = Pushed(_page(api, goal), head.commit, sent=False, kept=tuple(kept))
            _remember(api, goal, head, files, kept)
            return done
        info = _commit(api, goal, head, files, stale=stale, message=title(run))
        _remember(api, goal, read_back(api, goal, info.oid, files), files, kept)
        return Pushed(
            getattr(info, "pr_url", None) or _page(api, goal), info.oid, sent=True, kept=tuple(kept)
        )


@dataclass(frozen=True)
class _Before:
    """What earlier pushes left in the repository."""

    digests: Mapping[str, str]
    """Name -> digest, as the Hub announces it."""
    known: bool
    """Whether there is a record or a commit of a push, so that every change since then is seen."""

    @staticmethod
    def of(api: Any, goal: Goal, head: Head, files: Mapping[str, Path]) -> "_Before":
        recorded = pushed.read_digests(api.endpoint, goal.kind, goal.repo, goal.revision)
        if recorded is not None:
            return _Before(recorded, True)
        # of the commit, not of the branch, which may move meanwhile
        commit = newest_push(api, goal.kind, goal.repo, head.commit)
        last = head_of(api, goal, commit) if commit else None
        if last is None:
            return _Before({}, False)
        if goal.kind != "model":
            # a Space has no list of what a push sent, so that only these files are compared
            common = last.digests.keys() & files.keys()
            return _Before({name: last.digests[name] for name in common}, True)
        return _Before(
            pushed.sent_digests(last.digests, lambda name: download(goal.repo, name, last.commit)),
            True,
        )

    def stale(self, head: Head, files: Mapping[str, Path]) -> list[str]:
        """What an earlier push sent and this one does not."""
        return [name for name in head.digests if name not in files and name in self.digests]

    def changed(self, goal: Goal, head: Head, files: Mapping[str, Path]) -> list[str]:
        """What this push would replace or delete though it is not as an earlier push left it."""
        if goal.overwrite:
            return []
        replaced = [name for name in _differing(head, files) if name in head.digests]
        changed = self._removed(head, files)
        for name in (*replaced, *self.stale(head, files)):
            if self.digests.get(name) != head.digests[name]:
                changed.append(name)
        return sorted(changed)

    def _removed(self, head: Head, files: Mapping[str, Path]) -> list[str]:
        """What an earlier push left there, and somebody has taken away. In a repository without any
        file of that push there is nothing to miss: it was made anew."""
        if not head.digests.keys() & self.digests.keys():
            return []
        return [name for name in files if name in self.digests and name not in head.digests]


def _remember(
    api: Any, goal: Goal, head: Head, files: Mapping[str, Path], kept: Sequence[str]
) -> None:
    """Record what lies there now."""
    if goal.pull_request:
        return
    # what was kept is no push's, so that the next one keeps it too
    digests = {name: head.digests[name] for name in files if name not in kept}
    try:
        pushed.write_digests(api.endpoint, goal.kind, goal.repo, goal.revision, digests)
    except (OSError, UserError) as error:
        logger.warning(
            "%s cannot be written (%s): later changes on the Hub are told by its own history only.",
            pushed.pushes_file(),
            first_line(error),
        )


def _page(api: Any, goal: Goal) -> str:
    folder = "spaces/" if goal.kind == "space" else ""
    return f"{api.endpoint}/{folder}{goal.repo}"


def _digest(path: Path, announced: str | None) -> str:
    """The digest of a file in the form in which the Hub announces its present version."""
    if announced is None:
        return rundir.digest(path)
    return digest_like(announced, path)


def _differing(head: Head, files: Mapping[str, Path]) -> list[str]:
    """The names of files that are not there, or not with this content."""
    names = []
    for name, path in files.items():
        announced = head.digests.get(name)
        if announced is None or announced != _digest(path, announced):
            names.append(name)
    return names


def _commit(
    api: Any, goal: Goal, head: Head, files: Mapping[str, Path], *, stale: list[str], message: str
) -> Any:
    """One commit on top of `head`. Tried again while the Hub is busy, if it did not happen after
    all."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete
    from huggingface_hub.errors import HTTPError

    def send() -> Any:
        operations = [
            *(CommitOperationAdd(name, path) for name, path in files.items()),
            *(CommitOperationDelete(name) for name in stale),
        ]
        with readable(goal.repo), _explained_uploads(goal.repo):
            return api.create_commit(
                goal.repo,
                operations,
                commit_message=message,
                repo_type=goal.kind,
                revision=goal.revision,
                # so that the Hub refuses it if somebody else was faster
                parent_commit=head.commit,
                create_pr=goal.pull_request,
            )

    def send_unless_done() -> Any:
        try:
            return send()
        except HTTPError as error:
            if goal.pull_request or not _may_have_happened(error):
                raise
            now = head_of(api, goal, goal.revision)
            # recognised by content, since the lost answer held its id
            if now is None or now.commit == head.commit or _differing(now, files):
                raise
            logger.warning("the answer to the commit was lost, and the commit is there.")
            return _Done(now.commit)

    # a pull request is not tried again: there could be two of them then
    return send() if goal.pull_request else retried(send_unless_done)


@dataclass(frozen=True)
class _Done:
    """A commit whose answer was lost."""

    oid: str


def _may_have_happened(error: Any) -> bool:
    from huggingface_hub.errors import HfHubHTTPError

    return not isinstance(error, HfHubHTTPError) or error.response.status_code in (*BUSY, 412)


def read_back(api: Any, goal: Goal, commit: str, files: Mapping[str, Path]) -> Head:
    """What the Hub announces at a commit; `UserError` unless it is exactly the digests of these
    files."""
    head = head_of(api, goal, commit)
    assert head is not None, "it was written a moment ago"
    if wrong := _differing(head, files):
        verb = "differs" if len(wrong) == 1 else "differ"
        raise UserError(
            f"{goal.repo} at commit {commit} does not hold what was sent: {', '.join(wrong)} "
            f"{verb} in digest. {AGAIN}"
        )
    return head


@contextmanager
def _explained_uploads(repo: str) -> Iterator[None]:
    """Turn what the client raises about an upload, which it wraps in errors of its own, into a
    `UserError`."""
    try:
        yield
    except RuntimeError as error:
        cause = error.__cause__
        # of any type: where an upload is redirected, the client's connection breaks in its own code
        if not is_failed_upload(error):
            raise
        status = getattr(getattr(cause, "response", None), "status_code", None)
        seen = f"a connection that broke again and again ({type(cause).__name__})"
        if status:
            seen = f"HTTP status {status}: {ADVICE.get(status, STATUS)}"
        raise UserError(f"{repo}: {first_line(error)} Seen {seen}. {AGAIN}") from error
    except ValueError as error:
        if not is_refused_content(error):
            raise
        raise UserError(
            f"{repo} refuses what was sent: {' '.join(str(error).split())}. If a file is too "
            "large, a smaller base makes smaller files."
        ) from error
