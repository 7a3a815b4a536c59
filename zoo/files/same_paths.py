"""When two paths or names mean the same, wherever the pictures lie and whatever copied them.

A copy made by macOS may spell names in the other Unicode form (NFD: `e` and an accent apart), and
the path from the data folder to a validation folder elsewhere changes when either of them moves.
Neither makes other pictures.
"""

import os
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from zoo.files.entries import relative


def nfc(name: str) -> str:
    """The name in the Unicode form NFC, in which names are compared; names that are not UTF-8 are
    kept."""
    return unicodedata.normalize("NFC", name)


def val_elsewhere(folders: Iterable[str]) -> str:
    """The validation folder outside the data folder, among the relative paths of all that were
    read; empty if none.

    Only it, and what is in it, has such a path, which begins with `..`.
    """
    # the shortest: the others lie in it
    return min((folder for folder in folders if folder.split("/")[0] == ".."), key=len, default="")


def val_path(data: Path, val: Path | None) -> str:
    """The same from where the two folders lie."""
    return val_elsewhere([relative(val, data)] if val else [])


def compared(path: str, val: str) -> str:
    """The relative path of a picture as it is compared: `../cat/1.png` in a validation folder
    elsewhere, wherever.

    `val`: the relative path of that folder, empty if there is none.
    """
    if val and path.startswith(f"{val}/"):
        path = f"../{path[len(val) + 1 :]}"
    return nfc(path)


def located(root: Path, path: str) -> Path:
    """Where the picture lies that was recorded under this relative path: there, or, in a copy that
    spells its names in another Unicode form, under the names that are there. What is missing is
    given as it was recorded."""
    # ASCII has one Unicode form only, which spares the look at most paths
    if path.isascii() or os.path.lexists(root / path):
        return root / path
    folder = root
    for name in path.split("/"):
        folder /= name if os.path.lexists(folder / name) else _spelt(folder, name)
    return folder


def _spelt(folder: Path, name: str) -> str:
    """The name in this folder that is the same in NFC; itself where there is none."""
    try:
        return _names(folder, folder.stat().st_mtime_ns).get(nfc(name), name)
    except OSError:  # the folder is missing, or may not be read
        return name


# with the time of its last change as a key, so that a changed folder is listed again
@lru_cache(maxsize=64)
def _names(folder: Path, changed_ns: int) -> dict[str, str]:
    """What stands in a folder: name in NFC -> name as it is; `changed_ns`: when the folder
    changed."""
    return {nfc(name): name for name in os.listdir(folder)}
