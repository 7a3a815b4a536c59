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
from finetune.data import dataset, left_out
from finetune.data.class_folders import read_tree
from finetune.data.dataset import Data
from finetune.data.loader import Source, planned_workers, steps_per_epoch
from finetune.machine import device as devices
from finetune.machine import distributed
from finetune.recipe import fitting, resolve
from finetune.recipe.facts import Facts
from finetune.recipe.resolved import Resolved
from finetune.recipe.run import Run
from finetune.run_folder import going_on
from finetune.run_folder.claim import Claim, record
from finetune.train import ddp, lr_range
from finetune.train.initialise import has_zero_gamma, initialise
from finetune.train.schedule import schedule
from zoo.bases import licences
from zoo.bases.catalog import Base
from zoo.contract import rundir
from zoo.files import fields
from zoo.files.same_paths import nfc
from zoo.host import console
from zoo.host.errors import UserError
from zoo.network import weights
from zoo.network.build import Description, build, describe
from zoo.network.trial import Trial
from zoo.picture.preprocess import Preprocessing


@dataclass(frozen=True)
class Plan:
    """One run: its folder, pictures, recipe and model."""

    claim: Claim
    base: Base
    data: Data
    resolved: Resolved
    model: nn.Module
    """On its device; the loop changes its weights."""
    source: Source
    """How evaluation and training read pictures."""

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.claim.folder


CROP_MODES = {"squash": "squash", "crop": "center", "pad": "border"}
"""Recipe.fit -> timm's crop_mode."""


def make_plan(run: Run, claimed: Claim, device: torch.device) -> Plan:
    """Read the data, resolve the recipe, build the model. A run that goes on takes its recipe from
    recipe.json."""
    given = claimed.order.given
    tree = read_tree(claimed.order.data, val=claimed.order.val_folder)
    base = claimed.order.find_base()
    with distributed.first_before_others():
        fetched = weights.RANDOM if resolve.from_scratch(given) else weights.fetch(base)
    base = dataclasses.replace(base, licence=fetched.licence or base.licence)
    if note := licences.licence_note(base):
        console.say(f"licence of {base.alias}: {note}", style="bold red")
    described, trial = describe(base, fetched), Trial(base, fetched)
    fitting.check_given(given, trial, device=device.type)
    limit = bad_limit(run, claimed)
    names = claimed.folder / rundir.LEFT_OUT
    if claimed.goes_on:
        places = [str(place) for place in (claimed.order.data, claimed.order.val_folder) if place]
        console.say(f"pictures: {' and '.join(places)}")
    states = going_on.file_states(tree) if distributed.first() else ""
    scanned = dataset.scan(
        tree,
        processes=devices.cpu_cores(),
        bad_limit=limit,
        names_in=None if distributed.of_first(claimed.same_pictures) else names,
    )
    if claimed.goes_on and (claimed.folder / rundir.RECIPE).is_file():
        with fields.of(claimed.folder / rundir.RECIPE, "Start a new run."):
            resolved = Resolved.from_json(
                rundir.read_json(claimed.folder / rundir.RECIPE, kind=dict)
            )
    else:
        resolved = lr_range.resolved(facts_of(scanned, described, trial, device), given)
    resolved = Resolved.from_json(distributed.of_first(resolved.to_json()))
    data = dataset.split(scanned, resolved.recipe.val)
    per_epoch = steps_per_epoch(len(data.of("train")), resolved.recipe.batch_size)
    # a wrong duration is told now, not after the probe
    schedule(resolved.recipe, steps_per_epoch=per_epoch)
    fitting.check(resolved.recipe, trial, pictures=len(data.of("train")), device=device.type)
    ddp.check_batch(min(len(data.of("train")), resolved.recipe.batch_size), resolved.recipe)
    data = with_recorded_names(claimed, data)
    if distributed.first():
        check_same_data(claimed.folder, data, limit, same=claimed.same_pictures)
        # not before: the pictures may be the wrong ones
        left_out.write_left_out(names, data.unused)
        record(claimed, states)
    for finding in data.findings:
        console.warn(finding)
    if data.unused:
        console.say(left_out.summary(data.unused, names))
    torch.set_num_threads(resolved.recipe.threads)
    seed_everything(resolved.recipe.seed, "head")
    model = build(
        base,
        data.classes,
        image_size=resolved.recipe.image_size,
        drop_path=resolved.recipe.drop_path,
        dropout=resolved.recipe.dropout,
        fetched=fetched,
    )
    if resolved.recipe.from_scratch:
        resolved = with_known_gamma(model, resolved, given)
        initialise(model, resolved.recipe)
    model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    workers = planned_workers(
        devices.decoders(run.workers, device),
        len(data.of("train")),
        resolved.recipe,
        pinned=device.type == "cuda",
    )
    source = Source(data.root, preprocessing(model, resolved), workers, pin=device.type == "cuda")
    return Plan(claimed, base, data, resolved, model, source)


