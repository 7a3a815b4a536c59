"""The run folder before training: new, going on, already finished, or in use."""

import difflib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from finetune.data import imagenet_tars
from finetune.data.digits import NAME as DIGITS
from finetune.data.digits import write_digits
from finetune.machine import distributed
from finetune.machine.disk_space import room_needed
from finetune.recipe import resolve
from finetune.recipe.facts import as_fraction
from finetune.recipe.resolve import from_scratch
from finetune.recipe.resolved import given_of
from finetune.recipe.run import Run
from finetune.run_folder.checkpoint import has_state, sweep
from finetune.run_folder.going_on import STATES
from zoo.bases.catalog import Base, find, find_architecture
from zoo.contract import rundir
from zoo.files import fields
from zoo.files.folders import shown
from zoo.files.same_paths import val_path
from zoo.host import disk, locks
from zoo.host.errors import UserError
from zoo.host.text import shell_path


@dataclass(frozen=True)
class Order:
    """What was asked for, as recorded in `local.json` when a run starts."""

    data: Path
    """Absolute."""
    base: str
    """As `zoo.bases.catalog.find` takes it; a path of a run folder is absolute."""
    given: Mapping[str, Any]
    """Recipe fields set by hand."""

    def find_base(self) -> Base:
        """The base, or the architecture alone where it is trained from scratch."""
        return (find_architecture if from_scratch(self.given) else find)(self.base)

    def to_json(self) -> dict[str, Any]:
        return {"data": str(self.data), "base": self.base, "given": dict(self.given)}

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> "Order":
        """What `to_json` gave; `ValueError` or `KeyError` for anything else."""
        data, base = fields.text(content["data"]), fields.name(content["base"])
        if "\0" in data or not Path(data).is_absolute():
            raise ValueError(
                f"expected the absolute path of a folder under data, seen {fields.seen(data)}"
            )
        if "\0" in base:
            raise ValueError(f"expected a base without zero bytes, seen {fields.seen(base)}")
        given = given_of(fields.mapping(content["given"]))
        resolve.check(
            {key: value for key, value in given.items() if (key, value) != ("lr", "find")}
        )
        return Order(Path(data), base, given)

    @property
    def val_folder(self) -> Path | None:
        """The validation folder that stands elsewhere, if --val names one."""
        val = self.given.get("val")
        return Path(val) if val is not None and as_fraction(val) is None else None

    @property
    def val_path(self) -> str:
        """Relative path of the validation folder if it lies outside the data folder, else empty."""
        return val_path(self.data, self.val_folder)

    def moved(self, data: Path | None, val: Path | None) -> "Order":
        """The same with other places of its pictures."""
        given = dict(self.given) | ({"val": str(val)} if val else {})
        return replace(self, data=data or self.data, given=given)

    def difference(self, other: "Order") -> str | None:
        """The first key in which two orders differ, with both values; where the pictures lie is
        none."""
        mine, theirs = (o.to_json()["given"] | {"base": o.base} for o in (self, other))
        keys = [key for key in mine | theirs if mine.get(key) != theirs.get(key)]
        if self.val_folder and other.val_folder:
            keys = [key for key in keys if key != "val"]
        if not keys:
            return None
        name = keys[0].replace("_", "-")
        return (
            f"--{name} is {mine.get(keys[0], 'not given')}, in that run it was "
            f"{theirs.get(keys[0], 'not given')}"
        )


@dataclass(frozen=True)
class Claim:
    """A run folder that this process may write to."""

    folder: Path
    order: Order
    finished: bool
    goes_on: bool
    """The folder was begun by the same order, so what it recorded of its recipe holds."""
    lock: FileLock
    same_pictures: bool = False
    """Only the pictures that the folder has recorded will do."""
    begun: tuple[Path, ...] = ()
    """Folders that were not there before, the run's own first."""


def claim(run: Run, given: Mapping[str, Any]) -> Claim:
    """Take the run folder that `run` means, for good or for going on; of several processes, rank 0
    takes it for all.

    Raises `UserError` if another run has it, if it holds another run (the differing setting is
    named), or if it is a folder of something else.
    """
    with distributed.first_before_others():  # unpacking takes hours
        taken = _claim(run, given) if distributed.first() else None
    folder, order, finished, goes_on = distributed.of_first(
        taken and (str(taken.folder), taken.order.to_json(), taken.finished, taken.goes_on)
    )
    return taken or Claim(
        Path(folder), Order.from_json(order), finished, goes_on, _lock(Path(folder))
    )


