"""`python -m zoo push RUN user/name`: a finished run becomes a Hub repository that others read
too."""

import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from zoo.contract import rundir
from zoo.host import console
from zoo.host.errors import UserError
from zoo.host.text import shell, shell_path
from zoo.hub.listing import REPOSITORY

if TYPE_CHECKING:
    from zoo.publish.push import Pushed

SPACE_FILES = re.compile(
    r"README\.md|Dockerfile|app\.py|requirements\.txt|(zoo|serve)/[\w/]+\.(py|css)"
)
"""Names of a Space's own files that are sent; its model is sent as the run's repository has it."""
SPACE_BUNDLE = re.compile(r"model/bundles/[\w-]+/bundle\.json")
"""What describes the bundle that a Space answers with."""
Switch = Annotated[bool, tyro.conf.FlagCreatePairsOff]


@dataclass(frozen=True)
class Order:
    """What to publish, and where."""

    run: Annotated[Path, tyro.conf.Positional]
    """A finished run folder."""
    repo: Annotated[str, tyro.conf.Positional]
    """Repository on the Hub: user/name or organisation/name; it is made if it is not there."""
    public: Switch = False
    """Let everybody see it; without this it is private."""
    space: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder that python -m serve.space wrote: publish it too, as the Space of the same name."""
    with_examples: Switch = False
    """Also send the up to six validation pictures in the bundles, without their metadata."""
    dry_run: Switch = False
    """Show exactly what would be sent, and send nothing; needs neither network nor token."""
    revision: str = "main"
    """Branch to push to; made from main if it is not there."""
    pr: Switch = False
    """Open a pull request instead of changing the branch."""
    overwrite: Switch = False
    """Also replace what somebody has changed on the Hub since the last push; without it, that
    stays."""

    def __post_init__(self) -> None:
        if not REPOSITORY.fullmatch(self.repo):
            raise UserError(
                f"{self.repo}: expected user/name of a repository on the Hub, with one slash; "
                "letters, digits and . _ - stand in a name, and it begins with a letter or a digit."
            )


def push(order: tyro.conf.OmitArgPrefixes[Order]) -> int:
    """Publish a finished run: card, weights, exported models and numbers, in one commit that is
    read back.

    Pictures, their names and paths, and the report stay here. Stopped or refused, the same command
    goes on.
    """
    from zoo.publish import push, staging
    from zoo.publish.repository import Goal

    with tempfile.TemporaryDirectory() as temporary:
        files = staging.staged(
            order.run, Path(temporary), repo=order.repo, examples=order.with_examples
        )
        space = space_files(order.space, files, order.run) if order.space else {}
        _warn_of_missing(order.run, files)
        _show(order, files, space)
        if order.dry_run:
            console.say("nothing was sent (--dry-run)")
            return 0
        where: dict[str, Any] = {
            "revision": order.revision,
            "public": order.public,
            "pull_request": order.pr,
            "overwrite": order.overwrite,
        }
        message = f"{order.run.resolve().name}, published by zootune"
        done = push.push(Goal(order.repo, **where), files, message=message)
        _say(done, files)
        if space:
            goal = Goal(order.repo, "space", public=order.public, overwrite=order.overwrite)
            _say(push.push(goal, space, message=message), space)
    published_as = shell(f"hf-hub:{order.repo}")
    console.say(
        f"next:\n  python -m serve {published_as}\n"
        f"  python -m finetune --data PICTURES --base {published_as}"
    )
    return 0


def space_files(folder: Path, published: Mapping[str, Path], run: Path) -> dict[str, Path]:
    """Name -> file of a Space: its code from `folder`, its bundle and card from those of the
    `published` run.

    `UserError` if the folder is no Space, or one of another model.
    """
    if not _is_space(folder):
        raise UserError(
            f"{folder}: expected the folder of a Space (README.md with sdk:, app.py), as python -m "
            "serve.space RUN writes it."
        )
    code, model = dict[str, Path](), dict[str, Path]()
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.is_symlink():
            continue
        name = path.relative_to(folder).as_posix()
        if SPACE_FILES.fullmatch(name):
            code[name] = path
        elif SPACE_BUNDLE.fullmatch(name):
            model |= _bundle_of_space(path, name.removeprefix("model/"), published, run)
    if model:
        model[f"model/{rundir.CARD}"] = published[rundir.CARD]
    return code | model


def _is_space(folder: Path) -> bool:
    page = folder / rundir.CARD
    if not page.is_file() or not (folder / "app.py").is_file():
        return False
    return "sdk:" in page.read_text(encoding="utf-8")


def _bundle_of_space(
    described: Path, name: str, published: Mapping[str, Path], run: Path
) -> dict[str, Path]:
    """The published files of the bundle that a Space's `described` (its bundle.json) is a copy of;
    `name` is what a run calls that file."""
    # the Space's copy may be the run's own or the published one, which has nothing private in it
    same = name in published and rundir.digest(described) in (
        rundir.digest(run / name),
        rundir.digest(published[name]),
    )
    if not same:
        raise UserError(
            f"{described} is not the bundle that is published with this run: expected a "
            "Space of the run as it is now. Write it again with python -m serve.space RUN."
        )
    inside = name.removesuffix("bundle.json")
    return {f"model/{own}": path for own, path in published.items() if own.startswith(inside)}


def _warn_of_missing(run: Path, files: Mapping[str, Path]) -> None:
    """Say what the published copy will not be able to do, and which bundles stay here."""
    from zoo.contract import bundle

    there = f"{bundle.BUNDLES}/{bundle.DEFAULT_TARGET}/{bundle.MODEL}"
    if there not in files:
        console.warn(
            f"{run} has no {there}, so python -m serve will not work with the repository. Export "
            f"it first: python -m export {shell_path(run)} --to {bundle.DEFAULT_TARGET}"
        )
    left = []
    for opened in bundle.of_run(run):
        if f"{bundle.BUNDLES}/{opened.folder.name}/{bundle.BUNDLE}" not in files:
            left.append(opened.target)
    if left:
        console.say(
            f"not sent, to be exported where they are used: {', '.join(left)} (their figures are "
            "in the card)"
        )


def _show(order: Order, files: Mapping[str, Path], space: Mapping[str, Path]) -> None:
    """What leaves this machine, before it does: name, size and digest of each file, and who will
    see it."""
    readers = "everybody" if order.public else f"{order.repo.partition('/')[0]} alone"
    for kind, listed in (("repository", files), ("Space", space)):
        if listed:
            how = "as a pull request" if order.pr and kind == "repository" else "in one commit"
            console.say(f"{kind} {order.repo}, seen by {readers}, {len(listed)} files {how}:")
        for name, path in listed.items():
            console.say(f"  {path.stat().st_size:>12,}  {rundir.digest(path)[:12]}  {name}")


def _say(done: "Pushed", files: Mapping[str, Path]) -> None:
    what = "everything was there already"
    if done.sent:
        what = f"{len(files)} files, read back and compared"
    console.say(f"{done.url}  commit {done.commit}: {what}")
    for name in done.kept:
        console.warn(
            f"{name} was edited on the Hub since the last push, and was kept as it is there: its "
            "numbers may be those of an earlier state. --overwrite replaces it."
        )
