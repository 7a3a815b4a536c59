"""The folders of pictures that a command line names, found or made."""

import difflib
import os
from pathlib import Path

from finetune.sources import imagenet_tars
from finetune.sources.digits import NAME as DIGITS
from finetune.sources.digits import write_digits
from finetune.sources.label_table import is_label_table
from finetune.stored import rows
from zoo.host.errors import UserError


def data_folder(name: str, *, coarse: bool = False) -> Path:
    """The folder or table that `--data` names; for archives and other sources that are written as
    class folders once, the folder that they are written into.

    The built-in sample is written if it is asked for and missing. `coarse`: by the superclasses of
    CIFAR-100.
    """
    data = Path(name)
    if rows.is_stored(name):
        return rows.stored_in(name, coarse=coarse)
    if coarse:
        raise UserError(
            f"--labels coarse: expected CIFAR-100 as it is published, which has 20 superclasses; "
            f"{data} is another source. Remove the flag."
        )
    # a folder of that name that is there already is meant
    if name == DIGITS and not os.path.exists(data):
        data = write_digits(data)
    if is_label_table(data):
        return data
    if not os.path.isdir(data):
        entry = "a file of another kind" if os.path.exists(data) else "nothing"
        raise UserError(
            f"--data {data}: expected a folder of pictures or a table of labels (.csv, .tsv, "
            f".jsonl, .parquet), but there is {entry} at this path{_near(data)}. --data digits is "
            "a built-in sample."
        )
    return imagenet_tars.unpacked_into(data) if imagenet_tars.is_tars(data) else data


def readable_folder(name: str, *, coarse: bool = False) -> Path:
    """The folder or table that `--data` names, after it is unpacked or downloaded."""
    if rows.is_stored(name):
        return rows.prepare(name, coarse=coarse)
    data = data_folder(name, coarse=coarse)
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


def _is_table(entry: "os.DirEntry[str]") -> bool:
    return is_label_table(Path(entry.path))


def _near(path: Path) -> str:
    try:
        with os.scandir(path.parent) as entries:
            names = [entry.name for entry in entries if entry.is_dir() or _is_table(entry)]
    except OSError:
        return ""
    near = difflib.get_close_matches(path.name, names, 1)
    return f"; near: {path.parent / near[0]}" if near else ""
