"""The files of a finished folder that its FINISHED.json lists: nothing that lies beside them is
shown, served, sent or packed."""

import stat
from functools import lru_cache
from pathlib import Path

from zoo.contract.rundir import FINISHED, check_names, digest, read_json
from zoo.files.folders import shown
from zoo.host.errors import UserError


def listed_file(folder: Path, name: str) -> Path | None:
    """The file `name` of a finished folder if its FINISHED.json lists it with these bytes; None if
    it lists none.

    What is shown, served, sent or packed goes through here, so that nothing that lies beside the
    listed files does. A file that did not change since the last call is not read again. Raises
    `UserError` if the file is missing, changed or a link.
    """
    expected = _manifest_files(folder, _signature(folder / FINISHED)).get(name)
    if expected is None:
        return None
    path = folder / name
    # a link in place of a folder on the way would lead elsewhere as well
    for above in list(path.relative_to(folder).parents)[:-1]:
        _signature(folder / above, folder=True)
    if _digest_at(path, _signature(path)) != expected:
        raise UserError(
            f"{path} changed since {FINISHED} was written (sha256 differs): copy the folder again."
        )
    return path


def _signature(path: Path, *, folder: bool = False) -> tuple[int, ...]:
    """What differs once a file was written or replaced; `UserError` unless it is a regular file (or
    a folder)."""
    try:
        found = path.lstat()
    except OSError:
        raise UserError(f"{path} is missing: copy the whole folder again.") from None
    expected, is_expected = "file", stat.S_ISREG
    if folder:
        expected, is_expected = "folder", stat.S_ISDIR
    if not is_expected(found.st_mode):
        raise UserError(
            f"{shown(path)} is not a {expected}: expected no links, copy the folder again."
        )
    # ctime as well: no program can set it back, as it can mtime
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


@lru_cache(maxsize=8)
def _manifest_files(folder: Path, signature: tuple[int, ...]) -> dict[str, str]:
    files = read_json(folder / FINISHED, kind=dict).get("files")
    if not isinstance(files, dict):
        raise UserError(
            f"{folder / FINISHED}: expected files with their sha256: copy the folder again."
        )
    check_names(folder, files, "copy the folder again.")
    return files


# the signature is a key only: a file that was written or replaced is hashed again
@lru_cache(maxsize=4096)
def _digest_at(path: Path, signature: tuple[int, ...]) -> str:
    return digest(path)
