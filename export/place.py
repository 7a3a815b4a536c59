"""The folder `bundles/` of a run while it is written: one export at a time, and nothing finished is
lost to it."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from zoo.contract import bundle, rundir
from zoo.host import disk, locks
from zoo.host.errors import UserError

LOCK = ".lock"
"""In `bundles/`: held by the process that exports."""


@contextmanager
def alone(run: Path) -> Iterator[None]:
    """Hold the lock of a run's bundles, which ends with the process; `UserError` if another export
    has it, or if this is no finished run."""
    rundir.open_finished(run)
    bundles = run / bundle.BUNDLES
    with disk.right_needed(bundles):
        bundles.mkdir(exist_ok=True)
        disk.check_writable(bundles)
        lock = FileLock(str(bundles / LOCK))
        locks.take(
            lock,
            in_use=f"{run} is being exported by another process: wait for it, then export again.",
        )
    try:
        _put_right(bundles)
        yield
    finally:
        lock.release()


def _put_right(bundles: Path) -> None:
    """Remove or put back what an export left that was killed, or that lost its power."""
    for old in bundles.glob(f"*{disk.SET_ASIDE}"):
        place = disk.place_of(old)
        if place.exists():
            shutil.rmtree(old)
        else:
            old.rename(place)
    for left in bundles.glob(f"*{disk.UNFINISHED}"):
        if left.is_file():  # of `disk.check_writable`; a file here would be refused
            left.unlink()


def check_writable(run: Path, names: Sequence[str]) -> None:
    """`UserError` if the run, or a bundle in it that will be made anew, may not be written."""
    bundles = run / bundle.BUNDLES
    for folder in (run, bundles, *(bundles / name for name in names)):
        if folder.is_dir():
            disk.check_writable(folder)


def take_place(folder: Path, place: Path) -> None:
    """Let a finished bundle take the place of an earlier one, which is back at once where that is
    interrupted.

    No system that we run on replaces a folder by another one in a single step. Between the two
    renames the earlier bundle is found where it was set aside, `disk.standing`.
    """
    old = disk.set_aside(place)
    try:
        if place.exists():
            place.rename(old)
        folder.rename(place)
    finally:
        if old.exists() and not place.exists():  # Ctrl-C, or an error, between the two
            old.rename(place)
    disk.sync_folder(place.parent)
    if old.exists():
        shutil.rmtree(old)


@contextmanager
def room_on_disk(run: Path) -> Iterator[None]:
    """A full disk, a limit on the size of files, or a folder that may not be written, in words."""
    kept = "what was finished before is whole."
    try:
        with disk.right_needed(run / bundle.BUNDLES):
            yield
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise UserError(
            f"{error.filename}: expected to write a bundle there, seen something else of that "
            "name. Remove it."
        ) from None
    except OSError as error:
        lack = disk.no_room(error)
        if lack is None:
            raise
        free = shutil.disk_usage(run).free / 1e6
        needed = ""
        if lack is disk.FULL:
            needed = (
                f" ({free:.0f} MB are free; a bundle needs some times the size of "
                "model.safetensors)"
            )
        raise UserError(
            f"{run / bundle.BUNDLES}: {lack.cause}{needed}: {lack.advice} and export again; {kept}"
        ) from None
