"""The folders of pictures that a command line names, found or made."""

import difflib
import os
from pathlib import Path

from finetune.sources import imagenet_tars
from finetune.sources.digits import NAME as DIGITS
from finetune.sources.digits import write_digits
from finetune.stored import rows
from zoo.host.errors import UserError


def data_folder(name: str) -> Path:
    """The folder that `--data` names; for archives and other sources that are written as class
    folders once, the folder that they are written into.

    The built-in sample is written if it is asked for and missing.
    """
    data = Path(name)
    if rows.is_stored(name):
        return rows.stored_in(name)
    # a folder of that name that is there already is meant
    if name == DIGITS and not os.path.exists(data):
        data = write_digits(data)
    if not os.path.isdir(data):
        raise UserError(
            f"--data {data}: expected a folder of pictures, but there is "
            f"{'a file' if os.path.exists(data) else 'nothing'} at this path{_near(data)}. "
            "--data digits is a built-in sample."
        )
    return imagenet_tars.unpacked_into(data) if imagenet_tars.is_tars(data) else data


def readable_folder(name: str) -> Path:
    """The folder that `--data` names, after it is unpacked or downloaded."""
    if rows.is_stored(name):
        return rows.prepare(name)
    data = data_folder(name)
    return imagenet_tars.prepared(Path(name)) if imagenet_tars.is_tars(Path(name)) else data


def val_folder(name: str) -> Path:
    """The folder that `--val` names; `UserError` if there is none."""
    if not os.path.isdir(name):
        raise UserError(
            f"--val {name}: expected a fraction between 0 and 1, such as 0.2, or an existing "
            "folder."
        )
    return real(Path(name))


def real(path: Path) -> Path:
    """The path without links, also of one that does not exist, or leads round in a circle."""
    return Path(os.path.realpath(path))


def _near(path: Path) -> str:
    try:
        with os.scandir(path.parent) as entries:
            names = [entry.name for entry in entries if entry.is_dir()]
    except OSError:
        return ""
    near = difflib.get_close_matches(path.name, names, 1)
    return f"; near: {path.parent / near[0]}" if near else ""
