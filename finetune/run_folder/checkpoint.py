"""Exact resume: what is needed to go on after a SIGKILL and end with the same bits.

Randomness is a function of (seed, epoch, index) and (seed, step), so no generator state is kept:
only weights, their moving average, optimiser, loss scale, the step, and the best weights so far. A
checkpoint is a folder, written under another name and renamed when all of it is on disk; the last
two are kept, and one whose digests differ is never read:

    resume/step-000000120/tensors.pt      weights, their average, optimiser, loss scale; read with
                                          weights_only=True
                          state.json      step, best, length of the history, recipe, classes,
                                          versions
                          FINISHED.json   sha256 of both
    resume/best-90.safetensors            the best weights; state.json has their sha256
"""

import re
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from dataclasses import fields as dataclass_fields
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from finetune.evaluation.passes import Scores
from finetune.machine import distributed
from finetune.machine.disk_space import room_needed, size_bytes, write_whole
from finetune.run_folder.fitting_tensors import fitting
from finetune.run_folder.leftovers import delete_path
from zoo.contract import rundir
from zoo.files import checks
from zoo.host import console, disk
from zoo.host.errors import UserError
from zoo.network.weights import Weights, load_state, unpickle

VERSION = 2
"""2: epochs follow each other without a gap, so a step of version 1 saw other pictures; and
`State.tuned`."""
MOST_STEPS = 10**15
DAMAGED = "Remove that checkpoint, or start a new run."
KEPT = 2
"""Checkpoints: the newest, and one more in case a disk damages it."""
STATE = "state.json"
TENSORS = "tensors.pt"
CHECKPOINT = re.compile(r"step-[0-9]{1,15}")
BEST = re.compile(r"best-[0-9]{1,12}\.safetensors")


@dataclass(frozen=True)
class Best:
    """The best weights so far, by top-1 on select, ties by loss."""

    scores: Scores
    step: int
    """0: the probe, before any fine-tuning."""
    file: str
    """Name in `resume/`."""
    sha256: str


@dataclass(frozen=True)
class Tuned:
    """The best fine-tuned epoch so far, whether or not the probe is better."""

    scores: Scores
    step: int
    """At its end."""


