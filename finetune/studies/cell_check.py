"""Looks at all runs of a comparison before the first one is trained, so that a setting that the
last would be refused for is an error now.

Pictures are read once for all of them.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from finetune.data import held_out, scanning
from finetune.data.dataset import Data
from finetune.machine import device as devices
from finetune.machine import distributed
from finetune.plan import check_steps, facts_of, fetched_base
from finetune.presets import fitting, resolve
from finetune.recipe.run import Run
from finetune.run_folder.claim import check_free
from finetune.run_folder.named_folders import readable_folder
from finetune.run_folder.order import Order, find_start, new_order
from finetune.train import lr_range
from zoo.contract import rundir
from zoo.host.errors import UserError
from zoo.network.build import Description, describe
from zoo.network.trial import Trial

Asked = tuple[str, Run, Mapping[str, Any]]
"""Label of a run, where it happens, and its settings by hand."""


@contextmanager
def labelled(label: str) -> Iterator[None]:
    """Put the label of a run before the words of an error inside."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{label}: {error}") from None


def check_all(runs: Sequence[Asked]) -> None:
    """Raise `UserError`, with its label, for the first run that would be refused."""
    for label, run, given in runs:
        with labelled(label):
            resolve.check_given(lr_range.without_find(given))
            find_start(run.base, given)
    unfinished = []
    # tars are unpacked by one process, before the others look for their pictures
    with distributed.first_before_others():
        for name in runs[0][1].data:
            readable_folder(name)
        for label, run, given in runs:
            with labelled(label):
                order = new_order(run, given)
                check_free(run.folder, order)
            if not rundir.is_finished(run.folder):
                unfinished.append((label, order))
    if unfinished:
        _check_recipes(unfinished, runs[0][1])


def _check_recipes(unfinished: Sequence[tuple[str, Order]], place: Run) -> None:
    """Resolve the recipe of each run by the facts that it will have; `place`: one of the runs,
    which all have the same device and pictures."""
    device = devices.choose(place.device)
    scanned: dict[Path | None, Data] = {}
    bases: dict[tuple[str, bool], tuple[Description, Trial]] = {}
    for label, order in unfinished:
        if order.val_folder not in scanned:
            tree = order.source.listing()
            scanned[order.val_folder] = scanning.scan(
                tree, processes=devices.cpu_cores(), bad_limit=place.bad_limit
            )
        start = (order.base, resolve.from_scratch(order.given))
        if start not in bases:
            base, fetched = fetched_base(order)
            bases[start] = (describe(base, fetched), Trial(base, fetched))
        with labelled(label):
            _check_recipe(order, scanned[order.val_folder], *bases[start], device)


def _check_recipe(
    order: Order, data: Data, described: Description, trial: Trial, device: torch.device
) -> None:
    resolve.check_sides(order.given, described)
    fitting.check_given(order.given, trial, device=device.type)
    resolved = lr_range.resolved(facts_of(data, described, trial, device), order.given)
    trained_on = held_out.split(data, resolved.recipe.val).of("train")
    check_steps(resolved.recipe, trial, len(trained_on), device)
