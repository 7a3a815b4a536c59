"""Everything that is decided before the first weight changes."""

import dataclasses
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from finetune.augment.picture import seed_everything
from finetune.data import dataset, held_out, left_out, scanning
from finetune.data.dataset import Data
from finetune.data.loader import PictureSource, planned_workers, steps_per_epoch
from finetune.machine import device as devices
from finetune.machine import distributed
from finetune.presets import fitting, resolve
from finetune.recipe.facts import Facts
from finetune.recipe.fields import Recipe
from finetune.recipe.resolved import Resolved
from finetune.recipe.run import Run
from finetune.run_folder import going_on
from finetune.run_folder.checkpoint import State
from finetune.run_folder.claim import Claim, record
from finetune.run_folder.order import Order
from finetune.run_folder.recorded_data import bad_limit, check_same_data, with_recorded_names
from finetune.train import ddp, lr_range
from finetune.train.distill import Teacher
from finetune.train.initialise import has_zero_gamma, initialise
from finetune.train.schedule import schedule
from zoo.bases import licences
from zoo.bases.catalog import Base
from zoo.contract import rundir
from zoo.files import checks
from zoo.host import console
from zoo.host.errors import UserError
from zoo.network import weights
from zoo.network.build import Description, build_network, describe
from zoo.network.trial import Trial
from zoo.picture.preprocess import Preprocessing


@dataclass(frozen=True)
class Plan:
    """A run that is prepared: its folder, order, pictures, recipe and model."""

    folder: Path
    """The run folder."""
    order: Order
    """What the command line asked for."""
    base: Base
    data: Data
    resolved: Resolved
    model: nn.Module
    """On its device; the loop changes its weights."""
    source: PictureSource
    """How evaluation and training read pictures."""


@dataclass(frozen=True)
class Ready:
    """A plan after its linear probe and its range test, when its recipe is complete, with the state
    from which training begins."""

    plan: Plan
    state: State
    """The last checkpoint of a run that goes on, or else the state before the first step."""
    teacher: Teacher | None


CROP_MODES = {"squash": "squash", "crop": "center", "pad": "border"}
"""`Recipe.fit` -> timm's crop_mode."""


def make_plan(run: Run, order: Order, claimed: Claim, device: torch.device) -> Plan:
    """Read the data, resolve the recipe, and build the model.

    A run that goes on takes its recipe from recipe.json.
    """
    tree = order.source.listing()
    base, fetched = fetched_base(order)
    described, trial = describe(base, fetched), Trial(base, fetched)
    resolve.check_sides(order.given, described)
    fitting.check_given(order.given, trial, device=device.type)
    limit = bad_limit(run, claimed)
    if claimed.goes_on:
        places = [str(place) for place in (order.data, *order.more, order.val_folder) if place]
        console.say(f"pictures: {' and '.join(places)}")
    # before the pictures are read: one that changes in the meantime differs from this note, and is
    # read again when the run goes on
    states = going_on.file_states(tree) if distributed.first() else ""
    names = claimed.folder / rundir.LEFT_OUT
    scanned = scanning.scan(
        tree,
        processes=devices.cpu_cores(),
        bad_limit=limit,
        names_in=None if distributed.of_first(claimed.same_pictures) else names,
    )
    resolved = recorded_recipe(claimed)
    if resolved is None:
        facts = facts_of(scanned, described, trial, device)
        resolved = lr_range.resolved(facts, order.given)
    resolved = Resolved.from_json(distributed.of_first(resolved.to_json()))
    data = held_out.split(scanned, resolved.recipe.val)
    check_steps(resolved.recipe, trial, len(data.of("train")), device)
    data = with_recorded_names(claimed, data)
    if distributed.first():
        check_same_data(claimed.folder, data, limit, same=claimed.same_pictures)
        # only after that check: a list of the wrong pictures must not replace the recorded one
        left_out.write_left_out(names, data.unused)
        record(claimed.folder, order, states, data.root)
    say_findings(data, names)
    torch.set_num_threads(resolved.recipe.threads)
    model, resolved = first_model(base, fetched, data, resolved, order.given)
    model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    source = source_of(data, preprocessing(model, resolved), run, resolved.recipe, device)
    return Plan(claimed.folder, order, base, data, resolved, model, source)


def fetched_base(order: Order) -> tuple[Base, weights.Weights]:
    """Fetch the weights of the base. Gives the base, with the licence that the files name, and the
    weights.

    A run from scratch gets random weights.
    """
    base = order.find_base()
    with distributed.first_before_others():
        random = resolve.from_scratch(order.given)
        fetched = weights.RANDOM if random else weights.fetch(base)
    base = dataclasses.replace(base, licence=fetched.licence or base.licence)
    if note := licences.licence_note(base):
        console.say(f"licence of {base.alias}: {note}", style="bold red")
    return base, fetched


