"""`pins.json`: what each Hub repository held when it was first pulled; later pulls want the
same."""

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from zoo.contract import rundir
from zoo.host.errors import UserError


@dataclass(frozen=True)
class Pin:
    """What a Hub repository held when it was first pulled; one value of pins.json."""

    commit: str
    sha256: str | None
    """Of the weight file. None only before the download, for a file that the Hub announces no
    sha256 of."""
    filename: str
    licence: str | None
    config: bool
    """Whether the repository has a config.json."""
    run: dict[str, str] | None = None
    """Name -> sha256 of every file of a published run; None until it is pulled as a run."""


def pins_file() -> Path:
    """`pins.json` in `$ZOOTUNE_HOME`, by default `~/.cache/zootune`."""
    return Path(os.environ.get("ZOOTUNE_HOME") or "~/.cache/zootune").expanduser() / "pins.json"


def read(hub_id: str) -> Pin | None:
    """The pin of `org/name` or `org/name@revision`; `UserError` if the file holds something
    else."""
    entry = _pins().get(hub_id)
    try:
        return Pin(**entry) if entry else None
    except TypeError:
        raise UserError(
            f'{pins_file()}: the value of "{hub_id}" is not a pin (expected commit, sha256, '
            "filename, licence, config): delete that key and pull again."
        ) from None


def write(hub_id: str, pin: Pin) -> None:
    """Record a pull."""
    pins_file().parent.mkdir(parents=True, exist_ok=True)
    # without an empty `run`: earlier versions refuse a key that they do not know
    entry = {name: value for name, value in asdict(pin).items() if name != "run" or value}
    rundir.write_json(pins_file(), _pins() | {hub_id: entry})


def _pins() -> dict[str, Any]:
    return rundir.read_json(pins_file()) if pins_file().exists() else {}


def advice(hub_id: str) -> str:
    """How to take another commit than the pinned one."""
    return f'delete the key "{hub_id}" from {pins_file()} and pull again'
