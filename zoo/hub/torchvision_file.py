"""Weight files of torchvision, which lie on PyTorch's own server instead of the Hub.

A file's name ends in the first digits of its sha256. That is checked at each use, and the whole
digest is pinned at the first, as for files of the Hub (zoo/hub/pins.py).
"""

import os
import re
import shutil
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

from zoo.bases import catalog
from zoo.bases.catalog import Base
from zoo.bases.rows import TORCHVISION_URL
from zoo.contract import rundir
from zoo.host import disk
from zoo.host.errors import UserError
from zoo.host.text import shell
from zoo.hub.digests import refuse_other_than_pinned
from zoo.hub.pins import Pin, pins_file, read_pin, write_pin

MIRROR = "ZOOTUNE_TORCHVISION_URL"
"""Environment variable with the address of a folder that holds copies of the files."""
TIMEOUT_S = 20.0
"""Longest wait for a connection, and for the next bytes."""
DIGITS = re.compile(r"-([0-9a-f]{8,64})\.pth$")


def fetch(base: Base) -> tuple[Path, str]:
    """(file, its sha256) of a base with a `url`: from the cache that torchvision uses as well, else
    from the server.

    Raises `UserError` when the file cannot be had, or is not the one that its name or the pin
    announces.
    """
    assert base.url, "a base whose weights lie outside the Hub"
    name = base.url.rpartition("/")[2]
    announced = DIGITS.search(name)
    assert announced, "torchvision's names end in digits of the sha256"
    path = cache() / name
    if not path.is_file():
        _download(base, _address(name), path)
    sha256 = rundir.digest(path)
    if not sha256.startswith(announced[1]):
        path.unlink()
        raise UserError(
            f"{base.alias}: {path} is damaged: expected a sha256 that begins with {announced[1]}, "
            f"seen {sha256}. It was deleted: pull again. If that does not help, a proxy or mirror "
            "changes files on the way."
        )
    pin = read_pin(base.url)
    refuse_other_than_pinned(base.url, pin, sha256, path)
    if pin is None:
        # there is no commit: the name stands for the version
        write_pin(base.url, Pin(announced[1], sha256, name, base.licence, config=False))
    return path, sha256


def cache() -> Path:
    """The folder in which `torch.hub` keeps such files."""
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("TORCH_HOME") or Path(caches, "torch")
    return Path(home).expanduser() / "hub" / "checkpoints"


def _address(name: str) -> str:
    """Where a file is asked for. The mirror may be any address that the user names."""
    address = (os.environ.get(MIRROR) or TORCHVISION_URL).rstrip("/")
    if not address.startswith(("http://", "https://")):
        raise UserError(f"{MIRROR}={address}: expected an address that begins with https://.")
    return f"{address}/{name}"


def _download(base: Base, address: str, path: Path) -> None:
    """Fetch a file, which appears at its place once it is whole."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        disk.write_whole(path, lambda temporary: _copy(address, temporary))
    except HTTPError as error:
        raise UserError(
            f"{address}: expected an answer, seen HTTP status {error.code}: try again later, or "
            f"set {MIRROR} to the address of a folder that holds the file."
        ) from error
    except (OSError, HTTPException) as error:
        if isinstance(error, OSError) and (lack := disk.no_room(error)):
            raise UserError(
                f"{path.parent}: {lack.cause}: {lack.advice}, or set TORCH_HOME to a larger disk."
            ) from error
        raise UserError(_no_network(base, address, path, error)) from error


def _copy(address: str, path: Path) -> None:
    with urlopen(address, timeout=TIMEOUT_S) as answer, open(path, "wb") as file:
        shutil.copyfileobj(answer, file)
        length = answer.headers.get("Content-Length")
        # urllib takes a broken connection for the end of the file
        if length is not None and file.tell() != int(length):
            raise HTTPException(f"{file.tell():,} of {length} bytes arrived")


def _no_network(base: Base, address: str, path: Path, error: Exception) -> str:
    offline = ", ".join(row.alias for row in catalog.offline_bases())
    return (
        f"cannot fetch {address}: seen {type(error).__name__}: {error}.\n"
        "What works without it:\n"
        f"- bases that need no download: {offline or 'none installed'}\n"
        "- --base RUN, the folder of a finished run\n"
        f"- {MIRROR}=https://... if a folder with a copy can be reached\n"
        f"- pull it where there is a network (python -m zoo pull {shell(base.alias)}), then copy\n"
        f"  {path} and the file {pins_file()} here"
    )
