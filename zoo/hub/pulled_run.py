"""Pulling a published run from the Hub, pinned like a base (zoo/hub/pull.py), but by the digest of
each of its files."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from zoo.bases import catalog
from zoo.contract import rundir
from zoo.files.folders import is_plain
from zoo.host.errors import UserError
from zoo.host.text import shell
from zoo.hub import pins, pull_errors, runs
from zoo.hub.cache import cached, cached_run, download
from zoo.hub.calls import explained
from zoo.hub.digests import digest_like, refuse_copy, refuse_other_files
from zoo.hub.listing import ALLOWED, announced
from zoo.hub.pins import Pin


@dataclass(frozen=True)
class PulledRun:
    """A published run, in a folder of its own (zoo/hub/runs.py)."""

    folder: Path
    """A finished run folder; its files are not to be changed."""
    commit: str
    """40 hexadecimal digits."""
    licence: str | None
    """Licence of the repository's card."""


def pull_run(name: str) -> PulledRun:
    """A run that `python -m zoo push` published, as a local run folder, at the commit and digests
    of the first pull.

    `name`: `hf-hub:user/name`, also with `@revision`, or an alias for it (`python -m zoo add`).
    Only files that a push may send are taken: no code, no pickles. Raises `UserError` if it cannot
    be had, is not a published run, or is not what was announced or pinned.
    """
    base = catalog.find_base(name)
    if not base.hub_id:
        raise UserError(
            f"{name}: expected hf-hub:user/name of a published run, seen something that is here "
            "already."
        )
    repo, _, revision = base.hub_id.partition("@")
    pin = pins.read_pin(base.hub_id)
    if pin and pin.run and (place := _kept_or_cached(base.hub_id, repo, pin, pin.run)):
        return PulledRun(place, pin.commit, pin.licence)
    with explained(pull_errors.words(base, pin)):
        wanted, digests = announced(repo, pin.commit if pin else revision)
        names = [file for file in digests if ALLOWED.fullmatch(file) and is_plain(file)]
        if rundir.FINISHED not in names:
            raise UserError(
                f"{repo}: expected a run that python -m zoo push published, seen no "
                f"{rundir.FINISHED} at commit {wanted.commit}. As a base it may do: python -m "
                f"finetune --base {shell(name)}"
            )
        # by commit, not by branch: all files of one state
        paths = {file: download(repo, file, wanted.commit) for file in names}
    folder = paths[rundir.FINISHED].parent
    # twice: the Hub announces sha256 of large files only, and a pin holds sha256 of each
    like_announced = {file: digest_like(digests[file], folder / file) for file in names}
    refuse_other_files(base.hub_id, folder, digests, like_announced)
    sha256 = {file: rundir.digest(folder / file) for file in names}
    if pin:
        refuse_other_files(base.hub_id, folder, pin.run or {pin.filename: pin.sha256}, sha256)
    place = runs.keep(repo, wanted.commit, folder, sha256)
    pins.write_pin(base.hub_id, replace(pin or wanted, sha256=sha256[wanted.filename], run=sha256))
    return PulledRun(place, wanted.commit, wanted.licence)


def is_known_run(base: catalog.Base) -> bool:
    """Whether the repository of a base is known to hold a published run; False where the Hub cannot
    be asked."""
    if not base.hub_id:
        return False
    repo, _, revision = base.hub_id.partition("@")
    pin = pins.read_pin(base.hub_id)
    if pin and pin.run:
        return True
    with suppress(UserError), explained(pull_errors.words(base, pin)):
        return rundir.FINISHED in announced(repo, pin.commit if pin else revision)[1]
    return False


def _kept_or_cached(hub_id: str, repo: str, pin: Pin, pinned: Mapping[str, str]) -> Path | None:
    """The folder of a pinned run (name -> sha256), if it can be had without a request.

    Raises `UserError`, and deletes what is damaged, if a file is not the pinned one.
    """
    place = runs.folder_of(repo, pin.commit)
    if place.is_dir():
        if damaged := runs.changed(place, pinned):
            runs.forget(place)
            name, digest = damaged
            # the cache's copy may be the same file by another name
            copy = cached(repo, name, pin.commit) or place / name
            refuse_copy(hub_id, copy, pinned[name], digest)
        return place
    folder = cached_run(repo, pin)
    if folder is None:
        return None
    seen = {name: rundir.digest(folder / name) for name in pinned}
    refuse_other_files(hub_id, folder, pinned, seen)
    return runs.keep(repo, pin.commit, folder, pinned)
