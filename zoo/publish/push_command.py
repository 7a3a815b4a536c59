"""`python -m zoo push RUN user/name`: a finished run becomes a Hub repository that others read
too."""

import re
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from zoo.contract import rundir
from zoo.host import console
from zoo.host.errors import UserError
from zoo.host.text import shell, shell_path
from zoo.hub.listing import NAMES, REPOSITORY

if TYPE_CHECKING:
    from zoo.publish.push import Pushed

SPACE_FILES = re.compile(
    r"README\.md|Dockerfile|app\.py|requirements\.txt|(zoo|serve)/[\w/]+\.(py|css)"
)
"""Names of a Space's own files that are sent. Its model is sent as the run's repository has it."""
SPACE_BUNDLE = re.compile(r"model/bundles/[\w-]+/bundle\.json")
"""Name of the file that describes the bundle which a Space answers with."""
DEPLOYED = "bundles/onnx/model.onnx"
"""Name of the model that `python -m serve` needs in a published run."""
BRANCH = re.compile(
    r"(?!.*(?:\.\.|//|/\.))(?!.*(?:/|\.|\.lock)\Z)(?![0-9a-f]{40}\Z)[A-Za-z0-9_][\w./-]{0,199}",
    re.ASCII,
)
"""Name of a branch that can be pushed to and pulled from: what git takes, and no commit."""
Switch = Annotated[bool, tyro.conf.FlagCreatePairsOff]