def recorded_recipe(claimed: Claim) -> Resolved | None:
    """Read the recipe of a run that goes on; None if it did not come that far."""
    path = claimed.folder / rundir.RECIPE
    if not (claimed.goes_on and path.is_file()):
        return None
    with checks.of(path, "Start a new run."):
        return Resolved.from_json(rundir.read_json(path, kind=dict))


def check_steps(recipe: Recipe, trial: Trial, pictures: int, device: torch.device) -> None:
    """Raise `UserError` for a duration beyond the end of the run, and for a batch that the network
    or the processes cannot take.

    Both depend on the number of training pictures. They are checked here, because an error after
    the probe would come minutes later.
    """
    per_epoch = steps_per_epoch(pictures, recipe.batch_size)
    schedule(recipe, steps_per_epoch=per_epoch)
    fitting.check_trainable(recipe, trial, pictures=pictures, device=device.type)
    step = min(pictures, recipe.batch_size)
    ddp.check_batch(step, recipe, processes=distributed.world())


def say_findings(data: Data, names: Path) -> None:
    """Warn of what was found in the pictures, and say how many were left out; the file `names`
    lists them."""
    for finding in data.findings:
        console.warn(finding)
    if data.unused:
        console.say(left_out.summary(data.unused, names))


def first_model(
    base: Base,
    fetched: weights.Weights,
    data: Data,
    resolved: Resolved,
    given: Mapping[str, Any],
) -> tuple[nn.Module, Resolved]:
    """Build the model before any training, and take out of the recipe what its architecture does
    not have."""
    recipe = resolved.recipe
    seed_everything(recipe.seed, "head")
    model = build_network(
        base,
        data.classes,
        image_size=recipe.image_size,
        drop_path=recipe.drop_path,
        dropout=recipe.dropout,
        fetched=fetched,
        cifar_stem=recipe.stem == "cifar",
    )
    if recipe.from_scratch:
        resolved = with_known_gamma(model, resolved, given)
        initialise(model, resolved.recipe)
    return model, resolved


def source_of(
    data: Data, pre: Preprocessing, run: Run, recipe: Recipe, device: torch.device
) -> PictureSource:
    """Decide how pictures are read, and in how many processes: as many as shared memory has room
    for."""
    on_gpu = device.type == "cuda"
    wanted = devices.decoders(run.workers, device)
    workers = planned_workers(wanted, len(data.of("train")), recipe, pinned=on_gpu)
    return PictureSource(data.root, pre, workers, pin=on_gpu)


def with_known_gamma(model: nn.Module, resolved: Resolved, given: Mapping[str, Any]) -> Resolved:
    """Turn zero gamma off where the architecture has no residual blocks for it; `UserError` if it
    was asked for by hand."""
    if not resolved.recipe.zero_gamma or has_zero_gamma(model):
        return resolved
    if "zero_gamma" in given:
        raise UserError(
            f"--zero-gamma has no effect: timm names no residual block of {type(model).__name__} "
            "that ends in a batch norm, as those of ResNets do. Remove --zero-gamma."
        )
    return resolved.replace(
        "this architecture has no residual blocks that end in a batch norm", zero_gamma=False
    )


def facts_of(data: Data, base: Description, trial: Trial, device: torch.device) -> Facts:
    """Gather the facts that the recipe depends on."""
    train = data.of("train")
    return Facts(
        pictures=len(train),
        class_counts=tuple(Counter(train.labels.tolist()).values()),
        has_val=len(data.of("val")) > 0,
        short_side=dataset.median_short_side(train),
        base=base,
        device=device.type,
        cores=devices.compute_threads(),
        processes=distributed.world(),
        bf16=device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False),
        takes=lambda side: trial.refused(side) is None,
        takes_drop_path=trial.takes_drop_path,
    )


def preprocessing(model: nn.Module, resolved: Resolved) -> Preprocessing:
    """Give the base's own preprocessing at the recipe's size and fit.

    squash and pad show the whole picture, so their crop_pct is 1.
    """
    own = Preprocessing.from_config(model.pretrained_cfg)  # type: ignore[arg-type]
    mode = CROP_MODES[resolved.recipe.fit]
    crop_pct = own.crop_pct if mode == "center" else 1.0
    size = resolved.recipe.image_size
    return dataclasses.replace(own, size=size, crop_mode=mode, crop_pct=crop_pct)