@dataclass(frozen=True)
class State:
    """A point to go on from: `step` optimiser steps are done."""

    step: int
    events_position: int
    """Bytes of metrics.jsonl that belong to these steps."""
    best: Best
    tensors: dict[str, Any]
    """State dicts of model, optimizer, scaler and, if the recipe has one, the moving average (ema);
    `losses` of the steps that are not in metrics.jsonl yet."""
    tuned: Tuned | None = None
    """None before the first epoch has ended."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """What the steps were made with: `recipe`, `base`, `classes`, `versions`."""


WRITTEN_AS_JSON = tuple(f.name for f in dataclass_fields(State) if f.name != "tensors")
"""Fields of `State` that stand in state.json."""


def save_checkpoint(folder: Path, state: State) -> None:
    """Write a checkpoint, then delete all but the last two and their best weights. Rank 0 alone
    does so."""
    if not distributed.first():
        return
    place = folder / rundir.RESUME / f"step-{state.step:09d}"
    # under a name that `leftovers.sweep` removes, if this process is killed
    temporary = place.with_name(f"{place.name}.{secrets.token_hex(8)}{disk.UNFINISHED}")
    content = {name: getattr(state, name) for name in WRITTEN_AS_JSON}
    content |= {"best": asdict(state.best), "tuned": state.tuned and asdict(state.tuned)}
    with room_needed(place, needed_bytes=size_bytes(state.tensors)):
        try:
            temporary.mkdir()
            disk.write_whole(temporary / TENSORS, lambda path: _save(state.tensors, path))
            rundir.write_json(temporary / STATE, content)
            # last, as its presence says that the rest is complete
            rundir.write_manifest(temporary, version=VERSION)
            # of the same step: damaged and passed over, or with losses that were looked at since
            delete_path(place)
            temporary.rename(place)
            # a new name is on the disk only when its folder is
            disk.sync_folder(place.parent)
        finally:
            delete_path(temporary)
    # only now that the new one is safe on the disk
    _prune(folder, state.step)


def _save(tensors: dict[str, Any], path: Path) -> None:
    """Call `torch.save` with a file that Python writes."""
    # what torch opens itself fails without the system's reason, such as a full disk
    with open(path, "wb") as file:
        torch.save(tensors, file)


def _prune(folder: Path, newest_step: int) -> None:
    """Delete older checkpoints than the last two, later ones (damaged, they were passed over), and
    unnamed weights."""
    places = checkpoints(folder)
    kept = [place for place in places if _step(place) <= newest_step][:KEPT]
    for place in places:
        if place not in kept:
            delete_path(place)
    named = set()
    for place in kept:
        try:
            named.add(_named_best(place).file)
        except UserError:  # damaged: nothing can go on from it
            continue
    for old in (folder / rundir.RESUME).glob("best-*.safetensors"):
        if old.name not in named:
            old.unlink()


def save_best(folder: Path, model: torch.nn.Module, scores: Scores, step: int) -> Best:
    """Write the weights as a file of their own, on rank 0 alone; it counts once a checkpoint names
    it."""
    path = folder / rundir.RESUME / f"best-{step}.safetensors"
    if distributed.first():
        # safetensors refuses tensors in channels_last memory
        tensors = {name: t.detach().cpu().contiguous() for name, t in model.state_dict().items()}
        write_whole(path, lambda temporary: save_file(tensors, temporary))
    # read back, so that what is on the disk is what counts
    sha256 = distributed.of_first(rundir.digest(path) if distributed.first() else None)
    return Best(scores, step, path.name, sha256)


def checkpoints(folder: Path) -> list[Path]:
    """The folders of the checkpoints, the newest first, whether or not they are intact."""
    places = (folder / rundir.RESUME).glob("step-*")
    whole = [place for place in places if CHECKPOINT.fullmatch(place.name)]
    return sorted(whole, key=_step, reverse=True)


def _step(place: Path) -> int:
    return int(place.name.removeprefix("step-"))


def has_state(folder: Path) -> bool:
    """Whether the run came as far as a checkpoint."""
    return bool(checkpoints(folder))


def load_checkpoint(folder: Path) -> State | None:
    """The newest intact checkpoint, or None if the run had not come that far.

    A damaged one is passed over with a warning; `UserError` if no intact one is left, or if one
    holds code.
    """
    places = checkpoints(folder)
    for place in places:
        try:
            # digests first: nothing of a damaged file is unpickled
            best = _intact(place)
        except UserError as error:
            console.warn(
                f"{error} Passed over: going on from the checkpoint before it, if there is one."
            )
            continue
        return _state(place, best)
    if places:
        raise UserError(
            f"{folder}: {len(places)} checkpoints, all of them damaged: expected one whose sha256 "
            f"is that of its {rundir.FINISHED}. Copy the folder again, or remove it and start "
            "again."
        )
    return None


def _state(place: Path, best: Best) -> State:
    """The state of an intact checkpoint; `UserError` if what it holds has other names or types than
    `save_checkpoint` writes."""
    if rundir.read_json(place / rundir.FINISHED, kind=dict)["version"] != VERSION:
        raise UserError(
            f"{place} was written by an earlier version, whose steps saw other pictures: go on "
            f"with that version, or remove {place.parent} and start the run again."
        )
    content, tensors = rundir.read_json(place / STATE, kind=dict), unpickle(place / TENSORS)
    if not _are_ours(content, tensors):
        raise UserError(_foreign(place))
    with checks.of(place / STATE, DAMAGED):
        tuned = content["tuned"] and Tuned(
            Scores(**content["tuned"]["scores"]),
            checks.whole(content["tuned"]["step"], 1, MOST_STEPS),
        )
    return State(**content | {"best": best, "tuned": tuned or None}, tensors=tensors)


def _are_ours(content: Mapping[str, Any], tensors: Any) -> bool:
    """Whether state.json and tensors.pt have the names and types that `save_checkpoint` writes."""
    # the exact type, because True is an instance of int
    if set(content) != set(WRITTEN_AS_JSON) or type(content["step"]) is not int:
        return False
    if not isinstance(tensors, dict):
        return False
    for key in ("model", "optimizer", "scaler", "ema"):
        if not isinstance(tensors.get(key, {}), dict):
            return False
    losses = tensors.get("losses")
    if losses is None:
        return True
    return bool(isinstance(losses, torch.Tensor) and losses.is_floating_point() and losses.ndim)


def _foreign(place: Path) -> str:
    return (
        f"{place} is not a checkpoint of this program: expected what it writes, seen other names "
        f"or types. Remove {place.parent} and start the run again."
    )


def _intact(place: Path) -> Best:
    """The best weights that a checkpoint names; `UserError` if a byte of it or of them differs, or
    history is cut."""
    rundir.read_manifest(
        place, "checkpoint", again="go on without it", version=VERSION, verify=(STATE, TENSORS)
    )
    best = _named_best(place)
    history = place.parents[1] / rundir.METRICS
    length = history.stat().st_size if history.is_file() else 0
    with checks.of(place / STATE, DAMAGED):
        position = checks.whole(
            rundir.read_json(place / STATE, kind=dict)["events_position"], 0, MOST_STEPS
        )
    # a longer one is cut when the run goes on; a shorter one has lost steps
    if length < position:
        raise UserError(f"{history} is missing or cut off.")
    path = place.parent / best.file
    if not path.is_file() or rundir.digest(path) != best.sha256:
        raise UserError(f"{path} is missing or changed (sha256).")
    return best


def _named_best(place: Path) -> Best:
    with checks.of(place / STATE, DAMAGED):
        best = rundir.read_json(place / STATE, kind=dict)["best"]
        if not isinstance(best["file"], str) or not BEST.fullmatch(best["file"]):
            raise ValueError(
                f"expected a name such as best-90.safetensors, seen {checks.seen(best['file'])}"
            )
        checks.whole(best["step"], 0, MOST_STEPS)
        return Best(**best | {"scores": Scores(**best["scores"])})


def load_best(folder: Path, model: torch.nn.Module, best: Best) -> None:
    """Put the best weights into the model."""
    path = folder / rundir.RESUME / best.file
    with fitting(str(path)):
        model.load_state_dict(
            load_state(Weights(path, "checkpoint", None, best.sha256, None, None), {})
        )
