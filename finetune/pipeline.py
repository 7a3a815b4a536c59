"""The order of events of one run: read the pictures, choose the recipe, fit the linear probe,
train, write the finished folder."""

import dataclasses
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import nn

from finetune import write_run
from finetune.evaluation import passes
from finetune.machine import device as devices
from finetune.machine import disk_space, distributed, shared_memory, signals
from finetune.plan import Plan, Ready, make_plan
from finetune.presets import resolve
from finetune.recipe.resolved import Resolved
from finetune.recipe.row import NOT_MEASURED
from finetune.recipe.run import Run
from finetune.run_folder import checkpoint, made_with
from finetune.run_folder.claim import Claim, claim, held
from finetune.run_folder.events import Events
from finetune.run_folder.recorded_data import check_unchanged
from finetune.train import loop, lr_range, probe
from finetune.train.distill import Teacher
from finetune.train.teacher import teacher_of
from zoo.contract import recipe_rows, rundir
from zoo.host import console, minimum
from zoo.host.errors import UserError, first_line
from zoo.host.text import shell_path
from zoo.network import of_torch
from zoo.network.forward import head

TRAINING_SCORED = 256
"""Training pictures that the network answers once more when the run ends, which takes seconds."""


def start(run: Run, given: Mapping[str, Any]) -> None:
    """Carry out one run, or go on with it, in as many processes as torchrun started.

    `given` holds the settings of the recipe that the user gave by hand. Raises `UserError` for
    everything the user can put right.
    """
    with distributed.joined_processes():
        carry_out(run, given)


def carry_out(run: Run, given: Mapping[str, Any]) -> None:
    """Do the work of `start` in one of its processes."""
    began = perf_counter()
    device, claimed = claim_checked(run, given)
    if claimed.finished:
        if distributed.first():
            # an earlier process may have been killed between its last file and this removal
            shutil.rmtree(claimed.folder / rundir.RESUME, ignore_errors=True)
        if run.data or claimed.order.source.is_there():
            # in every process, as they read the pictures together
            check_unchanged(claimed)
        console.say(f"{claimed.folder} is already finished: nothing to do.")
        return write_run.next_commands(claimed.folder)
    with working_on(claimed, device):
        ready = make_ready(make_plan(run, claimed.order, claimed, device))
        best = fine_tune(ready)
        seconds = perf_counter() - began
        write_run.write_run(ready.plan, best, lock=claimed.lock, seconds=seconds)


def prepare_run(run: Run, given: Mapping[str, Any]) -> Path:
    """Do everything that `start` does before its first training step: recipe, probe and range test.

    Gives the run folder, in which a later `start` goes on from there.
    """
    device, claimed = claim_checked(run, given)
    if not claimed.finished:
        with working_on(claimed, device):
            make_ready(make_plan(run, claimed.order, claimed, device))
    return claimed.folder


def claim_checked(run: Run, given: Mapping[str, Any]) -> tuple[torch.device, Claim]:
    """Choose the device and claim the folder of a run, after every check that does not need the
    data."""
    minimum.require(*minimum.TRAIN)
    device = devices.choose(run.device)
    resolve.check_given(lr_range.without_find(given))
    return device, claim(run, given)


@contextmanager
def working_on(claimed: Claim, device: torch.device) -> Iterator[None]:
    """Inside, a full disk or memory becomes a `UserError`, and Ctrl-C prints the command that goes
    on. The folder is released at the end."""
    try:
        with (
            # outermost: it looks at errors that the others have explained already
            held(claimed),
            disk_space.room_needed(claimed.folder),
            shared_memory.lost_batches_explained(),
            signals.raised(),
        ):
            yield
    except RuntimeError as error:
        if not of_torch.is_out_of_memory(error):
            raise
        raise UserError(
            f"{device} is out of memory ({str(error).splitlines()[0]}): start again with a smaller "
            "--batch-size or --image-size."
        ) from None
    except (KeyboardInterrupt, signals.Stopped):
        console.say(f"stopped; to go on: {going_on_command(claimed)}")
        raise
    except BrokenProcessPool:
        raise UserError(
            "a process that reads the pictures died. The system kills a process when memory runs "
            "out: give the machine or the container more memory, and start again."
        ) from None


def going_on_command(claimed: Claim) -> str:
    """Give the command that goes on with a run.

    It names the pictures if the run stopped before it recorded them.
    """
    command = f"python -m finetune --resume {shell_path(claimed.folder)}"
    if (claimed.folder / rundir.DATA).is_file():
        return command
    places = (claimed.order.data, *claimed.order.more)
    return " ".join([command, *(f"--data {shell_path(place)}" for place in places)])


def make_ready(plan: Plan) -> Ready:
    """Load the saved state of a run that goes on, or make the first one by probe and range test."""
    # before the probe, which may take minutes: a teacher that cannot be used is an error at once
    teacher = _teacher(plan)
    state = checkpoint.load_checkpoint(plan.folder)
    if state is None:
        return first_state(plan, teacher)
    made_with.check_same(state, provenance(plan))
    console.say(
        f"going on after step {state.step}, best so far {state.best.scores.top1:.2%} on select"
    )
    return Ready(plan, state, teacher)


def fine_tune(ready: Ready) -> checkpoint.Best:
    """Train, and give the best weights; with `probe_only` these are the probe's."""
    recipe = ready.plan.resolved.recipe
    if recipe.probe_only:
        return ready.state.best
    try:
        return loop.train(loop_job(ready.plan, ready.teacher), ready.state)
    except RuntimeError as error:
        if recipe.compile == "on" and of_torch.is_failed_compilation(error):
            raise UserError(
                f"--compile on: torch could not compile this network here ({first_line(error)}). "
                "Install a C++ compiler (g++), or remove --compile."
            ) from None
        raise