def with_known_gamma(model: nn.Module, resolved: Resolved, given: Mapping[str, Any]) -> Resolved:
    """The recipe without zero gamma where the architecture has none; `UserError` if it was asked
    for by hand."""
    if not resolved.recipe.zero_gamma or has_zero_gamma(model):
        return resolved
    if "zero_gamma" in given:
        raise UserError(
            f"--zero-gamma has no effect: timm names no residual block of {type(model).__name__} "
            "that ends in a batch norm, as those of ResNets do. Remove it."
        )
    return resolved.replace(
        "this architecture has no residual blocks that end in a batch norm", zero_gamma=False
    )


def facts_of(data: Data, base: Description, trial: Trial, device: torch.device) -> Facts:
    """What the recipe depends on."""
    train = [p for p in data.pictures if p.split == "train"]
    has_val = any(p.split == "val" for p in data.pictures)
    return Facts(
        pictures=len(train),
        class_counts=tuple(Counter(p.label for p in train).values()),
        has_val=has_val,
        short_side=dataset.median_short_side(train),
        base=base,
        device=device.type,
        cores=devices.compute_threads(),
        bf16=device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False),
        takes=lambda side: trial.refused(side) is None,
        takes_drop_path=trial.takes_drop_path,
    )


def preprocessing(model: nn.Module, resolved: Resolved) -> Preprocessing:
    """The base's own, at the recipe's size and fit; squash and pad show the whole picture (crop_pct
    1)."""
    own = Preprocessing.from_config(model.pretrained_cfg)  # type: ignore[arg-type]
    mode = CROP_MODES[resolved.recipe.fit]
    return dataclasses.replace(
        own,
        size=resolved.recipe.image_size,
        crop_mode=mode,
        crop_pct=own.crop_pct if mode == "center" else 1.0,
    )


def bad_limit(run: Run, claimed: Claim) -> float:
    """--bad-limit; a run that goes on keeps the one that it began with, if that is larger."""
    known = claimed.folder / rundir.DATA
    if not (claimed.goes_on and known.is_file()):
        return run.bad_limit
    with fields.of(known, "Start a new run."):
        before = rundir.read_json(known, kind=dict).get("bad_limit", run.bad_limit)
        return max(run.bad_limit, fields.number(before, above=-1, below=2))


def with_recorded_names(claimed: Claim, data: Data) -> Data:
    """The data with the classes as the run recorded them, where a copy gave their names another
    Unicode form."""
    recorded = going_on.recorded_classes(claimed.folder) if claimed.same_pictures else None
    recorded = distributed.of_first(recorded)  # only rank 0 knows whether pictures were recorded
    return data if recorded is None else data.with_names(recorded)


def check_same_data(folder: Path, data: Data, limit: float, *, same: bool) -> None:
    """With `same`, the pictures must be those that the folder recorded. Record them."""
    known = folder / rundir.DATA
    content: dict[str, Any] = {
        "classes": data.classes,
        "counts": data.counts(),
        "val": data.val_rule,
        "digest": data.digest(),
        "halved": data.halved(data.of("val")),
        "findings": data.findings,
        "left_out": data.left_out[: left_out.RECORDED],
        "left_out_total": len(data.left_out),
        "bad_limit": limit,
    }
    if same:
        with fields.of(known, "Start a new run."):
            before = rundir.read_json(known, kind=dict)
            trained = fields.mapping(before["counts"]).get("train")
            names, names_before = (
                set(map(nfc, data.classes)),
                set(map(nfc, fields.names(before["classes"]))),
            )
            changed = [
                f"{name} is {'new' if name in names else 'missing'}"
                for name in sorted(names ^ names_before)
            ]
        if changed:
            raise UserError(
                f"the classes of {data.root} changed since this run began: "
                f"{', '.join(changed[:10])}. Restore the folders, or start a new run with another "
                "--out."
            )
        if before.get("digest") != content["digest"]:
            raise UserError(
                f"the pictures of {data.root} changed since this run began (counts then "
                f"{trained}, now {content['counts'].get('train')}): "
                "expected the same bytes. Restore them, or start a new run with another --out."
            )
    rundir.write_json(known, content)
    dataset.write_files_csv(folder / rundir.FILES, data)