def _claim(run: Run, given: Mapping[str, Any]) -> Claim:
    if run.resume is not None:
        folder, order = run.resume, _resumed(run, given)
        goes_on = True
    else:
        order, folder = _order(run, given), run.folder
        if order.data in _real(folder).parents:
            whose = "--out" if run.out else "without --out the run folder is"
            raise UserError(
                f"{whose} {folder}, which stands in the data folder {order.data}, where it would "
                "look like a class: choose an --out elsewhere."
            )
        goes_on = _check_free(folder, order)
    finished = rundir.is_finished(folder)
    lock = _lock(folder)
    begun = tuple(path for path in (folder, *folder.parents) if not os.path.exists(path))
    if not finished:
        with room_needed(folder):
            _make(folder / rundir.RESUME)
            _take(lock, folder)
            if run.data is not None:
                readable_folder(run.data)  # unpacks tars, after all that could refuse this --out
            sweep(folder)
            # what an earlier, other command decided before it stopped does not hold
            if not goes_on:
                (folder / rundir.RECIPE).unlink(missing_ok=True)
                rundir.write_json(folder / rundir.LOCAL, order.to_json())
    same = (
        goes_on
        and (folder / rundir.DATA).is_file()
        and (run.resume is not None or has_state(folder))
    )
    return Claim(folder, order, finished, goes_on, lock, same, begun)


@contextmanager
def held(claimed: Claim) -> Iterator[None]:
    """Inside, the folder is this process's own. A run that is refused before it saved anything
    leaves no folder behind, unless it was there before."""
    try:
        yield
    except UserError as error:
        claimed.lock.release()
        begun_now = claimed.begun or not claimed.goes_on
        if begun_now and not has_state(claimed.folder) and not rundir.is_finished(claimed.folder):
            _discard(claimed, str(error))
        raise
    finally:
        claimed.lock.release()


def _discard(claimed: Claim, why: str) -> None:
    """Remove what the start of a run wrote, but the names of what was left out if the error says
    where they are."""
    names = claimed.folder / rundir.LEFT_OUT
    if str(names) not in why:
        names.unlink(missing_ok=True)
    for name in (rundir.RESUME, rundir.TENSORBOARD):
        shutil.rmtree(claimed.folder / name, ignore_errors=True)
    for name in (rundir.LOCAL, rundir.RECIPE, rundir.DATA, rundir.FILES, rundir.METRICS):
        (claimed.folder / name).unlink(missing_ok=True)
    for folder in claimed.begun:
        try:
            folder.rmdir()
        except OSError:  # it holds what the error names, or what somebody put there
            return


def record(folder: Path, order: Order, states: str) -> None:
    """Note in local.json where the pictures lie, once these are known to be the right ones, and
    their `file_states`."""
    rundir.write_json(folder / rundir.LOCAL, order.to_json() | {STATES: states})


def _lock(folder: Path) -> FileLock:
    return FileLock(str(folder / rundir.RESUME / "lock"))


def data_folder(name: str) -> Path:
    """The folder that `--data` names; the built-in sample is written where it is asked for and
    missing. Of tars, the folder that they are unpacked into."""
    data = Path(name)
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
    """The same with its pictures in it: tars are unpacked."""
    data = data_folder(name)
    return imagenet_tars.prepared(Path(name)) if imagenet_tars.is_tars(Path(name)) else data


def _order(run: Run, given: Mapping[str, Any]) -> Order:
    assert run.data is not None
    data = data_folder(run.data)
    given = dict(given)
    base = (find_architecture if from_scratch(given) else find)(run.base)
    if given.get("teacher") and (teacher := find(given["teacher"]).folder):
        given["teacher"] = str(_real(teacher))
    if "val" in given and as_fraction(given["val"]) is None:
        given["val"] = str(_val_folder(given["val"]))
    return Order(_real(data), str(_real(base.folder)) if base.folder else run.base, given)


def _real(path: Path) -> Path:
    """The path without links, also of one that does not exist, or leads round in a circle."""
    return Path(os.path.realpath(path))


def _val_folder(name: str) -> Path:
    """The folder that `--val` names; `UserError` if there is none."""
    if not os.path.isdir(name):
        raise UserError(
            f"--val {name}: expected a fraction between 0 and 1, such as 0.2, or an existing "
            "folder."
        )
    return _real(Path(name))


