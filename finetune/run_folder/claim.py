"""The run folder before training: new, going on, already finished, or in use."""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from finetune.machine import distributed
from finetune.machine.disk_space import room_needed
from finetune.recipe.run import Run
from finetune.run_folder.checkpoint import has_state
from finetune.run_folder.going_on import STATES
from finetune.run_folder.leftovers import sweep
from finetune.run_folder.named_folders import readable_folder, real
from finetune.run_folder.order import Order, new_order, recorded_order, resumed_order
from zoo.contract import run_pictures, rundir
from zoo.host import disk, locks
from zoo.host.errors import UserError


@dataclass(frozen=True)
class Claim:
    """A run folder that this process may write to."""

    folder: Path
    order: Order
    finished: bool
    """Whether the folder already holds a finished run."""
    goes_on: bool
    """Whether the same order began this folder, so that the recipe recorded there is valid."""
    lock: FileLock
    """Taken by rank 0 alone."""
    same_pictures: bool = False
    """Whether the run may only go on with the pictures that the folder has recorded."""
    begun: tuple[Path, ...] = ()
    """Folders that did not exist before this command: the run's own first, then its parents."""


def claim(run: Run, given: Mapping[str, Any]) -> Claim:
    """Take the run folder that the command line means, for a new run or for one that goes on.

    Of several processes, rank 0 takes it for all. Raises `UserError` if another process is using
    it, if it holds a run of other settings (the first that differs is named), or if it holds
    something that is no run.
    """
    # not in a collective, which gives up after minutes: unpacking tars takes hours
    with distributed.first_before_others():
        taken = _claim(run, given) if distributed.first() else None
    # a lock cannot be sent: the others get one that they never take
    folder, order, finished, goes_on = distributed.of_first(
        taken and (str(taken.folder), taken.order.to_json(), taken.finished, taken.goes_on)
    )
    return taken or Claim(
        Path(folder), Order.from_json(order), finished, goes_on, _lock(Path(folder))
    )


def _claim(run: Run, given: Mapping[str, Any]) -> Claim:
    folder = run.folder
    if run.resume is not None:
        order, goes_on = resumed_order(run, given), True
    else:
        order = new_order(run, given)
        for data in (order.data, *order.more):
            if data in real(folder).parents:
                whose = "--out" if run.out else "without --out the run folder is"
                raise UserError(
                    f"{whose} {folder}, which stands in the data folder {data}, where it would "
                    "look like a class: choose an --out elsewhere."
                )
        goes_on = check_free(folder, order)
    finished, lock = rundir.is_finished(folder), _lock(folder)
    # looked up before `_begin` makes them
    begun = tuple(path for path in (folder, *folder.parents) if not os.path.exists(path))
    if not finished:
        with room_needed(folder):
            _begin(run, folder, order, lock, goes_on=goes_on)
    known = goes_on and (folder / rundir.DATA).is_file()
    same_pictures = known and (run.resume is not None or has_state(folder))
    return Claim(folder, order, finished, goes_on, lock, same_pictures, begun)


def _begin(run: Run, folder: Path, order: Order, lock: FileLock, *, goes_on: bool) -> None:
    """Make the folder, lock it, unpack its pictures, and record the order."""
    # the lock is a file in this folder
    _make(folder / rundir.RESUME)
    _take(lock, folder)
    for name in run.data:
        # unpacks tars, for hours: after all that could refuse this --out
        readable_folder(name, coarse=order.options.coarse)
    sweep(folder)
    if not goes_on:
        # what an earlier, other command decided before it stopped does not hold
        (folder / rundir.RECIPE).unlink(missing_ok=True)
        rundir.write_json(folder / rundir.LOCAL, order.to_json())


@contextmanager
def held(claimed: Claim) -> Iterator[None]:
    """Hold the lock of the folder while the code inside runs, then release it.

    A run that is refused before it saved anything leaves no folder behind, unless the folder was
    there before.
    """
    try:
        try:
            yield
        finally:
            # before anything is removed, as the file of the lock stands in the folder
            claimed.lock.release()
    except UserError as error:
        begun_now = claimed.begun or not claimed.goes_on
        if begun_now and not has_state(claimed.folder) and not rundir.is_finished(claimed.folder):
            _discard(claimed, str(error))
        raise


