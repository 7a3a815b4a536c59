"""The user's own aliases of Hub repositories: `aliases.json` in `$ZOOTUNE_HOME`, by default
`~/.config/zootune`."""

import os
import re
from pathlib import Path

from zoo.contract import rundir
from zoo.host.errors import UserError


def aliases_file() -> Path:
    """Where the aliases are kept."""
    home = os.environ.get("ZOOTUNE_HOME") or Path(
        os.environ.get("XDG_CONFIG_HOME") or "~/.config", "zootune"
    )
    return Path(home).expanduser() / "aliases.json"


def own_aliases() -> dict[str, str]:
    """Alias -> `hf-hub:org/name`, in order; `UserError` if the file holds something else."""
    path = aliases_file()
    if not path.is_file():
        return {}
    content = rundir.read_json(path)
    named = isinstance(content, dict) and all(isinstance(value, str) for value in content.values())
    if not named:
        raise UserError(
            f"{path}: expected alias -> hf-hub:org/name, seen something else: repair it, or delete "
            "it."
        )
    return dict(content)


def add(alias: str, target: str) -> None:
    """Record an alias; `UserError` for a name that cannot be one. The target is not looked at."""
    if not re.fullmatch(r"[A-Za-z][\w.-]{0,79}", alias):
        raise UserError(
            f"{alias!r}: expected an alias of letters, digits, _ . and -, that begins with a "
            "letter."
        )
    # only here: a folder that is made later loses to the alias
    if Path(alias).exists():
        raise UserError(
            f"{alias!r}: a file or folder here has this name, and --base would mean both: choose "
            "another."
        )
    _write(own_aliases() | {alias: target})


def remove(alias: str) -> str:
    """Forget an alias, and give what it stood for; `UserError` if there is none of this name."""
    aliases = own_aliases()
    if alias not in aliases:
        raise UserError(
            f"{alias!r} is not an alias of yours: expected one of {', '.join(aliases) or 'none'} "
            f"({aliases_file()})."
        )
    target = aliases.pop(alias)
    _write(aliases)
    return target


def _write(aliases: dict[str, str]) -> None:
    aliases_file().parent.mkdir(parents=True, exist_ok=True)
    rundir.write_json(aliases_file(), aliases)