def _near(path: Path) -> str:
    try:
        with os.scandir(path.parent) as entries:
            names = [entry.name for entry in entries if entry.is_dir()]
    except OSError:
        return ""
    near = difflib.get_close_matches(path.name, names, 1)
    return f"; near: {path.parent / near[0]}" if near else ""


def _resumed(run: Run, given: Mapping[str, Any]) -> Order:
    """What the folder recorded, with the places of its pictures that the command line names."""
    assert run.resume is not None
    folder = run.resume
    order = recorded_order(folder)
    val = given.get("val")
    moved_val = (
        _val_folder(val)
        if val is not None and order.val_folder and as_fraction(val) is None
        else None
    )
    if others := [key for key in given if key != "val" or not moved_val]:
        flags = ", ".join("--" + key.replace("_", "-") for key in others)
        raise UserError(
            f"--resume goes on with the recipe of {folder}: remove {flags}, or start a new run."
        )
    if run.data is not None:
        return order.moved(_real(data_folder(run.data)), moved_val)
    if rundir.is_finished(folder):
        return order
    if not (folder / rundir.DATA).is_file():
        raise UserError(
            f"--resume {folder}: the run stopped before it had recorded its pictures: expected "
            f"their folder with --data. (Its {rundir.LOCAL} names {shown(order.data)}.)"
        )
    if not order.data.is_dir():
        raise UserError(
            f"--resume {folder}: its pictures lay in {shown(order.data)}, where there is no folder "
            "now. If they moved, name their folder: python -m finetune --resume "
            f"{shell_path(folder)} --data FOLDER"
        )
    return order.moved(None, moved_val)


def recorded_order(folder: Path) -> Order:
    """What the run in `folder` recorded of its order; `UserError` if no run began there."""
    if not (folder / rundir.LOCAL).is_file():
        raise UserError(
            f"--resume {folder}: expected a run folder started by python -m finetune; it has no "
            f"{rundir.LOCAL}."
        )
    rundir.check_folder(folder)
    with fields.of(folder / rundir.LOCAL, "Start a new run."):
        return Order.from_json(rundir.read_json(folder / rundir.LOCAL, kind=dict))


def _check_free(folder: Path, order: Order) -> bool:
    """Whether `folder` already holds a run of the same order; `UserError` if it holds anything
    else."""
    # TensorBoard writes names of files as UTF-8
    if os.fsencode(folder).decode(errors="replace") != str(folder):
        raise UserError(
            f"--out {os.fsencode(folder)!r}: expected a name in UTF-8, which every program can "
            "read."
        )
    try:
        there = os.listdir(folder)
    except FileNotFoundError:
        return False
    except NotADirectoryError:
        raise UserError(
            f"--out {folder} is a file, or stands in one: expected a new folder's name. Choose "
            "another --out."
        ) from None
    except OSError as error:
        raise UserError(
            f"--out {folder} cannot be read ({error.strerror}): choose another --out."
        ) from None
    seen = sorted(name for name in there if not _is_of_a_start(name))
    if not seen:
        rundir.check_folder(folder)
        return False
    if rundir.LOCAL not in seen:
        raise UserError(
            f"--out {folder} holds something else (for example {seen[0]}): expected a new folder "
            "or an unfinished run. Choose another --out."
        )
    recorded = recorded_order(folder)
    difference = order.difference(recorded)
    # a command that stopped before its first saved state (a wrong setting) left nothing to lose
    if not (rundir.is_finished(folder) or has_state(folder)):
        return order == recorded
    if difference:
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
    return True


def _is_of_a_start(name: str) -> bool:
    """Whether a run that was killed before it recorded its order leaves this."""
    return name in (rundir.RESUME, rundir.LEFT_OUT) or (
        name.startswith(rundir.LOCAL) and name.endswith(disk.UNFINISHED)
    )


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if disk.no_room(error):
            raise
        raise UserError(
            f"{folder.parent} cannot be written ({error.strerror}): choose another --out."
        ) from None


def _take(lock: FileLock, folder: Path) -> None:
    """The lock dies with the process, also after SIGKILL; started again by torchrun, decoders of
    the one that died may outlive it by some seconds."""
    again = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"
    locks.take(
        lock,
        timeout_s=20 if again else 0,
        in_use=f"{folder} is in use by another process: wait for it, or choose another --out.",
    )
