"""When two paths or names mean the same, wherever the pictures lie and whatever copied them.

A copy made by macOS may spell names in the other Unicode form (NFD: `e` and an accent apart), and the path from the
data folder to a validation folder elsewhere changes when either of them moves. Neither makes other pictures.
"""

import unicodedata
from collections.abc import Iterable
from pathlib import Path

from zoo.entries import relative


def nfc(name: str) -> str:
    """The name in the Unicode form NFC, in which names are compared; names that are not UTF-8 are kept."""
    return unicodedata.normalize("NFC", name)


def val_elsewhere(folders: Iterable[str]) -> str:
    """The validation folder outside the data folder, among the relative paths of all that were read; empty if none.

    Only it, and what is in it, has such a path, which begins with `..`.
    """
    return min((folder for folder in folders if folder.split("/")[0] == ".."), key=len, default="")


def val_path(data: Path, val: Path | None) -> str:
    """The same from where the two folders lie."""
    return val_elsewhere([relative(val, data)] if val else [])


def compared(path: str, val: str) -> str:
    """The relative path of a picture as it is compared: `../cat/1.png` in a validation folder elsewhere, wherever.

    `val`: the relative path of that folder, empty if there is none.
    """
    if val and path.startswith(f"{val}/"):
        path = f"../{path[len(val) + 1:]}"
    return nfc(path)