def _discard(claimed: Claim, why: str) -> None:
    """Remove what the start of a refused run wrote; `why`: the error that refused it."""
    names = claimed.folder / rundir.LEFT_OUT
    # the error may tell its reader to look into this file
    if str(names) not in why:
        names.unlink(missing_ok=True)
    for name in (rundir.RESUME, rundir.TENSORBOARD):
        shutil.rmtree(claimed.folder / name, ignore_errors=True)
    for name in (rundir.LOCAL, rundir.RECIPE, rundir.DATA, rundir.FILES, rundir.METRICS):
        (claimed.folder / name).unlink(missing_ok=True)
    for folder in claimed.begun:
        try:
            folder.rmdir()
        except OSError:
            # it holds what the error names, or what somebody else put there: so do its parents
            return


def record(folder: Path, order: Order, states: str, root: Path) -> None:
    """Write to local.json where the pictures are and their `file_states`, once they are known to be
    the right ones."""
    content = order.to_json() | {STATES: states}
    if root != order.data:
        # paths in files.csv are relative to another folder than the table
        content[run_pictures.ROOT] = str(root)
    rundir.write_json(folder / rundir.LOCAL, content)


def _lock(folder: Path) -> FileLock:
    return FileLock(str(folder / rundir.RESUME / "lock"))


def check_free(folder: Path, order: Order) -> bool:
    """Whether `folder` already holds a run of the same order; `UserError` if it holds anything
    else."""
    names = _names_in(folder)
    if names is None:
        return False
    entries = sorted(name for name in names if not _is_of_a_start(name))
    if not entries:
        rundir.check_folder(folder)
        return False
    if rundir.LOCAL not in entries:
        raise UserError(
            f"--out {folder} holds something else (for example {entries[0]}): expected a new "
            "folder or an unfinished run. Choose another --out."
        )
    recorded = recorded_order(folder)
    # a command that stopped before its first saved state (a wrong setting) left nothing to lose
    if not (rundir.is_finished(folder) or has_state(folder)):
        return order == recorded
    _check_same_order(folder, order, recorded)
    return True


def _names_in(folder: Path) -> list[str] | None:
    """The names in `folder`; None if it does not exist; `UserError` if no run can be written to
    it."""
    # TensorBoard writes names of files as UTF-8
    if os.fsencode(folder).decode(errors="replace") != str(folder):
        raise UserError(
            f"--out {os.fsencode(folder)!r}: expected a name in UTF-8, which every program can "
            "read."
        )
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        raise UserError(
            f"--out {folder} is a file, or stands in one: expected a new folder's name. Choose "
            "another --out."
        ) from None
    except OSError as error:
        raise UserError(
            f"--out {folder} cannot be read ({error.strerror}): choose another --out."
        ) from None


def _check_same_order(folder: Path, order: Order, recorded: Order) -> None:
    """`UserError` unless the run in `folder` has the same order; its pictures may have moved."""
    if difference := order.difference(recorded):
        state = "a finished" if rundir.is_finished(folder) else "an unfinished"
        raise UserError(
            f"{folder} holds {state} run of another command: {difference}. Choose another --out, "
            "or remove that folder."
        )
    moved = (order.data, order.val_folder) != (recorded.data, recorded.val_folder)
    if moved and not (folder / rundir.DATA).is_file():
        raise UserError(
            f"--data is {order.data}, and for the run in {folder} it was {recorded.data}: its "
            f"{rundir.DATA} is missing, so whether these are the same pictures cannot be told. "
            "Choose another --out."
        )


def _is_of_a_start(name: str) -> bool:
    """Whether a run that was killed before it recorded its order leaves a file of this name."""
    return name in (rundir.RESUME, rundir.LEFT_OUT) or (
        name.startswith(rundir.LOCAL) and name.endswith(disk.UNFINISHED)
    )


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        # explained by the caller's `room_needed`
        if disk.no_room(error):
            raise
        raise UserError(
            f"{folder.parent} cannot be written ({error.strerror}): choose another --out."
        ) from None


def _take(lock: FileLock, folder: Path) -> None:
    """Take the lock, which the system releases when the process ends, even by SIGKILL."""
    # processes that decode for one that died may hold its lock for some seconds longer
    again = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"
    locks.take(
        lock,
        timeout_s=20 if again else 0,
        in_use=f"{folder} is in use by another process: wait for it, or choose another --out.",
    )
