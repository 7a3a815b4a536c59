"""Reading a bundle in the moment in which an export swaps it for a newer one.

A swap is two renames (export/place.py), after which the earlier folder is deleted: who reads
meanwhile can find files of both, or none. So what was read counts only if the same bundle stood
there before and after; else it is read again.
"""

import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from zoo.contract.rundir import FINISHED
from zoo.host import disk
from zoo.host.errors import UserError

Read = TypeVar("Read")
Options = ParamSpec("Options")

TRIES = 6
"""More swaps than that during one reading are no accident."""
WAIT_S = 0.05
"""Doubled after each try: a swap takes some milliseconds."""


def read_between(path: str | Path, read: Callable[[], Read]) -> Read:
    """What `read` makes of the bundle at `path` (as `open_bundle` takes it), called again if
    another one took its place meanwhile."""
    wait_s = WAIT_S
    for _ in range(TRIES - 1):
        before = _standing(Path(path))
        try:
            found = read()
        except (UserError, OSError):
            if _standing(Path(path)) == before:
                raise
        else:
            if _standing(Path(path)) == before:
                return found
        time.sleep(wait_s)
        wait_s *= 2
    return read()


def awaited(
    open_it: Callable[Concatenate[str | Path, Options], Read],
) -> Callable[Concatenate[str | Path, Options], Read]:
    """Let a function that opens the bundle at a path do so between two swaps."""

    @wraps(open_it)
    def opened(path: str | Path, *args: Options.args, **options: Options.kwargs) -> Read:
        return read_between(path, lambda: open_it(path, *args, **options))

    return opened


def _standing(path: Path) -> list[tuple[str, int, int, int] | None]:
    """What differs once another bundle stands where `path` leads: a bundle's folder, a file in it,
    or a run."""
    # absolute: `.` has no name, which a folder that was set aside would extend
    path = path.absolute()
    places = (path, path.parent, path / "bundles" / "onnx")
    return [_finished(disk.standing(place, FINISHED)) for place in places if place.name]


def _finished(folder: Path) -> tuple[str, int, int, int] | None:
    try:
        status = (folder / FINISHED).lstat()
    except OSError:
        return None
    return folder.name, status.st_ino, status.st_size, status.st_mtime_ns
