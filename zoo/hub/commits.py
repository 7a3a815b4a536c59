"""Which commits of a repository a push made: the Hub's own record, which every machine can read."""

import re
from typing import Any

from zoo.hub.calls import retried
from zoo.hub.listing import readable

TITLE = re.compile(r".+, published by zootune(?: \(#(?P<merged>[0-9]{1,9})\))?")
"""Of a commit of a push; with the number of the pull request where one was merged."""


def title(run: str) -> str:
    """What the commit of a push of this run is called."""
    # a name may have line breaks, and a title is one line
    return f"{' '.join(run.split())}, published by zootune"


def newest_push(api: Any, kind: str, repo: str, revision: str) -> str | None:
    """The newest commit in the history of a revision that a push made (40 hexadecimal digits); None
    if there is none, or the Hub does not tell.

    A merged pull request may hold commits of others besides, so that the push's own commit in it
    counts.
    """
    for commit in _commits(api, kind, repo, revision):
        if match := TITLE.fullmatch(commit.title):
            if match["merged"]:
                return _own_commit(api, kind, repo, f"refs/pr/{match['merged']}")
            return str(commit.commit_id)
    return None


def _own_commit(api: Any, kind: str, repo: str, revision: str) -> str | None:
    for commit in _commits(api, kind, repo, revision):
        match = TITLE.fullmatch(commit.title)
        if match and not match["merged"]:
            return str(commit.commit_id)
    return None


def _commits(api: Any, kind: str, repo: str, revision: str) -> list[Any]:
    """The commits of a revision, the newest first; none where the Hub or a mirror has no such
    list."""
    from huggingface_hub.errors import HfHubHTTPError

    try:
        with readable(repo):
            commits = retried(
                lambda: api.list_repo_commits(repo, repo_type=kind, revision=revision)
            )
            return [commit for commit in commits if isinstance(commit.title, str)]
    except HfHubHTTPError as error:
        if error.response.status_code != 404:
            raise
        return []
