"""`pins.json`: what each Hub repository held when it was first pulled; later pulls want the
same."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from zoo.contract import rundir
from zoo.files.folders import is_plain
from zoo.host.errors import UserError
from zoo.host.home import cache_home


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
    return cache_home() / "pins.json"


def read(hub_id: str) -> Pin | None:
    """The pin of `org/name` or `org/name@revision`; `UserError` if the file holds something
    else."""
    entry = _pins().get(hub_id)
    if entry is None:
        return None
    try:
        pin = Pin(**entry)
        if not _is_pin(pin):
            raise TypeError("values of another type")
        return pin
    except TypeError:
        raise UserError(
            f'{pins_file()}: the value of "{hub_id}" is not a pin (expected commit, sha256, '
            "filename, licence, config): delete that key and pull again."
        ) from None


def _is_pin(pin: Pin) -> bool:
    """Whether the values are of the types that a pull writes, and its files have names of files."""
    texts = [pin.commit, pin.sha256, pin.filename]
    if pin.licence is not None:
        texts.append(pin.licence)
    if pin.run is not None:
        if not isinstance(pin.run, dict):
            return False
        texts += [*pin.run, *pin.run.values()]
    return all(isinstance(text, str) for text in texts) and all(
        map(is_plain, (pin.filename, *(pin.run or ())))
    )


def write(hub_id: str, pin: Pin) -> None:
    """Record a pull; `UserError` where the file cannot be written."""
    # without an empty `run`: earlier versions refuse a key that they do not know
    entry = {name: value for name, value in asdict(pin).items() if name != "run" or value}
    try:
        pins_file().parent.mkdir(parents=True, exist_ok=True)
        rundir.write_json(pins_file(), _pins() | {hub_id: entry})
    except OSError as error:
        raise UserError(
            f"{pins_file()} cannot be written ({error.strerror}): free some space, or set "
            "ZOOTUNE_HOME to another folder."
        ) from None


def _pins() -> dict[str, Any]:
    if not pins_file().exists():
        return {}
    return dict(rundir.read_json(pins_file(), kind=dict))


def advice(hub_id: str) -> str:
    """How to take another commit than the pinned one."""
    return f'delete the key "{hub_id}" from {pins_file()} and pull again'
