"""What the steps of a checkpoint were made with, and whether a run that goes on is made with the
same."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch

from finetune.recipe.fields import Recipe, with_later_fields
from finetune.run_folder.checkpoint import State
from zoo.contract import rundir
from zoo.host import console
from zoo.host.errors import UserError

ABOUT = {"recipe": dict, "base": str, "classes": list, "versions": dict}
"""Key of `State.about` -> its type."""


def about(recipe: Recipe, base: str, classes: Sequence[str]) -> dict[str, Any]:
    """What the steps of this run are made with, for `State.about`; plain values, as JSON gives them
    back."""
    import timm

    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "timm": timm.__version__,
    }
    return {"recipe": asdict(recipe), "base": base, "classes": list(classes), "versions": versions}


def _settings(about: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe's values, base and classes, by name."""
    settings = with_later_fields(about["recipe"])
    return settings | {"base": about["base"], "classes": about["classes"]}


def _checked_about(state: State) -> Mapping[str, Any]:
    """What a checkpoint was made with; `UserError` where it does not say so."""
    then = state.about
    # a checkpoint may come from a stranger
    if isinstance(then, dict) and all(map(isinstance, map(then.get, ABOUT), ABOUT.values())):
        return then
    raise UserError(
        f"the checkpoint of step {state.step} does not say what it was made with: expected "
        f"{', '.join(ABOUT)}. Remove the folder {rundir.RESUME} and start the run again."
    )


def check_same(state: State, now: Mapping[str, Any]) -> None:
    """Raise `UserError` naming the first setting in which `now` differs from what the checkpoint
    was made with.

    Other versions of a library are a warning: the run goes on, with other bits than it would have
    had.
    """
    then = _checked_about(state)
    mine, theirs = _settings(now), _settings(then)
    for name in mine | theirs:
        if mine.get(name) != theirs.get(name):
            raise UserError(
                f"{name} is {mine.get(name, 'not there')}, but the checkpoint of step {state.step} "
                f"was made with {theirs.get(name, 'none')}: put it back, or start a new run with "
                "another --out."
            )
    if changed := [
        f"{name} {version} -> {now['versions'].get(name)}"
        for name, version in then["versions"].items()
        if version != now["versions"].get(name)
    ]:
        console.warn(
            f"{', '.join(changed)} since this run began: it goes on, but not with the same bits"
        )
