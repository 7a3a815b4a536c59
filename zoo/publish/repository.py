"""The repository on the Hub that a push goes to: who may write there, its newest commit, and its
creation."""

from dataclasses import dataclass
from typing import Any

from zoo.contract import rundir
from zoo.host.errors import UserError
from zoo.hub.calls import retried, timeouts
from zoo.hub.listing import digests_of, readable
from zoo.publish import pushed


@dataclass(frozen=True)
class Goal:
    """Where files are to go."""

    repo: str
    """`user/name`."""
    kind: str = "model"
    """model or space."""
    revision: str = "main"
    """Branch; made from main if it is not there."""
    public: bool = False
    """Whether everybody may see the repository. Said at its creation, and must fit one that
    exists."""
    pull_request: bool = False
    """Propose the commit instead of making it."""
    overwrite: bool = False
    """Also replace what somebody has changed there since the last push."""


@dataclass(frozen=True)
class Head:
    """The newest commit of a branch."""

    commit: str
    private: bool
    digests: dict[str, str]
    """As `zoo.hub.listing.digests_of`."""


def check_token(api: Any, goal: Goal) -> None:
    """`UserError` before anything is sent if there is no token, or it cannot be enough."""
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    try:
        with readable(goal.repo):
            me = retried(api.whoami)
            role = me.get("auth", {}).get("accessToken", {}).get("role")
            spaces = [me["name"], *(org["name"] for org in me.get("orgs", ()))]
    except LocalTokenNotFoundError:
        raise UserError(
            "expected a token of the Hub, seen none: make one with write access at "
            f"{api.endpoint}/settings/tokens, then run hf auth login (or set HF_TOKEN)."
        ) from None
    except HfHubHTTPError as error:
        if error.response.status_code != 401:
            raise
        raise UserError(
            f"{api.endpoint} refuses the token (HTTP status 401): it is wrong or revoked. Make a "
            f"new one at {api.endpoint}/settings/tokens, then run hf auth login (or set HF_TOKEN)."
        ) from None
    if role == "read":
        raise UserError(
            f"the token of {me['name']} may only read: make one with write access at "
            f"{api.endpoint}/settings/tokens, then run hf auth login (or set HF_TOKEN)."
        )
    if goal.repo.partition("/")[0] not in spaces and not goal.pull_request:
        raise UserError(
            f"{goal.repo}: expected a name that begins with {' or '.join(spaces)} (the token's), "
            f"seen {goal.repo.partition('/')[0]}: use one of these, or propose the change with "
            "--pr."
        )


def head_of(api: Any, goal: Goal, revision: str) -> Head | None:
    """The newest commit of a revision; None if there is no such repository."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        with readable(goal.repo):
            info = retried(
                lambda: api.repo_info(
                    goal.repo,
                    repo_type=goal.kind,
                    revision=revision,
                    files_metadata=True,
                    timeout=timeouts(),
                )
            )
            return Head(info.sha, bool(info.private), digests_of(info.siblings or ()))
    # a subclass of RepositoryNotFoundError, but the repository is there
    except GatedRepoError:
        raise
    except RepositoryNotFoundError:
        return None


def head_or_create(api: Any, goal: Goal) -> Head:
    """The commit to build on; the repository and the branch are made if they are not there."""
    from huggingface_hub.errors import RevisionNotFoundError

    head = head_of(api, goal, "main")
    if head is None:
        if goal.pull_request:
            raise UserError(
                f"{goal.repo} does not exist, or is private: expected a repository to propose a "
                "change to."
            )
        _create(api, goal)
        head = head_of(api, goal, "main")
        if head is None:
            raise UserError(
                f"{goal.repo}: the name is taken by a repository that this token cannot see: "
                "choose another name."
            )
    else:
        known = pushed.read_digests(api.endpoint, goal.kind, goal.repo, "main") is not None
        _refuse_other_owner(goal, head, known)
    if goal.revision == "main":
        return head
    try:
        branch = head_of(api, goal, goal.revision)
    except RevisionNotFoundError:
        retried(
            lambda: api.create_branch(
                goal.repo, branch=goal.revision, repo_type=goal.kind, exist_ok=True
            )
        )
        branch = head_of(api, goal, goal.revision)
    assert branch, "the repository was there a moment ago"
    return branch


def _create(api: Any, goal: Goal) -> None:
    from huggingface_hub.errors import HfHubHTTPError

    try:
        with readable(goal.repo):
            retried(
                lambda: api.create_repo(
                    goal.repo,
                    repo_type=goal.kind,
                    private=not goal.public,
                    space_sdk="gradio" if goal.kind == "space" else None,
                )
            )
    except HfHubHTTPError as error:
        if error.response.status_code != 409:  # ours, if the answer to the first attempt was lost
            raise


def _refuse_other_owner(goal: Goal, head: Head, known: bool) -> None:
    """`UserError` if the repository is seen by others than asked, or holds something that no push
    made; not of one that an earlier push of this user is `known` to have filled."""
    # never made public, or private, in passing
    if goal.public == head.private and not goal.pull_request:
        if head.private:
            raise UserError(
                f"{goal.repo} is private: expected private, seen --public. Omit --public, or "
                "change it in the repository's settings."
            )
        raise UserError(
            f"{goal.repo} is public: expected --public, seen no --public. Everybody would see what "
            "is sent: add --public if that is meant, or choose another name."
        )
    mark = rundir.FINISHED if goal.kind == "model" else rundir.CARD
    # the Hub puts this one into every new repository
    others = [name for name in head.digests if name != ".gitattributes"]
    if others and not known and mark not in head.digests and not goal.pull_request:
        raise UserError(
            f"the name {goal.repo} is taken: expected a new one, or a run that was pushed before, "
            f"seen {', '.join(sorted(others)[:5])}. Choose another name, or propose the change "
            "with --pr."
        )
