"""Pictures that a network cannot take: refused with the flags that mean them, where it can be told
before the data."""

from collections.abc import Mapping
from typing import Any, NoReturn

from finetune.machine import distributed
from finetune.presets.resolve import from_scratch
from finetune.recipe.fields import Recipe
from zoo.host.errors import UserError
from zoo.network import of_torch
from zoo.network.trial import Trial


def check_given(given: Mapping[str, Any], trial: Trial, *, device: str) -> None:
    """`UserError` for what was set by hand and the network cannot take, whatever the data is."""
    side, start_side = given.get("image_size"), given.get("start_size")
    if side:
        _check_side("image_size", side, trial, built_for=side)
    if start_side and (side or not trial.one_size):
        _check_side("start_size", start_side, trial, built_for=side)
    trains = from_scratch(given) or given.get("batch_norm") == "train"
    if trains and side and "batch_size" in given:
        _check_part(
            given["batch_size"],
            given.get("accumulate", 1),
            side,
            trial,
            device=device,
            random=from_scratch(given),
        )


def check_trainable(recipe: Recipe, trial: Trial, *, pictures: int, device: str) -> None:
    """`UserError` for a recipe that the network cannot be trained with; `pictures`: in train."""
    for name, side in (("image_size", recipe.image_size), ("start_size", recipe.start_size)):
        if side:
            _check_side(name, side, trial, built_for=recipe.image_size)
            if recipe.batch_norm == "train" and not recipe.probe_only:
                _check_part(
                    min(recipe.batch_size, pictures),
                    recipe.accumulate,
                    side,
                    trial,
                    device=device,
                    random=recipe.from_scratch,
                )


def smallest_part(batch: int, accumulate: int, *, device: str) -> int:
    """Pictures over which a batch norm takes its statistics, at least. Between GPUs they are taken
    over all processes (SyncBatchNorm)."""
    share = max(1, batch // distributed.world())
    part = share // min(accumulate, share)
    if device == "cuda":
        return part * distributed.world()
    return part


def _check_side(name: str, side: int, trial: Trial, *, built_for: int | None) -> None:
    reason = trial.refused(side, built_for=built_for)
    if not reason:
        return
    taken = "other sides"
    if trial.one_size and side != built_for:
        taken = f"pictures of one size only, {built_for} px"
    raise UserError(
        f"--{name.replace('_', '-')} {side}: this network takes {taken} ({reason}). Choose "
        "another side, or run without this flag."
    )


def _check_part(
    batch: int, accumulate: int, side: int, trial: Trial, *, device: str, random: bool
) -> None:
    if smallest_part(batch, accumulate, device=device) > 1:
        return
    reason = trial.refused(side, pictures=1)
    if reason and of_torch.is_lack_of_variance(reason):
        _refuse_part(batch, accumulate, side, random=random)


def _refuse_part(batch: int, accumulate: int, side: int, *, random: bool) -> NoReturn:
    setting, ways = f"--batch-size {batch}", ["a larger --batch-size"]
    if accumulate > 1:
        setting += f" --accumulate {accumulate}"
        ways.append("a smaller --accumulate")
    if distributed.world() > 1:
        setting += f" in {distributed.world()} processes"
    if not random:
        ways.append("--batch-norm frozen")
    raise UserError(
        f"{setting} passes one picture at a time, and at {side} px a "
        "batch norm of this network then has one value a channel, which has no variance: expected "
        f"two pictures or more at a time. Choose {' or '.join(ways)}."
    )
