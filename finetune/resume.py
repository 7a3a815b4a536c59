"""Exact resume: what is needed to go on after a SIGKILL and end with the same bits.

Randomness is a function of (seed, epoch, index) and (seed, step), so no generator state is kept: only weights, their
moving average, optimiser, loss scale, the step, and the best weights so far. Everything is written beside the old file
and renamed.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from finetune import ranks
from finetune.evaluate import Scores
from zoo import rundir
from zoo.errors import UserError

STATE = "state.pt"


@dataclass(frozen=True)
class Best:
    """The best weights so far, by top-1 on select, ties by loss."""

    scores: Scores
    step: int
    """0: the probe, before any fine-tuning."""
    file: str
    """Name in `resume/`."""


@dataclass(frozen=True)
class State:
    """A point to go on from: `step` optimiser steps are done."""

    step: int
    events_position: int
    best: Best
    tensors: dict[str, Any]
    """State dicts of model, optimizer, scaler and, if the recipe has one, the moving average (ema)."""


def save(folder: Path, state: State) -> None:
    """Replace `resume/state.pt`, then delete best weights that it no longer names. Rank 0 alone writes."""
    if not ranks.first():
        return
    resume = folder / rundir.RESUME
    content = {**asdict(state), "best": asdict(state.best), "tensors": state.tensors}
    write_whole(resume / STATE, lambda path: torch.save(content, path))
    for old in resume.glob("best-*.safetensors"):
        if old.name != state.best.file:
            old.unlink()


def save_best(folder: Path, model: torch.nn.Module, scores: Scores, step: int) -> Best:
    """Write the weights as a file of their own; it counts once a saved state names it. Rank 0 alone writes."""
    best = Best(scores, step, f"best-{step}.safetensors")
    if ranks.first():
        tensors = {name: t.detach().cpu().contiguous() for name, t in model.state_dict().items()}
        write_whole(folder / rundir.RESUME / best.file, lambda path: save_file(tensors, path))
    return best


def has_state(folder: Path) -> bool:
    """Whether the run came as far as a saved state."""
    return (folder / rundir.RESUME / STATE).is_file()


def load(folder: Path) -> State | None:
    """The saved state, or None if the run had not come that far."""
    if not has_state(folder):
        return None
    content = torch.load(folder / rundir.RESUME / STATE, map_location="cpu", weights_only=True)
    best = content.pop("best")
    return State(**content, best=Best(**best | {"scores": Scores(**best["scores"])}))


def load_best(folder: Path, model: torch.nn.Module, best: Best) -> None:
    """Put the best weights into the model."""
    model.load_state_dict(load_file(folder / rundir.RESUME / best.file))


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """`rundir.write_whole`, with a `UserError` where no space is left."""
    with space_told(path):
        rundir.write_whole(path, write)


@contextmanager
def space_told(path: Path) -> Iterator[None]:
    """Turn "no space left", as Python, torch.save or safetensors say it, into a `UserError`; nothing else."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        # torch.save says "enforce fail ... unexpected pos" on a full disk, safetensors wraps the system's words
        words = ("No space left", "File too large", "Disk quota", "unexpected pos", "PytorchStreamWriter")
        if not any(word in str(error) for word in words):
            raise
        raise UserError(f"no space left to write {path}: free some (the last saved state is still there), then run the "
                        "same command again and it goes on.") from None