@dataclass(frozen=True)
class PushOptions:
    """What to publish, and where."""

    run: Annotated[Path, tyro.conf.Positional]
    """A finished run folder."""
    repo: Annotated[str, tyro.conf.Positional]
    """Repository on the Hub: user/name or organisation/name; it is created if it is missing."""
    public: Switch = False
    """Let everybody see the repository; without this flag it is private."""
    space: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder that python -m serve.space wrote: it is published too, as the Space of the same
    name."""
    with_examples: Switch = False
    """Also send the validation pictures in the bundles (at most six), without their metadata."""
    dry_run: Switch = False
    """Show exactly what would be sent, and send nothing; this needs neither network nor token."""
    revision: str = "main"
    """Branch to push to; it is created from main if it is missing."""
    pr: Switch = False
    """Open a pull request instead of changing the branch."""
    overwrite: Switch = False
    """Also replace what somebody has changed on the Hub since the last push; without this flag,
    such changes stay."""

    def __post_init__(self) -> None:
        if not REPOSITORY.fullmatch(self.repo):
            raise UserError(
                f"{self.repo}: expected user/name of a repository on the Hub, with one slash. "
                f"{NAMES}"
            )
        if not BRANCH.fullmatch(self.revision):
            raise UserError(
                f"--revision {self.revision}: expected the name of a branch, such as next or "
                "user/next: of letters, digits and . _ - / only, and no commit."
            )
        # its model is the one that everybody finds in the repository, and it has no other branch
        if self.space and (self.pr or self.revision != "main"):
            flag = "--pr" if self.pr else "--revision"
            raise UserError(
                f"--space: expected no {flag}, because a Space is changed at once. Push the run "
                "without --space first, and both once it is on main."
            )


def push(publication: tyro.conf.OmitArgPrefixes[PushOptions]) -> int:
    """Publish a finished run in one commit: card, weights, exported models and numbers.

    The commit is read back and compared. Pictures, their names and paths, and the report stay here.
    After a stop or a refusal, the same command goes on.
    """
    # here, because `python -m zoo list` needs neither onnx nor the Hub's client
    from zoo.publish import push, staging
    from zoo.publish.repository import Goal

    with tempfile.TemporaryDirectory() as temporary:
        files = staging.staged(
            publication.run,
            Path(temporary),
            repo=publication.repo,
            examples=publication.with_examples,
        )
        space = space_files(publication.space, files, publication.run) if publication.space else {}
        _warn_of_missing(publication.run, files)
        _show(publication, files, space)
        if publication.dry_run:
            console.say("nothing was sent (--dry-run)")
            return 0
        destination: dict[str, Any] = {
            "revision": publication.revision,
            "public": publication.public,
            "pull_request": publication.pr,
            "overwrite": publication.overwrite,
        }
        run = publication.run.resolve().name
        pushed = push.push(Goal(publication.repo, **destination), files, run=run)
        _say(pushed, files)
        if space:
            goal = Goal(
                publication.repo,
                "space",
                public=publication.public,
                overwrite=publication.overwrite,
            )
            _say(push.push(goal, space, run=run), space)
    console.say(next_steps(publication, files, proposed=publication.pr and pushed.sent))
    return 0


def next_steps(publication: PushOptions, files: Collection[str], *, proposed: bool) -> str:
    """Return the commands that use what was pushed; of what was only `proposed`, those of after its
    merge."""
    place = f"hf-hub:{publication.repo}"
    if publication.revision != "main":
        place += f"@{publication.revision}"
    lines = ["next:"]
    if proposed:
        lines = ["next, once the pull request is merged:"]
    # the page and the API answer with this bundle only
    if DEPLOYED in files:
        lines.append(f"  python -m serve {shell(place)}")
    lines.append(f"  python -m finetune --data PICTURES --base {shell(place)}")
    return "\n".join(lines)


def space_files(folder: Path, published: Mapping[str, Path], run: Path) -> dict[str, Path]:
    """Give name -> file of a Space: its code from `folder`, its bundle and card from the files of
    the run that are `published`.

    Raises `UserError` if the folder is no Space, or the Space of another model.
    """
    if not _is_space(folder):
        raise UserError(
            f"{folder}: expected the folder of a Space (README.md with sdk:, app.py), as python -m "
            "serve.space RUN writes it."
        )
    code, model = dict[str, Path](), dict[str, Path]()
    for path in sorted(folder.rglob("*")):
        # a link could lead to any file of this machine
        if not path.is_file() or path.is_symlink():
            continue
        name = path.relative_to(folder).as_posix()
        if SPACE_FILES.fullmatch(name):
            code[name] = path
        elif SPACE_BUNDLE.fullmatch(name):
            model |= _bundle_of_space(path, name.removeprefix("model/"), published, run)
    if model:
        model[f"model/{rundir.CARD}"] = published[rundir.CARD]
    # the model as the repository has it, whatever lies in the folder of the Space
    return code | model


def _is_space(folder: Path) -> bool:
    readme = folder / rundir.CARD
    if not readme.is_file() or not (folder / "app.py").is_file():
        return False
    return "sdk:" in readme.read_text(encoding="utf-8")


def _bundle_of_space(
    description: Path, name: str, published: Mapping[str, Path], run: Path
) -> dict[str, Path]:
    """Give the published files of the bundle that a Space has a copy of.

    `description` is the bundle.json of the Space, `name` what the run calls that file.
    """
    # a Space is made from the run or from its published copy; their bundle.json differ, because
    # private entries are taken out before a push
    same = name in published and rundir.digest(description) in (
        rundir.digest(run / name),
        rundir.digest(published[name]),
    )
    if not same:
        raise UserError(
            f"{description} is not the bundle that is published with this run: expected a "
            "Space of the run as it is now. Write it again with python -m serve.space RUN."
        )
    folder = name.removesuffix("bundle.json")
    return {f"model/{file}": path for file, path in published.items() if file.startswith(folder)}


def _warn_of_missing(run: Path, files: Mapping[str, Path]) -> None:
    """Say what the published copy will not be able to do, and which bundles stay here."""
    from zoo.contract import bundle

    if DEPLOYED not in files:
        console.warn(
            f"{run} has no {DEPLOYED}, so python -m serve will not work with the repository. "
            f"Export it first: python -m export {shell_path(run)} --to {bundle.DEFAULT_TARGET}"
        )
    unsent = []
    for opened in bundle.of_run(run):
        if f"{bundle.BUNDLES}/{opened.place.name}/{bundle.BUNDLE}" not in files:
            unsent.append(opened.target)
    if unsent:
        console.say(
            f"not sent, to be exported where they are used: {', '.join(unsent)} (their figures are "
            "in the card)"
        )


def _show(publication: PushOptions, files: Mapping[str, Path], space: Mapping[str, Path]) -> None:
    """List what will leave this machine: size, digest and name of each file, and who will see
    it."""
    readers = "everybody" if publication.public else f"{publication.repo.partition('/')[0]} alone"
    for kind, listed in (("repository", files), ("Space", space)):
        if listed:
            how = (
                "as a pull request" if publication.pr and kind == "repository" else "in one commit"
            )
            console.say(f"{kind} {publication.repo}, seen by {readers}, {len(listed)} files {how}:")
        for name, path in listed.items():
            console.say(f"  {path.stat().st_size:>12,}  {rundir.digest(path)[:12]}  {name}")


def _say(pushed: "Pushed", files: Mapping[str, Path]) -> None:
    result = "everything was there already"
    if pushed.sent:
        result = f"{len(files)} files, read back and compared"
    console.say(f"{pushed.url}  commit {pushed.commit}: {result}")
    for name in pushed.kept:
        console.warn(
            f"{name} was edited on the Hub since the last push, and was kept as it is there: its "
            "numbers may be those of an earlier state. --overwrite replaces it."
        )
