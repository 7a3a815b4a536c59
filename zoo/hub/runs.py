"""Pulled runs, each in a folder of its own beside `pins.json`: `runs/user--name/COMMIT`.

The Hub client's cache consists of links, and a run folder that holds a link is refused
(zoo/files/folders.py). So the files of a run are put together as files: hard-linked to the cache
where that is possible, else copied.
"""

import os
import re
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path

from zoo.contract import rundir
from zoo.files.folders import shown
from zoo.host import disk
from zoo.host.errors import UserError
from zoo.hub.pins import pins_file


def folder_of(repo: str, commit: str) -> Path:
    """Where the run of a repository at a commit lies, or will lie."""
    is_commit = re.fullmatch(r"[0-9a-f]{40}", commit)
    if not is_commit or not re.fullmatch(r"[\w.-]+/[\w.-]+", repo, re.ASCII):
        raise UserError(
            f"{shown(repo)} at {shown(commit)}: expected user/name and a commit of 40 hexadecimal "
            "digits; check HF_ENDPOINT."
        )
    return pins_file().parent / "runs" / repo.replace("/", "--") / commit


def keep(repo: str, commit: str, cached: Path, digests: Mapping[str, str]) -> Path:
    """The run folder with these files (name -> sha256) of the cache, put in place whole; it must be
    a finished run."""
    place = folder_of(repo, commit)
    # beside its place, where a rename is one step; a name of its own for each process
    temporary = place.with_name(f"{commit}.{secrets.token_hex(8)}{disk.UNFINISHED}")
    try:
        for name in digests:
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            _put(cached / name, temporary / name)
        # before it takes its place, so that what stands there is always whole
        _check_whole(repo, commit, temporary)
        if not place.is_dir():
            temporary.rename(place)
    except OSError as error:
        if not _is_there(
            place
        ):  # else another process has put the same files there in the meantime
            raise UserError(
                f"{place} cannot be written ({error.strerror}): free some space, or set "
                "ZOOTUNE_HOME to another folder."
            ) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return place


def _check_whole(repo: str, commit: str, folder: Path) -> None:
    """`UserError` unless the files of a repository are a finished run."""
    try:
        rundir.open_finished(folder, verify=True)
    except UserError as error:
        seen = str(error).replace(f"{folder}/", "").replace(str(folder), "the repository")
        raise UserError(
            f"{repo} at commit {commit}: expected a whole run, as python -m zoo push left it, "
            f"seen: {seen} Its owner can push it again; an earlier commit may be whole "
            f"(hf-hub:{repo}@COMMIT)."
        ) from None


def _is_there(place: Path) -> bool:
    try:
        return place.is_dir()
    except OSError:  # a folder on the way cannot be looked into
        return False


def _put(source: Path, target: Path) -> None:
    try:
        os.link(source.resolve(), target)
    except OSError:  # another disk, or one without hard links
        shutil.copyfile(source, target)


def changed(place: Path, digests: Mapping[str, str]) -> tuple[str, str] | None:
    """(name, what is seen) of a file of a pulled run that is not the pinned one; None if all
    are."""
    rundir.check_folder(place)
    for name, expected in digests.items():
        path = place / name
        seen = rundir.digest(path) if path.is_file() else "no file"
        if seen != expected:
            return name, seen
    return None


def forget(place: Path) -> None:
    """Delete the folder of a pulled run, so that the next pull makes it again."""
    shutil.rmtree(place)
