"""Pulling the weights of a base from the Hugging Face Hub, pinned to a commit and to a digest.

The Hub's client checks sizes, not digests. So the digest of each pulled file is compared with the
one that the Hub announces, and at the first pull commit and sha256 are recorded in `pins.json`
(zoo/hub/pins.py). Later pulls take that commit (from the cache, without a request) and refuse any
other bytes. zoo/hub/pulled_run.py does the same for a published run. Only zoo/hub/ and
zoo/publish/push.py talk to the Hub.
"""

import logging
from dataclasses import dataclass, replace
from pathlib import Path

from zoo.bases.catalog import Base
from zoo.contract import rundir
from zoo.hub import pins, pull_errors
from zoo.hub.cache import announced_by_cache, download, has_pinned_weights
from zoo.hub.calls import explained
from zoo.hub.digests import refuse_damaged, refuse_other_than_pinned
from zoo.hub.listing import CONFIG, HUB_FILES, announced
from zoo.hub.pins import Pin

logger = logging.getLogger(__name__)


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


def pull(base: Base) -> Pulled:
    """The weights of a base's Hub repository, at the commit of the first pull.

    The client shows progress bars and finds tokens by itself. Raises `UserError` when the file
    cannot be had, or is not the one that was announced or pinned.
    """
    assert base.hub_id, "a base has a package, a folder or a Hub repository"
    repo, _, revision = base.hub_id.partition("@")
    pin = pins.read_pin(base.hub_id)
    with explained(pull_errors.words(base, pin)):
        if pin and has_pinned_weights(repo, pin):
            wanted = pin
        else:
            wanted = _announced_or_cached(repo, pin.commit if pin else revision)
        # before gigabytes are fetched for nothing
        refuse_other_than_pinned(base.hub_id, pin, wanted.sha256, None)
        path = download(repo, wanted.filename, wanted.commit)
        config = download(repo, CONFIG, wanted.commit) if wanted.config else None
    if not wanted.filename.endswith(".safetensors"):
        logger.warning(
            "%s has no %s: reading %s, tensors only.", repo, HUB_FILES[0], wanted.filename
        )
    # of the bytes on the disk, whatever the cache calls them
    sha256 = rundir.digest(path)
    refuse_damaged(base.hub_id, path, sha256, None if wanted is pin else wanted.sha256)
    refuse_other_than_pinned(base.hub_id, pin, sha256, path)
    licence = wanted.licence or base.licence
    if pin is None:
        pins.write_pin(base.hub_id, replace(wanted, sha256=sha256, licence=licence))
    return Pulled(path, wanted.commit, sha256, licence, config)


def _announced_or_cached(repo: str, revision: str) -> Pin:
    """What the Hub says of a repository; without network what the cache says."""
    from huggingface_hub.errors import HfHubHTTPError, HTTPError, OfflineModeIsEnabled

    try:
        return announced(repo, revision)[0]
    except HfHubHTTPError:
        raise  # the Hub has answered
    except (OfflineModeIsEnabled, HTTPError):
        copy = announced_by_cache(repo, revision)
        if copy is None:
            raise
        logger.warning("%s: no network, using the cached copy of commit %s.", repo, copy.commit)
        return copy