def _teacher(plan: Plan) -> Teacher | None:
    """Load the teacher of the recipe, if it has one."""
    recipe = plan.resolved.recipe
    # of a teacher that is a run folder, the order has the whole path, the recipe only the name
    name = plan.order.given.get("teacher", recipe.teacher)
    return teacher_of(recipe, name, plan.data, plan.source, next(plan.model.parameters()).device)


def loop_job(plan: Plan, teacher: Teacher | None) -> loop.Job:
    """Gather what the training loop works on."""
    return loop.Job(
        plan.model,
        plan.data.of("train"),
        plan.source,
        plan.resolved.recipe,
        plan.folder,
        lambda model: select_scores(plan, model),
        teacher,
        lambda model: passes.scores_on(
            model, passes.first_by_digest(plan.data.of("train"), TRAINING_SCORED), plan.source
        ),
    )


def first_state(plan: Plan, teacher: Teacher | None) -> Ready:
    """Make the state before the first step: the base with the probe's head, or with a random one,
    and its scores on select."""
    disk_space.check_space(plan.folder, space_bytes(plan))
    with closing(Events(plan.folder)) as events:
        if plan.resolved.recipe.probe == "on":
            plan = dataclasses.replace(plan, resolved=probe_head(plan, events))
        if plan.order.given.get("lr") == lr_range.FIND:
            resolved = lr_range.find_rate(loop_job(plan, teacher), plan.resolved, events)
            plan = dataclasses.replace(plan, resolved=resolved)
        print_recipe(plan.resolved)
        write_recipe(plan.folder, plan.resolved)
        scores = select_scores(plan, plan.model)
        events.write(0, **scores.events())
        position = events.position()
    if plan.resolved.recipe.probe == "on":
        console.say(
            f"linear probe: top-1 {scores.top1:.2%} on {scores.pictures} select pictures; the run "
            "keeps at least this",
            style="bold",
        )
    # the best weights first, as the checkpoint names their file
    best = checkpoint.save_best(plan.folder, plan.model, scores, 0)
    tensors = {"model": plan.model.state_dict()}
    state = checkpoint.State(0, position, best, tensors, about=provenance(plan))
    checkpoint.save_checkpoint(plan.folder, state)
    return Ready(plan, state, teacher)


def space_bytes(plan: Plan) -> int:
    """Estimate the disk space of a whole run, from the size of the weights."""
    averages = 1 if plan.resolved.recipe.ema else 0
    # weights, the optimiser's two moments, the moving average
    copies_in_checkpoint = 3 + averages
    # two checkpoints are kept while a third is written; two best weights, and the finished file
    copies = 3 * copies_in_checkpoint + 3
    return disk_space.size_bytes(plan.model.state_dict()) * copies


def provenance(plan: Plan) -> dict[str, Any]:
    """Record what the steps of this run are made with; a run that goes on must be made with the
    same."""
    return made_with.about(plan.resolved.recipe, plan.base.alias, plan.data.classes)


def select_scores(plan: Plan, model: nn.Module) -> passes.Scores:
    """Score a model, with its present weights, on the select split."""
    by_class = plan.resolved.recipe.by_class
    return passes.scores_on(model, plan.data.of("select"), plan.source, by_class=by_class)


def probe_head(plan: Plan, events: Events) -> Resolved:
    """Fit the probe and put its weights into the model's head.

    Gives the recipe with the precision that was measured to be faster here.
    """
    began, resolved = perf_counter(), plan.resolved
    if head(plan.model) is None:
        return without_probe(plan)
    if resolved.why["features"] == NOT_MEASURED:
        measured = distributed.of_first(probe.faster_precision(plan.model, plan.source.pre.size))
        resolved = resolved.replace("measured on this machine", features=measured)
        # at once, so that a second start does not measure again
        write_recipe(plan.folder, resolved)
    fitted = probe.fit_head(
        plan.model,
        plan.data.of("train"),
        plan.source,
        classes=len(plan.data.classes),
        precision=resolved.recipe.features,
    )
    events.write(0, **{"probe/penalty": fitted.penalty, "probe/seconds": perf_counter() - began})
    return resolved


def without_probe(plan: Plan) -> Resolved:
    """Give the recipe without a probe, for a base that has no head to fit; `UserError` if the probe
    is all that was asked for."""
    if plan.resolved.recipe.probe_only:
        raise UserError(
            f"--probe-only: {plan.base.alias} has no single linear head to fit. Remove "
            "--probe-only, or choose another base."
        )
    console.warn(
        f"{plan.base.alias} has no single linear head, so there is no probe and the head starts at "
        "random."
    )
    return plan.resolved.replace("this base has no single linear head", probe="off")


def write_recipe(folder: Path, resolved: Resolved) -> None:
    """Write recipe.json; of several processes, only rank 0 does."""
    if distributed.first():
        rundir.write_json(folder / rundir.RECIPE, resolved.to_json())


def print_recipe(resolved: Resolved, *, all_in: str = rundir.RECIPE) -> None:
    """Print each setting that was chosen or set by hand with its reason, then the names of the
    others. `all_in` says where all of them can be read."""
    console.say("recipe:")
    shown, folded = recipe_rows.parted(resolved.to_json())
    for name, row in shown.items():
        console.say(f"  {name.replace('_', '-'):<20} {row['value']!s:<12} {row['why']}")
    flags = ", ".join("--" + name.replace("_", "-") for name in folded)
    console.say(f"  {recipe_rows.folded_title(folded)}: {flags} ({all_in} has all)")
