"""The folder `bundles/` of a run while it is written: one export at a time, and nothing finished is
lost to it."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from zoo.contract import bundle
from zoo.host import disk, locks
from zoo.host.errors import UserError

LOCK = ".lock"
"""In `bundles/`: held by the process that exports."""
OLD = f".old{disk.UNFINISHED}"
"""End of the name of a bundle whose successor takes its place."""


@contextmanager
def alone(run: Path) -> Iterator[None]:
    """Hold the lock of a run's bundles, which ends with the process; `UserError` if another export
    has it."""
    bundles = run / bundle.BUNDLES
    with disk.right_needed(bundles):
        bundles.mkdir(exist_ok=True)
        lock = FileLock(str(bundles / LOCK))
        locks.take(
            lock,
            in_use=f"{run} is being exported by another process: wait for it, then export again.",
        )
    try:
        # its successor was about to take its place when the power went
        for old in bundles.glob(f"*{OLD}"):
            name = bundles / old.name.removesuffix(OLD)
            if name.exists():
                shutil.rmtree(old)
            else:
                old.rename(name)
        yield
    finally:
        lock.release()


def check_writable(run: Path, names: Sequence[str]) -> None:
    """`UserError` if the run, or a bundle in it that will be made anew, may not be written."""
    bundles = run / bundle.BUNDLES
    for folder in (run, bundles, *(bundles / name for name in names)):
        if folder.is_dir():
            disk.check_writable(folder)


def take_place(folder: Path, place: Path) -> None:
    """Let a finished bundle take the place of an earlier one, which is back at once where that is
    interrupted."""
    old = place.with_name(place.name + OLD)
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
