"""Loads the teacher of a recipe: a finished run of the same classes, or a base whose head is fitted
as a linear probe."""

import dataclasses
from collections.abc import Sequence

import torch
from torch import nn

from finetune.data.dataset import Data
from finetune.data.loader import PictureSource
from finetune.machine import distributed
from finetune.recipe.fields import Recipe
from finetune.train import probe
from finetune.train.distill import Teacher
from zoo.bases import catalog
from zoo.bases.catalog import Base
from zoo.contract import rundir
from zoo.host import console
from zoo.host.errors import UserError
from zoo.network import weights
from zoo.network.build import build_network, describe, load_network
from zoo.network.forward import head
from zoo.picture.preprocess import Preprocessing


def teacher_of(
    recipe: Recipe, named: str, data: Data, source: PictureSource, device: torch.device
) -> Teacher | None:
    """The teacher of a recipe, on the device, in evaluation mode; None for a recipe without one.

    `named`: the teacher as the command line gives it, which may be the path of a run folder; the
    recipe keeps only the last part of that path.

    Raises `UserError` for a run of other classes, and for a base without a single linear head.
    """
    if not recipe.teacher:
        return None
    base = catalog.find_base(named)
    if base.folder:
        model, pre = _finished_run(base, data.classes)
        fixed = False
    else:
        model, pre, fixed = _probed(base, recipe, data, source, device)
    # position embeddings belong to one size
    fixed = fixed or hasattr(model, "patch_embed")
    return Teacher(model.to(device).requires_grad_(False).eval(), pre, source.pre, fixed)


def _probed(
    base: Base, recipe: Recipe, data: Data, source: PictureSource, device: torch.device
) -> tuple[nn.Module, Preprocessing, bool]:
    """Give a base with a fitted head, its preprocessing, and whether it takes one size only."""
    # one process downloads, and the others find the file
    with distributed.first_before_others():
        fetched = weights.fetch(base)
    fixed = describe(base, fetched).size_step is None
    # at the student's size where it can, so that no picture is resized a second time
    side = None if fixed else recipe.image_size
    model = build_network(base, data.classes, fetched=fetched, image_size=side)
    own = Preprocessing.from_config(model.pretrained_cfg)  # type: ignore[arg-type]
    pre = dataclasses.replace(source.pre, size=side or own.size, mean=own.mean, std=own.std)
    model = _with_head(model.to(device), base, data, dataclasses.replace(source, pre=pre))
    return model, pre, fixed


def _finished_run(base: Base, classes: Sequence[str]) -> tuple[nn.Module, Preprocessing]:
    """Give the model of a run folder and its preprocessing."""
    assert base.folder
    rundir.open_finished(base.folder)
    config = rundir.read_json(base.folder / rundir.CONFIG, kind=dict)
    labels = rundir.label_names(base.folder)
    # in the same order, because logits are compared by position
    if list(labels) != list(classes):
        raise UserError(
            f"--teacher {base.folder}: expected a run of the classes {', '.join(classes[:10])}, "
            f"seen {', '.join(labels[:10])}. Train the teacher on the same data, or name a base."
        )
    return load_network(base.folder), Preprocessing.from_config(config.get("pretrained_cfg"))


def _with_head(model: nn.Module, base: Base, data: Data, source: PictureSource) -> nn.Module:
    """Give the base with a head that is fitted to the training pictures, as a linear probe."""
    if head(model) is None:
        raise UserError(
            f"--teacher {base.alias} has no single linear head to fit: choose another base, or "
            "fine-tune it first and name its run folder."
        )
    probe.fit_head(model, data.of("train"), source, classes=len(data.classes), precision="fp32")
    console.say(f"teacher: {base.alias}, its head fitted to the training pictures")
    return model
