"""The order of events of `python -m finetune.check`: what a run would do before it trains, then the
checks, then their page. It never writes to the data."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from finetune import pipeline, plan
from finetune.check_page import PAGE, page
from finetune.checks import label_errors, packages
from finetune.checks.near_duplicates import write_pairs
from finetune.checks.run_time import RunTime, estimated
from finetune.checks.survey import Survey, survey
from finetune.data import held_out, scanning
from finetune.machine import device as devices
from finetune.plan import Plan
from finetune.presets import fitting, resolve
from finetune.recipe.run import Run
from finetune.run_folder.named_folders import readable_folder
from finetune.run_folder.order import new_order
from finetune.train import lr_range
from zoo.contract import rundir
from zoo.host import console, minimum
from zoo.host.errors import UserError
from zoo.network.build import describe
from zoo.network.trial import Trial

JSON = "check.json"
PAIRS = "near_duplicates.csv"
VERSION = 1


def inspect(run: Run, given: Mapping[str, Any]) -> Path:
    """Check the data of a run, and give the folder with `check.html`, `check.json` and their
    tables.

    Raises `UserError` for what would stop the run, and for a package of the extra `check` that is
    missing.
    """
    minimum.require(*minimum.TRAIN)
    packages.require(*packages.EXTRA)
    resolve.check_given(lr_range.without_find(given))
    device = devices.choose(run.device)
    planned = planned_run(run, given, device)
    say_plan(planned)
    result = survey(
        planned.model,
        planned.data,
        planned.source,
        precision=planned.resolved.recipe.features,
        processes=devices.cpu_cores(),
    )
    time = estimated(
        pipeline.loop_job(planned, None),
        evaluated=len(planned.data.of("select")),
        pictures_per_s=result.pictures_per_s,
    )
    console.say(f"expected: {time.minutes:.1f} minutes. {time.how}")
    write_check(planned, result, time)
    say_findings(planned.folder, result)
    return planned.folder


def planned_run(run: Run, given: Mapping[str, Any], device: torch.device) -> Plan:
    """Read the data and resolve the recipe as `plan.make_plan` does, without a run folder."""
    order = new_order(run, given)
    for place in (order.data, *order.more):
        check_out(run.folder, place)
    for name in run.data:
        readable_folder(name, coarse=order.options.coarse)
    tree = order.source.listing()
    base, fetched = plan.fetched_base(order)
    described, trial = describe(base, fetched), Trial(base, fetched)
    resolve.check_sides(order.given, described)
    fitting.check_given(order.given, trial, device=device.type)
    run.folder.mkdir(parents=True, exist_ok=True)
    names = run.folder / rundir.LEFT_OUT
    scanned = scanning.scan(
        tree, processes=devices.cpu_cores(), bad_limit=run.bad_limit, names_in=names
    )
    facts = plan.facts_of(scanned, described, trial, device)
    resolved = lr_range.resolved(facts, order.given)
    data = held_out.split(scanned, resolved.recipe.val)
    plan.check_steps(resolved.recipe, trial, len(data.of("train")), device)
    plan.say_findings(data, names)
    torch.set_num_threads(resolved.recipe.threads)
    model, resolved = plan.first_model(base, fetched, data, resolved, order.given)
    model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    pre = plan.preprocessing(model, resolved)
    source = plan.source_of(data, pre, run, resolved.recipe, device)
    return Plan(run.folder, order, base, data, resolved, model, source)


def check_out(folder: Path, data: Path) -> None:
    """Raise `UserError` if the results would go into the data, or among files of something else."""
    if folder.resolve().is_relative_to(data.resolve()):
        raise UserError(
            f"--out {folder} lies in the data {data}, which a check never changes: choose a folder "
            "elsewhere."
        )
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UserError(f"--out {folder} is a file: expected a new folder's name.")
    own = {PAGE, JSON, PAIRS, label_errors.FILE, rundir.LEFT_OUT}
    others = sorted({path.name for path in folder.iterdir()} - own)
    if others:
        raise UserError(
            f"--out {folder} holds something else (for example {others[0]}): expected a new "
            "folder or that of an earlier check. Choose another --out."
        )


def say_plan(planned: Plan) -> None:
    """Print the pictures of each split, and the recipe."""
    data = planned.data
    for split, counts in data.counts().items():
        console.say(f"{split:<6} {sum(counts.values()):>9,} pictures of {len(counts):,} classes")
    console.say(f"val: {data.val_rule}")
    pipeline.print_recipe(planned.resolved, all_in=JSON)


def write_check(planned: Plan, result: Survey, time: RunTime) -> None:
    """Write the tables, `check.json` and, last, `check.html`."""
    folder, data = planned.folder, planned.data
    label_errors.write(folder / label_errors.FILE, data, result.suspects)
    write_pairs(folder / PAIRS, data, result.pairs)
    rundir.write_json(folder / JSON, to_json(planned, result, time))
    rundir.write_text(folder / PAGE, page(planned, result, time))


def to_json(planned: Plan, result: Survey, time: RunTime) -> dict[str, Any]:
    """Give everything that was found, for programs."""
    data = planned.data
    return {
        "version": VERSION,
        "data": str(planned.order.data),
        "digest": data.digest(),
        "base": planned.base.alias,
        "val": data.val_rule,
        "pictures": data.counts(),
        "recipe": planned.resolved.to_json(),
        "expected": {"minutes": round(time.minutes, 2), "how": time.how},
        "checks": {found.key: found.to_json(data) for found in result.findings},
    }


def say_findings(folder: Path, result: Survey) -> None:
    """Print a line for each check, and where to read more."""
    console.table(
        [
            console.Column("check"),
            console.Column("found", right=True),
            console.Column("what to do"),
        ],
        [(found.title, f"{found.count:,}", found.action) for found in result.findings],
    )
    console.say(f"page: {folder / PAGE}", style="bold green")
