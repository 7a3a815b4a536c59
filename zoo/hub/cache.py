"""Files in the Hub client's cache: fetched into it, and found there without a request."""

import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from zoo.contract import rundir
from zoo.hub.calls import retried
from zoo.hub.listing import CONFIG, HUB_FILES
from zoo.hub.of_huggingface_hub import snapshots
from zoo.hub.pins import Pin


def download(repo: str, name: str, commit: str) -> Path:
    """A file in the client's cache; a broken transfer goes on where it broke (the client's work), a
    busy Hub is asked again (ours)."""
    from huggingface_hub import hf_hub_download

    return Path(retried(lambda: hf_hub_download(repo, name, revision=commit)))


def cached(repo: str, filename: str, revision: str) -> Path | None:
    """A file of a repository, if it lies in the cache."""
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(repo, filename, revision=revision)
    return Path(path) if isinstance(path, str) else None


def cached_run(repo: str, pin: Pin) -> Path | None:
    """The folder of a pinned run, if the cache has every file of it."""
    paths = {name: cached(repo, name, pin.commit) for name in pin.run or ()}
    manifest = paths.get(rundir.FINISHED)
    if manifest and all(paths.values()):
        return manifest.parent
    return None


def has_pinned_weights(repo: str, pin: Pin) -> bool:
    """Whether the weight file of a pin lies in the cache, and its config.json if it has one."""
    if pin.config and not cached(repo, CONFIG, pin.commit):
        return False
    return cached(repo, pin.filename, pin.commit) is not None


def announced_by_cache(repo: str, revision: str) -> Pin | None:
    """What the Hub announced of a repository, as far as a copy in the cache tells it: of the
    revision; without one of main, or of the only commit that is there."""
    revisions = [revision] if revision else ["main", *_only_commit(repo)]
    # the preferred file at any revision goes before the other one
    for name, candidate in product(HUB_FILES, revisions):
        if path := cached(repo, name, candidate):
            config = (path.parent / CONFIG).exists()
            return Pin(path.parent.name, digest_in_name(path), name, None, config)
    return None


def _only_commit(repo: str) -> Iterator[str]:
    """The commit of a repository in the cache, if there is exactly one."""
    place = snapshots(repo)
    if place.is_dir():
        commits = list(place.iterdir())
        if len(commits) == 1:
            yield commits[0].name


def digest_in_name(path: Path) -> str | None:
    """The sha256 that the Hub announced at the download: the cache names a large file's blob by
    it."""
    # the path itself is a link, called like the file
    name = path.resolve().name
    return name if re.fullmatch(r"[0-9a-f]{64}", name) else None
